"""What a recorder should find, by plain autograd and the formulas written out; nothing here comes from unvanish."""

import math
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

CONVOLUTIONS = nn.Conv1d | nn.Conv2d


def layers_of(model):
    found = defaultdict(list)
    attention = ""
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):  # uses the weight of the layer within it without calling that
            attention = name
        owner = attention if attention and name.startswith(f"{attention}.") else name
        found[owner] += [p for p in module.parameters(recurse=False) if p.dim() >= 2]
    return {name: weights for name, weights in found.items() if weights}


def root(tensors):
    return math.sqrt(sum(tensor.double().square().sum().item() for tensor in tensors))


def flat(tensors):
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


@dataclass
class Twin:
    """One step of a copy of a model, micro-batch by micro-batch; delta is the gradient of a zero added to each output.

    Args:
        model: The copy.
        parts: The micro-batches (x, y), whose losses are averaged.
    """

    model: nn.Module
    parts: list
    deltas: dict = field(default_factory=lambda: defaultdict(list))
    outputs: list = field(default_factory=list)
    gradients: list = field(default_factory=list)
    all_gradients: list = field(default_factory=list)

    def __post_init__(self):
        self.layers = layers_of(self.model)
        self.weight_norms = {name: root(weights) for name, weights in self.layers.items()}
        for name, module in self.model.named_modules():
            module.register_forward_hook(lambda _, i, output, name=name: self.see(name, output))
        for x, y in self.parts:
            self.probes = defaultdict(list)
            self.outputs.append(defaultdict(list))
            loss = F.cross_entropy(self.model(x), y) / len(self.parts)
            probes = [(name, probe) for name, found in self.probes.items() for probe in found]
            weights = [(name, w) for name, found in self.layers.items() for w in found if w.requires_grad]
            inputs = [tensor for _, tensor in [*probes, *weights]]
            others = [p for p in self.model.parameters() if p.requires_grad]
            whole = torch.autograd.grad(loss, others, allow_unused=True, retain_graph=True)
            self.all_gradients.append([g for g in whole if g is not None])
            found = torch.autograd.grad(loss, inputs, allow_unused=True)
            for (name, _), delta in zip(probes, found, strict=False):
                if delta is not None:
                    self.deltas[name].append(delta)
            gradients = defaultdict(list)
            for (name, _), gradient in zip(weights, found[len(probes) :], strict=True):
                if gradient is not None:
                    gradients[name].append(gradient)
            self.gradients.append(gradients)

    def see(self, name, output):
        z, *rest = output if isinstance(output, tuple) else (output,)
        if name in self.layers:
            probe = torch.zeros_like(z, requires_grad=True)
            self.probes[name].append(probe)
            z = z + probe
        self.outputs[-1][name].append(z.detach().clone())
        return (z, *rest) if rest else z

    @property
    def gradient(self):
        """dL/dW of the whole batch, by layer."""
        return {
            name: [sum(g) for g in zip(*(found[name] for found in self.gradients), strict=True)]
            for name in self.gradients[0]
        }

    def values(self, activations):
        """What the backward pass shows.

        Args:
            activations: By layer the kind of what follows it, and where that is found: a function of the layer's
                output, the name of a module, or a function of the outputs of all modules in one pass.
        """
        found = defaultdict(dict)
        for name, gradients in self.gradient.items():
            found["weight_norm"][name] = self.weight_norms[name]
            found["gain"][name] = self.weight_norms[name] / math.sqrt(len(self.layers[name][0]))
            found["gradient_norm"][name] = root(gradients)
            found["gradient_rms"][name] = math.sqrt(flat(gradients).square().mean().item())
        for name, deltas in self.deltas.items():
            found["delta_norm"][name] = root(deltas)
            found["delta_rms"][name] = math.sqrt(flat(deltas).square().mean().item())
            kind, source = activations[name]
            tensors = [tensor for outputs in self.outputs for tensor in followed(outputs, name, source)]
            a = flat(tensors)
            found["activation_mean"][name] = a.mean().item()
            found["activation_std"][name] = a.std(unbiased=False).item()
            if kind == "identity":
                apart = [(t - t.mean(0)).square().sum() for t in tensors]
                found["spread"][name] = (sum(apart) / a.square().sum()).sqrt().item()
            if kind == "tanh":
                found["saturated_share"][name] = (a.abs() > 0.99).double().mean().item()
            if kind == "sigmoid":
                found["saturated_share"][name] = ((a < 0.01) | (a > 0.99)).double().mean().item()
            if kind == "relu":
                units = 1 if isinstance(self.model.get_submodule(name), CONVOLUTIONS) else -1
                rows = [tensor.transpose(0, units).flatten(1) for tensor in tensors]
                found["dead_share"][name] = (torch.cat(rows, 1) <= 0).all(1).double().mean().item()
        return dict(found)

    def initial(self):
        """What the weights show before the first step: the share of those whose units, or inputs, are all alike."""
        return {
            name: {layer: alike(self.layers[layer], axis) for layer in self.gradient}
            for name, axis in (("twin_units", 0), ("twin_inputs", 1))
        }

    @property
    def gradient_of_all(self):
        """The norm of the whole batch's gradient over all parameters, biases and gains among them."""
        return root([sum(found) for found in zip(*self.all_gradients, strict=True)])

    def noise(self):
        """tr(Sigma) and |G|^2 of McCandlish et al. (2018), appendix A.1, from the parts and the whole batch."""
        count, small = len(self.parts), len(self.parts[0][0])
        big = small * count
        g_small = [count * flat([g for layer in part.values() for g in layer]) for part in self.gradients]
        g_big = flat([g for layer in self.gradient.values() for g in layer])
        small_square = sum(g.square().sum().item() for g in g_small) / count
        big_square = g_big.square().sum().item()
        return {
            "noise_variance": (small_square - big_square) / (1 / small - 1 / big),
            "noise_batch": big,
            "noise_signal": (big * big_square - small * small_square) / (big - small),
        }


