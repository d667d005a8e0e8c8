"""Pictures from arrays: numpy in, PNG out, no I/O."""
