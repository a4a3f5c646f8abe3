"""Durable queues: the ports that every store has, their values, and the rules that all apply alike."""
