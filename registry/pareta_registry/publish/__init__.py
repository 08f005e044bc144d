"""Publish: uploads artifacts to an OCI registry or a bucket."""
