"""Recordings as Tonic datasets, and the published files; only these modules import Tonic."""
