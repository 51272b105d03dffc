import math

import pytest
import torch
from torch import nn

from unvanish.gradients import GradientRecorder
from unvanish.networks.recurrent import Recurrent
from unvanish.training import Regularization, Training

B, T, F, H, C, V = 3, 11, 5, 7, 2, 13
CELLS = [("rnn", "tanh"), ("rnn", "relu"), ("lstm", "tanh"), ("gru", "tanh")]
PADDING = 4
X = torch.linspace(-2, 3, B * T * F, dtype=torch.float64).sin().view(B, T, F)
TOKENS = torch.arange(B * T).square().remainder(V).view(B, T)
TOKENS[TOKENS == PADDING] = 1
LENGTHS = (11, 1, 6)
exact = {"rtol": 0, "atol": 1e-10}


def build(input_shape=(T, F), output_size=C, task="regression", dropout=0.0, **arguments):
    """A network in float64 whose weights follow one another as values of a sine."""
    training = Training(task=task, regularization=Regularization(dropout=dropout))
    model = Recurrent(input_shape, output_size, H, training=training, **arguments).double()
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            waves = torch.arange(parameter.numel(), dtype=torch.float64).mul(0.7).add(index).sin()
            parameter.copy_(0.4 * waves.view_as(parameter))
    return model


def recurrence(module, cell, activation, x, cells=None):
    """The states h_1..h_T as a list, for x (B, T, features), from a module's weights; ``cells`` takes an LSTM's c_t."""
    w_ih, w_hh = module.weight_ih_l0, module.weight_hh_l0
    b_ih, b_hh = module.bias_ih_l0, module.bias_hh_l0
    h = c = x.new_zeros(len(x), H)
    states = []
    for t in range(x.shape[1]):
        from_x = (x[:, t] @ w_ih.T + b_ih).split(H, dim=1)
        from_h = (h @ w_hh.T + b_hh).split(H, dim=1)
        if cell == "rnn":
            z = from_x[0] + from_h[0]
            h = z.tanh() if activation == "tanh" else z.clamp(min=0)
        elif cell == "lstm":
            i, f, g, o = (a + b for a, b in zip(from_x, from_h, strict=True))
            c = c / (1 + (-f).exp()) + g.tanh() / (1 + (-i).exp())
            h = c.tanh() / (1 + (-o).exp())
            c = c.clone()  # what goes on, apart from what h_t is made of
            if cells is not None:
                cells.append(c)
        else:
            r, z = (1 / (1 + (-a - b).exp()) for a, b in zip(from_x[:2], from_h[:2], strict=True))
            h = (1 - z) * (from_x[2] + r * from_h[2]).tanh() + z * h
        states.append(h)
    return states


def layer_by_hand(layer, cell, activation, x, normalization="none", residual=False):
    """(B, T, features) -> (B, T, O)."""
    h = torch.stack(recurrence(layer.recurrence, cell, activation, x), 1)
    if layer.reverse is not None:
        turned = recurrence(layer.reverse, cell, activation, x[:, list(range(x.shape[1]))[::-1]])
        h = torch.cat([h, torch.stack(turned[::-1], 1)], 2)
    if normalization == "layer":
        deviation = h - h.mean(2, keepdim=True)
        h = deviation / (deviation.square().mean(2, keepdim=True) + 1e-5).sqrt()
        h = h * layer.normalization.weight + layer.normalization.bias
    return h + x if residual else h


@pytest.mark.parametrize(("cell", "activation"), CELLS)
def test_the_answer_is_that_of_the_recurrence_written_out(cell, activation):
    model = build(cell=cell, activation=activation)
    h = recurrence(model.layers[0].recurrence, cell, activation, X)[-1]
    torch.testing.assert_close(model(X), h @ model.output.weight.T + model.output.bias, **exact)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("normalization", ["none", "layer"])
