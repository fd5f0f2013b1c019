"""One section for each engine that a worker can run."""
