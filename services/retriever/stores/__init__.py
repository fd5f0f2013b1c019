"""Where passages are kept and found: Qdrant, embedded in a child process of its own."""
