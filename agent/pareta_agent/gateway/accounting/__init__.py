"""Accounting: reads the usage of an answer and calculates the charge."""
