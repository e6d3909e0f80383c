"""The products on spectra that the CPU trains with, compiled."""
