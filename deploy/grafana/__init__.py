"""Dashboards as code: tables of panels, rendered to the JSON that Grafana provisions."""
