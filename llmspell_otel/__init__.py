"""See and steer every call of your AI agents."""
