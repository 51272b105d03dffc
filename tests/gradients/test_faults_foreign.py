"""What else is done with a model inside the context: copies, files, transforms, other kinds of tensors and weights."""

import copy
import io
import pickle

import pytest
import torch
from autograd_twin import root
from torch import nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import unvanish
from unvanish.gradients import GradientRecorder
from unvanish.gradients.hooks import Watch

SAMPLES, INPUTS, CLASSES = 11, 5, 3
X, Y = torch.linspace(-1, 1, SAMPLES * INPUTS).view(SAMPLES, INPUTS), torch.arange(SAMPLES) % CLASSES


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(INPUTS, 7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, CLASSES))


def saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    torch.load(file, weights_only=False)(X).sum().backward()


def exported(model):
    program = torch.export.export(model, (X,))
    assert "Tap" not in program.graph_module.code
    program.module()(X)


def per_sample(model):
    def loss(parameters, x, y):
        return F.cross_entropy(functional_call(model, parameters, (x[None],)), y[None])

    vmap(grad(loss), (None, 0, 0))(dict(model.named_parameters()), X, Y)


def batched_gradients(model):
    x = X.clone().requires_grad_()
    torch.autograd.grad(model(x), x, torch.eye(CLASSES)[:, None].expand(-1, SAMPLES, -1), is_grads_batched=True)


def batched_by_hand(model):
    x = X.clone().requires_grad_()
    z = model(x)
    vmap(lambda v: torch.autograd.grad(z, x, v)[0])(torch.eye(CLASSES)[:, None].expand(-1, SAMPLES, -1))


def forward_mode(model):
    with torch.autograd.forward_ad.dual_level():
        model(torch.autograd.forward_ad.make_dual(X, X))


