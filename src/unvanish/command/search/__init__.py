"""A search for the best values of a recipe's keys."""
