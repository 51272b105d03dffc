"""The primer's formulas, to be written by the reader and held to the same proofs."""

from unvanish.exercises.chapters import EXERCISES, Exercise, find
from unvanish.exercises.checking import Result, check

__all__ = ["EXERCISES", "Exercise", "Result", "check", "find"]
