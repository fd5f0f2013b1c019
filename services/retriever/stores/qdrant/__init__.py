"""A Qdrant server, through its own client over gRPC."""
