"""Comparing models on an org's own rows: sets, runs, and the work between them, metered like any call."""