BESIDE = {
    "torch.save": saved,
    "torch.save of a layer": lambda model: torch.save(model[0], io.BytesIO()),
    "torch.save of the weights": lambda model: torch.save(model.state_dict(), io.BytesIO()),
    "pickle": lambda model: pickle.loads(pickle.dumps(model))(X).sum().backward(),
    "deepcopy": lambda model: copy.deepcopy(model)(X).sum().backward(),
    "deepcopy of a layer": lambda model: copy.deepcopy(model[0])(X).sum().backward(),
    "average of weights": lambda model: torch.optim.swa_utils.AveragedModel(model).update_parameters(model),
    "trace": lambda model: torch.jit.trace(model, X, check_trace=False),
    "export": exported,
    "vmap of grad": per_sample,
    "vmap": lambda model: vmap(model)(X),
    "hessian": lambda model: hessian(lambda x: model(x).sum())(X[0]),
    "jacrev": lambda model: jacrev(model)(X[0]),
    "jacfwd": lambda model: jacfwd(model)(X[0]),
    "jvp": lambda model: jvp(model, (X,), (X,)),
    "vjp": lambda model: vjp(model, X)[1](torch.ones(SAMPLES, CLASSES)),
    "many gradients at once": batched_gradients,
    "many gradients by hand": batched_by_hand,
    "forward mode": forward_mode,
    "no_grad": lambda model: torch.no_grad()(model)(X),
    "inference_mode": lambda model: torch.inference_mode()(model)(X),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, of what it is asked to do here
@pytest.mark.parametrize("when", [0, 1, 2, 3])
@pytest.mark.parametrize("beside", BESIDE)
def test_what_is_done_beside_changes_no_number(beside, when):
    def run(disturb):
        model = mlp()
        with GradientRecorder(model, every_n_steps=1) as recorder:
            for step in range(2):
                moments = iter(range(4))

                def now():
                    if next(moments) == when:  # noqa: B023
                        disturb(model)

                model.zero_grad()
                now()
                logits = model(X)
                now()
                F.cross_entropy(logits, Y).backward()
                now()
                recorder.before_step(step)
                now()
        return [(record.values, record.trunks) for record in recorder.flush()], recorder.notes

    assert run(BESIDE[beside]) == run(lambda model: None)


def test_a_copy_carries_no_recorder():
    model = mlp()
    with GradientRecorder(model):
        model(X)
        for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            hooks = [hook for module in copied.modules() for hook in module._forward_hooks.values()]
            assert not any(isinstance(getattr(hook, "__self__", hook), Watch) for hook in hooks)
            assert len(pickle.dumps(copied)) < 1.2 * len(pickle.dumps(mlp())) + 2000


def test_a_layer_that_a_transform_alone_runs_is_said():
    model = mlp()
    with GradientRecorder(model) as recorder:
        loss = vmap(lambda x: model(x).sum())(X).sum()
        loss.backward()
        recorder.before_step(0)
    values = recorder.flush()[0].values
    assert values["gradient_norm"]["0"] == pytest.approx(root([model[0].weight.grad]))
    assert recorder.notes == ["delta of 0, 2, 4 was not measured: it was run by a transform of torch.func"]


def test_what_functional_call_runs_is_measured():
    model = mlp()
    with GradientRecorder(model) as recorder:
        weights = {name: 2 * parameter for name, parameter in model.named_parameters()}
        F.cross_entropy(functional_call(model, weights, (X,)), Y).backward()
        recorder.before_step(0)
    (record,) = recorder.flush()
    assert [*record.values["delta_norm"]] == ["0", "2", "4"]
    assert record.values["gradient_norm"]["0"] == pytest.approx(root([model[0].weight.grad]))


class Conjugate(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.enter = nn.Linear(INPUTS, 7, dtype=torch.cfloat)
        self.weight = nn.Parameter(torch.randn(7, CLASSES, dtype=torch.cfloat))

    def forward(self, x):
        return (self.enter(x.to(torch.cfloat)) @ self.weight.conj()).abs()


class Ragged(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.leave = nn.Linear(INPUTS, 7), nn.Linear(7, CLASSES)

    def forward(self, x):
        rows = torch.nested.nested_tensor([x[:5], x[5:]], layout=torch.jagged)
        return torch.cat(self.leave(self.enter(rows).relu()).unbind())


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.leave = nn.EmbeddingBag(9, 7, sparse=True), nn.Linear(7, CLASSES)

    def forward(self, x):
        return self.leave(self.enter((x.abs() * 8).long()))


def scripted():
    model = mlp()
    model[2] = torch.jit.script(nn.Sequential(model[2], nn.Tanh()))
    return model


def quantized():
    from torch.ao import quantization

    model = mlp().train()
    model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    return quantization.prepare_qat(model)


def with_weights(change):
    model = mlp()
    model[0], model[2] = change(model[0]), change(model[2])
    return model


KINDS = {
    "conjugate": Conjugate,
    "jagged": Ragged,
    "sparse bag": Bag,
    "a scripted part": scripted,
    "scripted": lambda: torch.jit.script(mlp()),
    "quantized": quantized,
    "weight_norm": lambda: with_weights(parametrizations.weight_norm),
    "spectral_norm": lambda: with_weights(parametrizations.spectral_norm),
    "orthogonal": lambda: with_weights(parametrizations.orthogonal),
    "old weight_norm": lambda: with_weights(nn.utils.weight_norm),
    "old spectral_norm": lambda: with_weights(nn.utils.spectral_norm),
    "data parallel": lambda: nn.DataParallel(mlp()),
    "double": lambda: mlp().double(),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_trains_as_without_a_recorder_and_its_gradients_are_those_of_torch(kind):
    def trained(is_recorded):
        model = KINDS[kind]()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x = X.to(next((p.dtype for p in model.parameters() if p.dtype == torch.float64), X.dtype))
        records, expected = [], []
        recorder = GradientRecorder(model, every_n_steps=1, histogram_every_n_steps=1)
        for step in range(3):
            optimizer.zero_grad()
            if is_recorded and step == 0:
                recorder.__enter__()
            F.cross_entropy(model(x), Y).backward()
            dense = [p.grad.to_dense() if p.grad.is_sparse else p.grad for p in model.parameters()]
            expected.append(torch.stack([torch.linalg.vector_norm(g).double() for g in dense]).norm().item())
            if is_recorded:
                recorder.before_step(step)
            optimizer.step()
            if is_recorded:
                recorder.after_step()
        if is_recorded:
            records = recorder.flush()
            recorder.__exit__(None, None, None)
        return [p.detach() for p in model.parameters()], records, expected, recorder

    weights, records, expected, recorder = trained(is_recorded=True)
    assert all(torch.equal(mine, other) for mine, other in zip(weights, trained(is_recorded=False)[0], strict=True))
    assert [record.totals["gradient_norm"] for record in records] == pytest.approx(expected, rel=1e-5)
    with_delta = records[0].values.get("delta_norm", {})
    silent = [name for name in records[0].values["gradient_norm"] if name not in with_delta]
    assert all(any(name in note for note in recorder.notes) for name in silent)
    assert all("update_ratio" in record.values for record in records)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "norm" in kind or kind == "orthogonal"])
def test_a_diagnosis_leaves_a_model_as_it_was(kind):
    model = nn.Sequential(KINDS[kind](), nn.BatchNorm1d(CLASSES), nn.Dropout(0.3)).eval()
    model[2].train()
    F.cross_entropy(model(X), Y).backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = {p: (p.grad, p.grad.clone()) for p in model.parameters()}
    state, modes = torch.get_rng_state(), [module.training for module in model.modules()]
    unvanish.diagnose(model, (X, Y), F.cross_entropy)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is kept and torch.equal(kept, value) for p, (kept, value) in gradients.items())


@pytest.mark.hooks_may_fail
def test_an_error_in_a_hook_ends_nothing_and_is_said(monkeypatch):
    def fail(self, *arguments):
        raise RuntimeError("no\nsecond line")

    model, optimizer = mlp(), None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(3):
            if step == 1:
                monkeypatch.setattr(Watch, "_see_delta", fail)
            optimizer.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            recorder.before_step(step)
            optimizer.step()
            recorder.after_step()
    records = recorder.flush()
    assert [len(record.values["gradient_norm"]) for record in records] == [3, 3, 3]
    assert ["update_ratio" in record.values for record in records] == [True, False, False]
    assert any("a hook failed and all are gone (RuntimeError: no)" in note for note in recorder.notes)


# A parameter of the top module


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.cls = nn.Parameter(torch.randn(1, 1, 8))
        self.query = nn.Parameter(torch.randn(CLASSES, 8))
        self.positions = nn.Parameter(torch.randn(1, 12, 8))
        self.patches, self.head = nn.Linear(INPUTS, 8), nn.Linear(8, CLASSES)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

    def forward(self, x, y):
        h = torch.cat([self.cls, self.patches(x)[None]], 1) + self.positions
        for block in self.blocks:
            h = h + block(h).tanh()
        weights = (h @ self.query.T).softmax(1)
        logits = self.head((weights.transpose(1, 2) @ h)[0])
        return {"loss": F.cross_entropy(logits, y), "logits": logits}


def test_the_top_module_s_own_parameters_have_their_names_and_places_and_no_delta():
    model = Tokens()
    with GradientRecorder(model) as recorder:
        model(X, torch.arange(CLASSES))["loss"].backward()
        recorder.before_step(0)
        assert recorder
    (record,) = recorder.flush()
    layers = ["patches", "positions", "cls", "blocks.0", "blocks.1", "query", "head"]
    assert sorted(recorder.layers[:3]) == sorted(layers[:3])
    assert recorder.layers[3:] == layers[3:]
    assert recorder.layers[0] == "patches"
    expected = {n.removesuffix(".weight"): root([p.grad]) for n, p in model.named_parameters() if p.dim() > 1}
    assert record.values["gradient_norm"] == pytest.approx(expected, rel=1e-5)
    assert [*record.values["delta_norm"]] == ["patches", "blocks.0", "blocks.1", "head"]
    (note,) = recorder.notes
    assert "it is a parameter of a module that holds layers as well" in note
