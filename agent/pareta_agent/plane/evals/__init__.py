"""Evals: compare models on an org's own rows, by eval sets and eval runs, metered like any call."""
