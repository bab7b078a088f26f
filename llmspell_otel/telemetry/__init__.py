"""Telemetry: events become spans, log records and metrics."""
