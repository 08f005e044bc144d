"""vLLM: command line, environment, log and HTTP routes. Imports no version of vLLM."""