def followed(outputs, name, source):
    if isinstance(source, str):
        return outputs[source]
    if source.__name__ == "from_modules":
        return source(outputs)
    return [source(z) for z in outputs[name]]


def of_module(name, call):
    """The result of one of a module's calls in a pass."""

    def from_modules(outputs):
        return [outputs[name][call]]

    return from_modules


def cosine(before, after):
    a, b = flat(before), flat(after)
    return (a @ b / (a.norm() * b.norm())).item()


def alike(weights, axis):
    """The share of weights that have several units, or inputs, all of them with the same numbers."""
    return sum(w.unique(dim=axis).shape[axis] == 1 < w.shape[axis] for w in weights) / len(weights)


def octaves(tensor):
    """Counts by sign and octave, by numpy's own decomposition of floats."""
    values = tensor.detach().to(torch.float32).numpy().ravel()
    sizes = np.abs(values)
    entries = np.frexp(sizes)[1].astype(int) - 1 + 127
    entries[sizes < 2.0**-126] = 0
    entries[~np.isfinite(sizes)] = 255
    return np.bincount(entries + 256 * np.signbit(values), minlength=512).tolist()


def state_gradients(module, x, loss):
    """|dL/dh_t|, of an LSTM |dL/d(h_t, c_t)|, at every t of the top sublayer, written out; x (T, B, d)."""
    kind = type(module).__name__

    def weights(level):
        return [getattr(module, f"{name}_l{level}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]

    def cell(level, x_t, h, c):
        w_ih, w_hh, b_ih, b_hh = weights(level)
        i, r = x_t @ w_ih.T + b_ih, h @ w_hh.T + b_hh
        if kind == "RNN":
            return getattr(torch, module.nonlinearity)(i + r), c
        if kind == "LSTM":
            i, f, g, o = (i + r).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            return o.sigmoid() * c.tanh(), c.clone()  # what goes on, apart from what h_t is made of
        (i_r, i_z, i_n), (h_r, h_z, h_n) = i.chunk(3, -1), r.chunk(3, -1)
        z = (i_z + h_z).sigmoid()
        return (1 - z) * (i_n + (i_r + h_r).sigmoid() * h_n).tanh() + z * h, c

    zero = x.new_zeros(x.shape[1], module.hidden_size)
    h, c = [zero] * module.num_layers, [zero] * module.num_layers
    top, cells = [], []
    for x_t in x:
        below = x_t
        for level in range(module.num_layers):
            h[level], c[level] = cell(level, below, h[level], c[level])
            below = h[level]
        top.append(below)
        cells.append(c[-1])
    y = torch.stack(top)
    states = [top, cells] if kind == "LSTM" else [top]
    value = loss(y, torch.stack(h), torch.stack(c))
    found = [torch.autograd.grad(value, parts, materialize_grads=True, retain_graph=True) for parts in states]
    return [root(gradients) for gradients in zip(*found, strict=True)]
