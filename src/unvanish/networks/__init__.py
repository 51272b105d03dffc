"""The network families."""

from unvanish.networks.mlp import MLP

__all__ = ["MLP"]
