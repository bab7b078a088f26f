"""Where the journal keeps events: a log of blocks, and a database to ask."""
