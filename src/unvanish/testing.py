"""The contract of an architecture, to hold our networks and yours to: ``check_architecture``."""

import inspect
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from unvanish.specimen import ContractError, Specimen, gradients, require, same, undisturbed
from unvanish.training import ReferenceModule, Training
from unvanish.trust import first_line


def check_architecture(
    network: type[ReferenceModule],
    *,
    input_shape: tuple[int, ...],
    output_size: int,
    task: str = "multiclass",
    vocabulary_size: int | None = None,
    padding_index: int | None = None,
    **arguments: Any,
) -> None:
    """Hold a network to what the commands rely on; return quietly where all is well.

    Args:
        network: The class.
        input_shape: Axes of one sample: of normal random numbers, or of random tokens where there is a vocabulary.
        output_size: Number of outputs.
        task: binary, multiclass, regression or next_token.
        vocabulary_size: Number of tokens, where the input is tokens.
        padding_index: The token that fills a short sequence up, at its end.
        arguments: The network's own, ``training`` among them.

    Raises:
        ContractError: An AssertionError, of the first clause that is broken.
        ValueError: The network refuses its arguments.
    """
    arguments |= {"input_shape": input_shape, "output_size": output_size}
    arguments |= {"vocabulary_size": vocabulary_size, "padding_index": padding_index}
    arguments["training"] = replace(arguments.get("training", Training()), task=task)
    for _, broken in contract(network, arguments):
        if broken:
            raise broken


def contract(network: type[ReferenceModule], arguments: dict[str, Any]) -> Iterator[tuple[str, ContractError | None]]:
    """The name of each clause, and how the network breaks it, or None; a ValueError where it refuses its arguments."""
    it = Specimen.of(network, arguments)
    with undisturbed():
        it.build()
    for name, clause in _CLAUSES.items():
        if name == "causality" and it.training.task != "next_token":
            continue
        broken = None
        try:
            with undisturbed():
                clause(it)
        except ContractError as error:
            broken = error
        except Exception as error:  # whatever somebody's network raises
            broken = ContractError(f"the check of {name} ends in {first_line(error)}")
            broken.__cause__ = error
        yield name, broken


def _output_shape(it: Specimen) -> None:
    axes = () if it.y.is_floating_point() else (it.output_size,)
    for x, y in ((it.x, it.y), (it.x[:1], it.y[:1])):
        z, wanted = it.evaluate(it.build(), x), (*y.shape, *axes)
        require(isinstance(z, Tensor), f"forward returns {type(z).__name__}; it must be one tensor of logits")
        shapes = f"{tuple(z.shape)} for an input of {tuple(x.shape)}; task {it.training.task} wants {wanted}"
        require(z.shape == wanted, f"forward returns {shapes}")
        require(z.dtype == torch.float32, f"forward returns {z.dtype} where weights and input are float32")


def _logits(it: Specimen) -> None:
    wanted = "return logits, not probabilities: the loss applies"
    if it.training.task == "binary":
        negative = any(it.evaluate(it.build(seed)).min() < 0 for seed in range(8))
        require(negative, f"forward returns nothing below zero, whatever the seed: {wanted} the sigmoid")
    elif it.training.task != "regression":
        z = it.evaluate(it.build())
        sums = torch.allclose(z.sum(-1), torch.ones(()))
        require(not sums or z.min() < 0, f"forward returns numbers in (0, 1) that sum to one: {wanted} the softmax")


def _gradients(it: Specimen) -> None:
    model = it.build()
    it.backward(model)
    for name, weight in model.named_parameters():
        reached = weight.grad is not None or not weight.requires_grad
        require(reached, f"no gradient reaches {name}: forward leaves it out, or cuts the graph (detach, numpy, item)")
        require(weight.grad is None or weight.grad.isfinite().all(), f"the gradient of {name} is not finite")


def _arguments(it: Specimen) -> None:
    last = list(inspect.signature(it.network).parameters)[-1]
    require(last == "training", f"the last argument is {last}; let it be training, and no **kwargs that hide a typo")
    other = replace(it.training, optimizer=replace(it.training.optimizer, learning_rate=0.5))
    kept = it.build(changes={"training": other}).settings
    require(kept == other, "training is not handed on: call super().__init__(training)")


def _seeds(it: Specimen) -> None:
    one, again, other = (it.fingerprint(seed) for seed in (0, 0, 1))
    require(same(one, again), "one seed gives two networks: draw all random numbers by torch's own generator")
    require(not torch.equal(one, other), "another seed gives the same network: nothing of it is drawn at random")


def _repetition(it: Specimen) -> None:
    model, x = it.build(), it.x.clone()
    first = it.evaluate(model)
    model(x)
    require(torch.equal(x, it.x), "forward writes into its input")
    it.evaluate(model, it.other)
    again = same(first, it.evaluate(model))
    require(again, "the same batch gets another output in evaluation: forward draws random numbers, or keeps something")


