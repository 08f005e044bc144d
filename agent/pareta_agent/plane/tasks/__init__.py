"""Plane tasks: matches a description to a task, and ranks a task's models."""
