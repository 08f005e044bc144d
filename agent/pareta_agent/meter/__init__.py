"""Metering: usage records, the spool that stores usage records until delivery, and the usage audit."""
