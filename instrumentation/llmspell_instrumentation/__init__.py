"""Adapters: the join points of other libraries, one file per library."""
