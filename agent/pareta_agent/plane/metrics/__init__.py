"""Plane metrics: usage and latency of endpoints over time."""
