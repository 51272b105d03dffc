"""The recorder in the training loops of others: Lightning, Hugging Face."""
