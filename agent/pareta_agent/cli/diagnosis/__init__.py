"""Diagnosis: the facts that `doctor` reads and its findings."""
