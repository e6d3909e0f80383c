"""Data: files of spikes through Tonic, frames, splits and batches."""