@pytest.mark.parametrize(("cell", "activation"), CELLS)
def test_stacked_layers_are_the_formula(cell, activation, normalization, residual, bidirectional):
    options = {"normalization": normalization, "residual": residual, "bidirectional": bidirectional}
    model = build(cell=cell, activation=activation, num_layers=3, **options)
    a = X
    for depth, layer in enumerate(model.layers):
        a = layer_by_hand(layer, cell, activation, a, normalization, residual and depth > 0)
    last = torch.cat([a[:, -1, :H], a[:, 0, H:]], 1)
    torch.testing.assert_close(model(X), last @ model.output.weight.T + model.output.bias, **exact)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"input_shape": (T, H)}, [True]),
        ({"input_shape": (T, F), "num_layers": 2}, [False, True]),
        ({"input_shape": (T, 2 * H), "num_layers": 2, "bidirectional": True}, [True, True]),
        ({"input_shape": (T,), "vocabulary_size": V}, [True]),
        ({"input_shape": (T,), "vocabulary_size": V, "embedding_dim": 5, "num_layers": 2}, [False, True]),
    ],
    ids=str,
)
def test_layers_are_residual_where_the_sizes_are_equal(options, expected):
    assert [layer.residual for layer in build(residual=True, **options).layers] == expected
    assert not any(layer.residual for layer in build(**options).layers)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_two_layers_in_both_directions_are_torch_s_own(kind):
    torch.manual_seed(7)
    cell = kind.__name__.lower()
    model = Recurrent((T, F), C, H, 2, cell, bidirectional=True, initialization="default").double()
    twin = kind(F, H, 2, bidirectional=True, batch_first=True).double()
    for depth, layer in enumerate(model.layers):
        for module, suffix in ((layer.recurrence, ""), (layer.reverse, "_reverse")):
            for name, parameter in module.named_parameters():
                getattr(twin, name.replace("l0", f"l{depth}{suffix}")).data.copy_(parameter.data)
    _, state = twin(X)
    h = state[0] if cell == "lstm" else state
    expected = torch.cat([h[-2], h[-1]], 1) @ model.output.weight.T + model.output.bias
    torch.testing.assert_close(model(X), expected, **exact)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize(("cell", "activation"), CELLS)
def test_a_padded_text_gives_what_it_gives_alone(cell, activation, bidirectional):
    options = {"cell": cell, "activation": activation, "bidirectional": bidirectional}
    model = build((T,), num_layers=2, vocabulary_size=V, padding_index=PADDING, normalization="layer", **options)
    padded = TOKENS.clone()
    for row, length in enumerate(LENGTHS):
        padded[row, length:] = PADDING
    logits = model(padded)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(logits[row : row + 1], model(TOKENS[row : row + 1, :length]), **exact)
        a = model.embedding.weight[TOKENS[row : row + 1, :length]]
        for layer in model.layers:
            a = layer_by_hand(layer, cell, activation, a, "layer")
        last = torch.cat([a[:, -1, :H], a[:, 0, H:]], 1)
        expected = last @ model.output.weight.T + model.output.bias
        torch.testing.assert_close(logits[row : row + 1], expected, **exact)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
def test_padding_gets_no_gradient_and_takes_none_away(bidirectional):
    def gradients(rows, widths):
        model = build((T,), num_layers=2, vocabulary_size=V, padding_index=PADDING, bidirectional=bidirectional)
        for row, width in zip(rows, widths, strict=True):
            x = torch.full((1, width), PADDING)
            x[0, : LENGTHS[row]] = TOKENS[row, : LENGTHS[row]]
            model(x).pow(2).sum().backward()
        return [parameter.grad for parameter in model.parameters()]

    padded, bare = gradients(range(B), [T] * B), gradients(range(B), LENGTHS)
    assert not padded[0][PADDING].any()
    assert padded[0].any()
    for found, expected in zip(padded, bare, strict=True):
        torch.testing.assert_close(found, expected, **exact)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
def test_the_padding_token_within_a_text_is_a_token_and_an_empty_text_one_of_it(bidirectional):
    model = build((T,), vocabulary_size=V, padding_index=PADDING, bidirectional=bidirectional)
    x = torch.tensor([[5, PADDING, 6, PADDING, PADDING], [PADDING] * 5])
    plain = build((T,), vocabulary_size=V, bidirectional=bidirectional)
    torch.testing.assert_close(model(x)[:1], plain(x[:1, :3]), **exact)
    torch.testing.assert_close(model(x)[1:], plain(x[1:, :1]), **exact)


