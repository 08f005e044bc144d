"""Plane store: the control plane's database, its tables and its transactions."""
