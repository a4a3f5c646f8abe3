"""Where durable jobs live, and the journal: plain synchronous code, one driver each, no threads."""
