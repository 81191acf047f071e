"""Benchmarks of Agora and two comparable servers: `python -m benchmarks --help`."""
