"""Manifests for Kubernetes; what the Operator needs inline is rendered from the shipped files."""
