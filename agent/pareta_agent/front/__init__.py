"""Shims of release 0.1: names that a running 0.1 agent starts its children by. Removed in 0.3."""
