"""What Agora costs, beside two other servers that do the same: `python -m benchmarks --help`."""
