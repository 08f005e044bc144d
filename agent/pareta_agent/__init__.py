"""The agent that runs on each GPU host of Pareta."""

__version__ = "0.2.0"
