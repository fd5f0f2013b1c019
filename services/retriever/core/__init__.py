"""What the retriever decides: names, chunk borders, fusion. Values in, values out; no I/O."""
