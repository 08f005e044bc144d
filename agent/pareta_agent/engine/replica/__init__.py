"""Replica: one engine's single life, from fetch to end."""
