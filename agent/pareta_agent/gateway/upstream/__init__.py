"""Upstream: connections to engines, and the relay of answers."""
