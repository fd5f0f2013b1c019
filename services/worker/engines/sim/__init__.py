"""A model of a GPU worker, for load tests, chaos tests and policy work. It computes no language."""
