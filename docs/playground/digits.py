"""Writes digits.bin: scikit-learn's 1,797 handwritten digits as bytes, for the playground.

    python docs/playground/digits.py

An image after the other, 64 bytes from 0 to 16, row by row; then 1,797 bytes, the labels. Source: E. Alpaydin and
C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998, CC BY 4.0; its test set, as
`sklearn.datasets.load_digits` brings it.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

PATH = Path(__file__).with_name("digits.bin")


def content() -> bytes:
    """What digits.bin holds."""
    digits = load_digits()
    return digits.data.astype(np.uint8).tobytes() + digits.target.astype(np.uint8).tobytes()


if __name__ == "__main__":
    PATH.write_bytes(content())