def _independence(it: Specimen) -> None:
    last_differs = torch.cat([it.x[:-1], it.other[-1:]])
    for mode in ("evaluation", "training"):
        outputs = []
        for x in (it.x, last_differs):
            model = it.build().train(mode == "training")
            for module in model.modules():
                if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
                    module.eval()  # it alone may mix the samples of a batch
            outputs.append(it.backward(model, x)[:-1])
        require(same(*outputs), f"a sample changes the output of others in its batch, in {mode}")
    alone, among = (it.evaluate(it.build(), x)[:1] for x in (it.x[:1], it.x))
    require(same(alone, among), "a sample alone gets another output than in a batch")


def _causality(it: Specimen) -> None:
    others, length = (it.x + 1) % it.output_size, it.x.shape[1]
    for t in sorted({0, length // 2, length - 1}):
        here, after = it.x.clone(), it.x.clone()
        here[:, t], after[:, t + 1 :] = others[:, t], others[:, t + 1 :]
        for train in (True, False):
            z, z_here, z_after = (it.backward(it.build().train(train), x)[:, : t + 1] for x in (it.x, here, after))
            require(same(z, z_after), f"not causal: outputs up to token {t} change with the tokens behind it")
            require(not torch.equal(z[:, t], z_here[:, t]), f"the output at token {t} does not depend on that token")


def _state_dict(it: Specimen) -> None:
    model, loaded = it.build(), it.build(seed=1)
    it.backward(model)
    loaded.load_state_dict(model.state_dict())
    kept = same(it.evaluate(model), it.evaluate(loaded))
    require(kept, "the state dict does not hold all: what is drawn or learnt must be an nn.Parameter or a buffer")


def _checkpoint(it: Specimen) -> None:
    model = it.build()
    trainer = L.Trainer(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False)
    trainer.strategy.connect(model)
    model.trainer = trainer  # as in a run: the hooks of a checkpoint may ask it
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.ckpt"
        trainer.save_checkpoint(path)
        try:
            saved = torch.load(path, weights_only=True)["hyper_parameters"]
        except Exception as error:
            raise ContractError(
                f"a checkpoint does not load; is each argument a plain value? {first_line(error)}"
            ) from error
        for name, value in it.arguments.items():
            kept = saved.get(name, "nothing")
            require(kept == value, f"a checkpoint does not keep {name}: {value!r} goes in, {kept!r} comes out")
        loaded = it.network.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    require(same(it.evaluate(model), it.evaluate(loaded)), "a network from its checkpoint gives another output")


def _precision(it: Specimen) -> None:
    for dtype in (torch.float64, torch.bfloat16):
        try:
            z = it.backward(it.build().to(dtype), it.x.to(dtype) if it.x.is_floating_point() else it.x)
        except Exception as error:
            raise ContractError(f"a pass in {dtype} ends in {first_line(error)}") from error
        require(z.dtype == dtype, f"forward returns {z.dtype} in {dtype}: what it makes must have the input's dtype")
        require(z.isfinite().all(), f"forward returns what is not finite in {dtype}")


def _compile(it: Specimen) -> None:
    torch.compiler.reset()
    plain, compiled = it.build().eval(), it.build().eval()
    compiled.compile(backend="aot_eager")
    outputs = [torch.cat([t.flatten() for t in (it.backward(model), *gradients(model))]) for model in (plain, compiled)]
    require(same(*outputs), "torch.compile changes the output or the gradient")


def _dropout(it: Specimen) -> None:
    shares = [replace(it.training.regularization, dropout=share) for share in (0.0, 0.5)]
    without, dropping = ({"training": replace(it.training, regularization=share)} for share in shares)
    try:
        it.build(changes=dropping)
    except ValueError:
        return
    trained = [it.backward(it.build(changes=changes)) for changes in (without, dropping)]
    require(not torch.equal(*trained), "dropout changes no output in training: use it, or refuse it by ValueError")
    evaluated = [it.evaluate(it.build(changes=changes)) for changes in (without, dropping)]
    require(same(*evaluated), "dropout acts in evaluation as well")


def _options(it: Specimen) -> None:
    for name in it.options:
        seen: list[tuple[Any, Tensor]] = []
        for value in it.values(name):
            try:
                vector = it.fingerprint(changes={name: value})
            except ValueError:
                continue
            except Exception as error:
                require(
                    not isinstance(value, bool | str), f"{name}={value!r} ends in {first_line(error)}, not ValueError"
                )
                continue  # a size that does not fit the others
            if value in (None, "auto", "default"):  # which may be what another value is
                continue
            for other, twin in seen:
                what = (
                    f"{name}={value!r} makes the same network as {name}={other!r}: use it, or refuse it by ValueError"
                )
                if torch.equal(vector, twin):  # in float32, tanh(z) is z where z is small
                    precise = [it.fingerprint(changes={name: choice}, precise=True) for choice in (value, other)]
                    require(not torch.equal(*precise), what)
            seen.append((value, vector))


#: In this order: what is broken first is said in its own words.
_CLAUSES = {
    clause.__name__[1:].replace("_", " "): clause
    for clause in (
        _output_shape,
        _logits,
        _gradients,
        _arguments,
        _seeds,
        _repetition,
        _independence,
        _causality,
        _state_dict,
        _checkpoint,
        _precision,
        _compile,
        _dropout,
        _options,
    )
}
