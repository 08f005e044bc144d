"""Catalog: follows or reads the node's catalog, and finds where the catalog lies."""
