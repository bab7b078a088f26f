"""The injection image: how its tree is laid out, and what starts in the injected program."""
