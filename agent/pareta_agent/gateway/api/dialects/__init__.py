"""Dialects: the request and stream formats of OpenAI and Anthropic routes."""
