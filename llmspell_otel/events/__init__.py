"""Events: what happened, once, in order, to whoever asked."""
