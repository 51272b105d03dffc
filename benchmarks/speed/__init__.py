"""How fast this is beside what a user would run instead: python -m benchmarks.speed writes benchmarks/RESULTS.md."""
