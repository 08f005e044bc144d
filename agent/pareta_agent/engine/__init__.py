"""Engines: supervises vLLM processes, from the start of a replica to its end."""
