"""Accounting: reads the usage of an answer and charges for it."""
