"""Downstream: callers' HTTP connections."""
