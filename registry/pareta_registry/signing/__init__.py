"""Signing: signatures of documents and artifacts."""
