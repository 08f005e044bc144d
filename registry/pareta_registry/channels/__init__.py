"""Channels: published catalogs, followed by nodes."""
