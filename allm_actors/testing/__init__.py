"""Scripts, strategies, suites and a simulated host, shipped for those who test with this library."""
