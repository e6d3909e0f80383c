"""State of a process: what computes here, and what it keeps."""
