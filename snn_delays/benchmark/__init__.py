"""Suites: experiments x seeds, trained, tabulated and compared in pairs."""
