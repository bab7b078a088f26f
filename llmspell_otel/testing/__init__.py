"""A kit for testing agents without a provider."""
