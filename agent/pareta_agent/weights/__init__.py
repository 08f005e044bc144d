"""Weights: fetches artifacts to this host, verifies every byte, and evicts artifacts for space."""
