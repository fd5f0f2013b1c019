"""What the retriever decides: names, chunk borders, filters, fusion, diversity. Values in, values out; no I/O."""
