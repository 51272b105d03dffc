"""What a large Transformer would need, without having one: python -m benchmarks.plan.

Built and run on the meta device, which has shapes and no numbers. The bytes of the weights, of what a backward pass
keeps and of what FSDP2 sends are counted there; nothing here was trained on as many devices.
"""

import argparse

import torch
from torch import Tensor

from unvanish import Training, Transformer

GIB = 2**30
#: Bytes of a number: all is float32, what is gathered and scattered too, as ``hardware/fsdp2`` has it.
FLOAT = 4
#: Weights, gradients, and the two moments of Adam.
STATES = 4


def kept_bytes(model: Transformer, tokens: Tensor) -> int:
    """Bytes that the forward pass keeps for the backward pass in float32, the weights not counted."""
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor  # held, so that no other storage comes to its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(tokens)
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights)


def main() -> None:
    """Print memory and traffic of a device by how many share the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=18)
    parser.add_argument("--block", type=int, default=1024)
    parser.add_argument("--vocabulary", type=int, default=50_257)
    options = parser.parse_args()
    with torch.device("meta"):
        model = Transformer(
            (options.block,),
            options.vocabulary,
            options.width,
            options.layers,
            options.width // 64,
            vocabulary_size=options.vocabulary,
            tie_weights=True,
            training=Training(task="next_token"),
        )
        tokens = torch.zeros(1, options.block, dtype=torch.long)
        kept = kept_bytes(model, tokens)
    weights = sum(parameter.numel() for parameter in model.parameters())
    block = sum(parameter.numel() for parameter in model.blocks[0].parameters())
    print(f"{weights / 1e9:.2f} billion weights, {options.layers} blocks of {block / 1e6:.0f} million; a text of")
    print(f"{options.block} tokens keeps {kept / GIB:.1f} GiB for the backward pass\n")
    print("| devices | states, GiB a device | two blocks gathered, GiB | sent a step, GiB a device |")
    print("|---|---|---|---|")
    for devices in (1, 2, 4, 8, 16, 64):
        # Gathered for the forward pass and again for the backward one, and the gradients are scattered.
        traffic = 3 * weights * FLOAT * (devices - 1) / devices
        states, gathered = STATES * weights * FLOAT / devices, 2 * block * FLOAT * (devices > 1)
        print(f"| {devices} | {states / GIB:.1f} | {gathered / GIB:.2f} | {traffic / GIB:.1f} |")


if __name__ == "__main__":
    main()
