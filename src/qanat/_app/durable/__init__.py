"""Durable queues: stores that are opened by URL, their queues, and the workers that are fed by them."""
