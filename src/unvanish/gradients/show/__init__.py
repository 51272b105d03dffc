"""Shows what was measured: TensorBoard's events, pictures, files, other loggers."""
