"""What each formula is held to: a function of its name, which takes the formula and raises where it differs.

The tests hold the package's formulas to these proofs, the exercises a reader's.
"""
