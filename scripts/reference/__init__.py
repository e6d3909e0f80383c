"""The oracle: the paper's network from other people's parts, for tests and benchmarks."""
