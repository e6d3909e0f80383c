"""Formats of recordings on the disk, as Tonic datasets: files of spikes, folders of words."""
