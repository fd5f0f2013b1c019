"""Qdrant embedded: every index in a process of its own, with a log on disk."""
