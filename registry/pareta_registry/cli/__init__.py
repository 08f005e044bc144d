"""Command line of the registry."""
