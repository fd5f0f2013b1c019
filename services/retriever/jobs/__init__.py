"""Ingest jobs and what they keep on disk: the journal, the quarantine and the signatures of documents."""
