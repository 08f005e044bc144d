"""Deployment: plans, places and starts the endpoints that the control plane requests."""
