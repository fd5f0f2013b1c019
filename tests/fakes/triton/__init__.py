"""A real Triton server with a real model for tests."""
