"""Artifacts: manifests of files, addressed by digest."""