@pytest.mark.parametrize(
    ("task", "outputs", "shape"),
    [("binary", 1, (B,)), ("multiclass", 3, (B, 3)), ("regression", 1, (B, 1)), ("regression", 2, (B, 2))],
)
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
def test_logits_have_the_shape_of_the_task(task, outputs, shape, bidirectional):
    series = build(output_size=outputs, task=task, bidirectional=bidirectional)
    options = {"vocabulary_size": V, "padding_index": PADDING, "embedding_dim": 3, "bidirectional": bidirectional}
    text = build((T,), outputs, task, **options)
    for model, x in ((series, X), (text, TOKENS)):
        assert model(x).shape == shape
        assert model(x[:1]).shape == (1, *shape[1:])
        assert model(x[:, :3]).shape == shape


@pytest.mark.parametrize(("cell", "activation"), CELLS)
def test_next_tokens_are_read_from_every_step_and_never_from_later_ones(cell, activation):
    model = build((T,), V, "next_token", cell=cell, activation=activation, vocabulary_size=V, embedding_dim=5)
    h = torch.stack(recurrence(model.layers[0].recurrence, cell, activation, model.embedding.weight[TOKENS]), 1)
    logits = model(TOKENS)
    torch.testing.assert_close(logits, h @ model.output.weight.T + model.output.bias, **exact)
    changed = TOKENS.clone()
    changed[:, 5] = (changed[:, 5] + 1) % V
    differs = (model(changed) != logits).flatten(2).any(2).any(0)
    assert differs.tolist() == [False] * 5 + [True] * 6


@pytest.mark.parametrize("options", [{}, {"residual": True, "normalization": "layer"}], ids=str)
@pytest.mark.parametrize(("cell", "activation"), CELLS)
def test_a_text_in_pieces_gives_the_logits_of_the_whole(cell, activation, options):
    model = build((T,), V, "next_token", cell=cell, activation=activation, vocabulary_size=V, num_layers=2, **options)
    pieces, cache, caches = [], None, []
    for piece in TOKENS.split([1, 3, 1, 6], dim=1):
        logits, cache = model.extend(piece, cache)
        pieces.append(logits)
        caches.append(cache)
    torch.testing.assert_close(torch.cat(pieces, 1), model(TOKENS), **exact)
    again, _ = model.extend(TOKENS[:, 4:5], caches[1])
    torch.testing.assert_close(again, pieces[2], **exact)


def test_extend_is_for_next_tokens_alone():
    model = build((T,), task="multiclass", vocabulary_size=V)
    with pytest.raises(ValueError, match=r"^extend is for task next_token; this network's is multiclass$"):
        model.extend(TOKENS)


