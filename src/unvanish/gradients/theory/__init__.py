"""The gradients that mean-field theory predicts, and the detection of networks that the theory covers."""

from unvanish.gradients.theory.chain import Chain, ChainProbe
from unvanish.gradients.theory.mean_field import MeanField, batchnorm_explosion, expected_factors, gain, mean_field

__all__ = ["Chain", "ChainProbe", "MeanField", "batchnorm_explosion", "expected_factors", "gain", "mean_field"]
