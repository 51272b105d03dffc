"""What a recorder should find, by plain autograd and without a hook on any tensor."""

import copy
import math
from collections import defaultdict

import torch
from torch.nn import functional as F


def layers_of(model):
    named = (
        (name, [p for p in module.parameters(recurse=False) if p.dim() >= 2]) for name, module in model.named_modules()
    )
    return {name: weights for name, weights in named if weights}


def root(tensors):
    return math.sqrt(sum(tensor.double().square().sum().item() for tensor in tensors))


def twin(model, micro_batches):
    """What should be found, by plain autograd in a copy: delta is the gradient of a zero added to each output."""
    model = copy.deepcopy(model)
    probes = defaultdict(list)

    def add_zero(name, output):
        z, *rest = output if isinstance(output, tuple) else (output,)
        probes[name].append(torch.zeros_like(z, requires_grad=True))
        z = z + probes[name][-1]
        return (z, *rest) if rest else z

    for name in layers_of(model):
        model.get_submodule(name).register_forward_hook(lambda m, i, o, name=name: add_zero(name, o))
    loss = sum(F.cross_entropy(model(x), y) for x, y in micro_batches) / len(micro_batches)
    inputs = [probe for layer in probes.values() for probe in layer] + list(model.parameters())
    gradients = dict(zip(inputs, torch.autograd.grad(loss, inputs, allow_unused=True), strict=True))
    deltas = {name: [gradients[probe] for probe in layer] for name, layer in probes.items()}
    weights = {name: [gradients[w] for w in found] for name, found in layers_of(model).items()}
    return {
        "delta_norm": {name: root(layer) for name, layer in deltas.items()},
        "delta_rms": {n: root(layer) / math.sqrt(sum(d.numel() for d in layer)) for n, layer in deltas.items()},
        "gradient_norm": {name: root(found) for name, found in weights.items() if found[0] is not None},
    }
