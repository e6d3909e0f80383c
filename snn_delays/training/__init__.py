"""Training: optimisers, schedules, the loop, checkpoints and tracking."""
