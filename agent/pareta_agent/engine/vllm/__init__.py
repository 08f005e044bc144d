"""vLLM: its command line, environment, log and HTTP routes. Imports no version of it."""
