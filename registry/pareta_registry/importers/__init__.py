"""Importers: checkpoints in other formats to artifacts and model documents."""
