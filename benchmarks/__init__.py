"""Benchmarks: each runs alone as `python -m benchmarks.<name>`, all of them as `python -m benchmarks.run`."""
