"""Telemetry: events, the log, metrics, and their sinks."""
