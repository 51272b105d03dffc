"""TensorBoard's tab Gradients."""
