"""A control plane in a box."""
