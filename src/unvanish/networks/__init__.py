"""The network families."""

from unvanish.networks.cnn import CNN
from unvanish.networks.compact_cnn import CompactCNN
from unvanish.networks.generation import generate
from unvanish.networks.mlp import MLP
from unvanish.networks.recurrent import Recurrent
from unvanish.networks.transformer import Transformer
from unvanish.networks.wrap import Wrap

__all__ = ["CNN", "MLP", "CompactCNN", "Recurrent", "Transformer", "Wrap", "generate"]
