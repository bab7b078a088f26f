"""Hooks: look at a moment of a call and say what should happen next."""