@pytest.mark.parametrize("normalization", ["none", "layer"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_dropout_stands_between_layers_and_before_the_output_alone(num_layers, normalization):
    model = build(num_layers=num_layers, normalization=normalization, dropout=0.5).train()
    inputs, outputs = [], []
    for layer in model.layers:
        layer.recurrence.register_forward_pre_hook(lambda _, x: inputs.append(x[0]))
        layer.normalization.register_forward_hook(lambda _, x, y: outputs.append(y))
    model.output.register_forward_pre_hook(lambda _, x: inputs.append(x[0]))
    torch.manual_seed(7)
    model(X)
    assert torch.equal(inputs[0], X)
    inputs[-1] = inputs[-1].unsqueeze(1)
    outputs[-1] = outputs[-1][:, -1:]
    for before, after in zip(outputs, inputs[1:], strict=True):
        kept = after != 0
        assert 0.2 < kept.double().mean() < 0.8
        torch.testing.assert_close(after, torch.where(kept, 2 * before, 0), **exact)
    plain = build(num_layers=num_layers, normalization=normalization)
    assert torch.equal(model.eval()(X), plain.train()(X))


@pytest.mark.parametrize(
    ("cell", "bidirectional"), [("rnn", False), ("lstm", False), ("gru", False), ("lstm", True)], ids=str
)
def test_parameters_are_as_many_as_the_sizes_say(cell, bidirectional):
    gates, ways = {"rnn": 1, "lstm": 4, "gru": 3}[cell], 1 + bidirectional
    model = Recurrent((T,), C, H, 2, cell, bidirectional, embedding_dim=5, vocabulary_size=V, normalization="layer")
    layers = sum(ways * gates * H * (inputs + H + 2) + 2 * ways * H for inputs in (5, ways * H))
    assert sum(p.numel() for p in model.parameters()) == V * 5 + layers + (ways * H + 1) * C


def norms_through_time(model, x):
    with GradientRecorder(model) as recorder:
        model(x).pow(2).sum().backward()
        recorder.before_step(0)
    return recorder.flush()[0].through_time, recorder.notes


@pytest.mark.parametrize(("cell", "activation"), CELLS)
def test_the_recorder_sees_the_gradient_of_the_states_of_every_layer(cell, activation):
    model = build(cell=cell, activation=activation, num_layers=2, normalization="layer", residual=True)
    found, notes = norms_through_time(model, X)
    names = ["layers.0.recurrence", "layers.1.recurrence"]
    assert list(found) == names
    assert notes == []
    states, cells, a = {}, {name: [] for name in names}, X
    for depth, layer in enumerate(model.layers):
        states[names[depth]] = recurrence(layer.recurrence, cell, activation, a, cells[names[depth]])
        h = torch.stack(states[names[depth]], 1)
        a = nn.functional.layer_norm(h, (H,), layer.normalization.weight, layer.normalization.bias) + (
            a if depth else 0
        )
    loss = (a[:, -1] @ model.output.weight.T + model.output.bias).pow(2).sum()
    for name in names:
        parts = torch.autograd.grad(loss, [*states[name], *cells[name]], retain_graph=True, materialize_grads=True)
        expected = [torch.stack(parts[t::T]).norm().item() for t in range(T)]  # of h_t, and of an LSTM's cell
        assert set(found[name]) >= {1, T}
        assert found[name] == {t: pytest.approx(expected[t - 1], rel=1e-9) for t in found[name]}
        assert min(found[name].values()) > 0


def test_the_recorder_sees_both_directions_and_the_second_in_its_own_time():
    model = build((T,), bidirectional=True, cell="gru", vocabulary_size=V, padding_index=PADDING)
    x = TOKENS.clone()
    x[1:, 6:] = PADDING
    inputs = []
    model.layers[0].reverse.register_forward_pre_hook(lambda _, x: inputs.append(x[0]))
    found, notes = norms_through_time(model, x)
    assert list(found) == ["layers.0.recurrence", "layers.0.reverse"]
    assert notes == []
    layer, turned, loss, states = model.layers[0], x.clone(), 0, []
    for row, length in enumerate((11, 6, 6)):
        turned[row, :length] = x[row, :length].flip(0)
    assert torch.equal(inputs[0], model.embedding.weight[turned])
    for module, order, columns in ((layer.recurrence, x, slice(H)), (layer.reverse, turned, slice(H, None))):
        states.append(recurrence(module, "gru", "tanh", model.embedding.weight[order]))
        last = torch.stack([states[-1][length - 1][row] for row, length in enumerate((11, 6, 6))])
        loss = loss + last @ model.output.weight[:, columns].T
    loss = (loss + model.output.bias).pow(2).sum()
    for name, sequence in zip(found, states, strict=True):
        gradients = torch.autograd.grad(loss, sequence, retain_graph=True)
        # From the seventh step on one text of three is left, whose gradient stands for that of all.
        expected = [g.norm().item() * (1.0 if t <= 6 else math.sqrt(3)) for t, g in enumerate(gradients, 1)]
        assert found[name] == {t: pytest.approx(expected[t - 1], rel=1e-9) for t in found[name]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_half_the_precision_gives_half_the_digits(cell, dtype):
    model = build(cell=cell, num_layers=2, bidirectional=True)
    expected, model = model(X), model.to(dtype)
    logits = model(X.to(dtype))
    assert logits.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(logits.double(), expected, atol=tolerance, rtol=tolerance)
    logits.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
