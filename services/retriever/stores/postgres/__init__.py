"""Postgres with pgvector: each collection in a partition of its own, BM25 over postings."""
