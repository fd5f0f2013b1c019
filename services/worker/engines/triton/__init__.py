"""A model on a Triton server, through its gRPC client; Triton runs elsewhere and is not started here."""
