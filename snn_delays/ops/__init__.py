"""Functions of tensors: torch alone, no modules, no state."""
