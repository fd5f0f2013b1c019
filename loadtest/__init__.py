"""Benchmarks and load generators. They start what they measure, on loopback, and stop it."""
