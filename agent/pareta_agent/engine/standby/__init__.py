"""Standby: processes that have imported vLLM before a start needs a process."""
