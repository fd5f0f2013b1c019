"""Changes of the tables, one after the other; run at the start, under a lock."""
