"""Exporters: where telemetry goes."""
