"""Engines: supervises vLLM processes, from a replica's start to its end."""
