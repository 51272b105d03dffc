"""Variants of a recipe, or runs that are there already, side by side."""
