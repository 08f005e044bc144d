"""Node agent: plans, runs and supervises vLLM on one host, serves its endpoints, and meters each call."""

__version__ = "0.2.0"
