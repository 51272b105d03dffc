"""Every equation of the primer as a short function: torch tensors, no autograd, no torch.nn."""
