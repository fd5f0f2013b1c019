"""Clients of the embedder: a pool of replicas that serve the same model."""
