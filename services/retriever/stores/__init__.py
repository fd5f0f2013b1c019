"""Stores behind one port: Qdrant embedded, a Qdrant server, Postgres with pgvector."""
