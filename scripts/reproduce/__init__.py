"""Scripts that reproduce the published tables, and estimate the cost of doing so."""
