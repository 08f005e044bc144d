"""How vLLM is spoken to: its command line, its environment, its log. Pure; no version of it is imported."""
