"""Recordings as Tonic datasets, and the published files: the one place that imports Tonic."""
