"""Plane API: the routes of the control plane."""
