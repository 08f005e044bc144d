"""Admission control: selects a replica, applies limits, reserves credit, or queues a request."""
