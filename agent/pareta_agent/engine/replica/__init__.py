"""Replica: an engine's single life, from fetch to end."""
