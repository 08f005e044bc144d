"""Refusals: translates an engine's refusal into the error catalogue's words."""
