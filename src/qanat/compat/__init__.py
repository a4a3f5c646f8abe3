"""The calls of libraries that qanat takes the place of: one package for each, to change one import.

Each is thin: it turns the calls into those of `qanat` and has no engine, queue or timer of its own.
"""
