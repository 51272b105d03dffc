"""Any ``nn.Module``, trained as our own networks are: torchvision's, timm's or yours.

Shapes: B samples, C outputs, T tokens, V tokens in the vocabulary.
"""

import copy
from typing import Any, final

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from unvanish.bounds import PositiveInt
from unvanish.networks.pretrained import pretrained
from unvanish.training import ReferenceModule, Training
from unvanish.trust import build_module, first_line

#: Where torchvision's models, and many others, keep their last linear layer, or a sequence that it ends.
_HEADS = ("fc", "classifier", "heads.head", "head")
_BATCH = 2


@final
class Wrap(ReferenceModule):
    """Any module, with its head fitted to the data.

    The module's output for a batch of the data's shape decides: if it fits the task, nothing is changed. Otherwise
    the head becomes one of ``output_size`` outputs: by the module's own ``reset_classifier`` (timm), or by a new
    ``nn.Linear`` in place of the last one, in ``fc``, ``classifier``, ``heads.head`` or ``head`` (torchvision).

    Images of one channel are repeated to three, as is usual, where the first convolution wants three.

    Args:
        input_shape: Axes of one sample.
        output_size: Number of outputs: classes, regression targets, tokens, or 1 for a binary task.
        module: Dotted path of a class, or of a function that builds the module: torchvision.models.resnet18,
            timm.create_model, or of a module that is trusted (see ``unvanish.trust``).
        arguments: What it is called with: {"model_name": "resnet10t"}. Plain values, as they go into a checkpoint.
        weights: The name of torchvision's weights for the module, such as IMAGENET1K_V1 or DEFAULT; they are downloaded
            unless torch's cache has them.
        vocabulary_size: V, if the input is tokens (B, T); the module itself is told through arguments.
        training: The shared training configuration. Dropout acts on what the head reads, beside the module's own.

    Raises:
        ValueError: the module cannot be built, does not accept the data, or returns what cannot be made to fit.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        output_size: PositiveInt,
        module: str,
        arguments: dict[str, Any] | None = None,
        weights: str | None = None,
        vocabulary_size: int | None = None,
        training: Training = Training(),
    ) -> None:
        super().__init__(training)
        self.module = build_module(module, pretrained(module, arguments or {}, weights))
        first = next((m for m in self.module.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)), None)
        self.channels = first.in_channels if first and len(input_shape) == first.weight.dim() - 1 else None
        self.repeats = self.channels == 3 and input_shape[0] == 1
        x = torch.zeros(_BATCH, *input_shape, dtype=torch.float32 if vocabulary_size is None else torch.int64)
        wanted = {
            "binary": [(_BATCH,), (_BATCH, 1)],
            "next_token": [(_BATCH, *input_shape, output_size)],
        }.get(training.task, [(_BATCH, output_size)])
        if (returned := self._probe(x, module)) not in wanted:
            replaced = _replace_head(self.module, output_size)
            returned = self._probe(x, module) if replaced else returned
            if returned not in wanted:
                why = "also with a new head" if replaced else f"and no linear layer ends its {' or '.join(_HEADS)}"
                raise ValueError(
                    f"{module} returns {returned} for a batch of {tuple(x.shape)}, {why}; task {training.task} with "
                    f"output_size {output_size} wants {wanted[-1]}, which one of its arguments may give (num_classes)"
                )
        if training.regularization.dropout:
            _put_dropout(self.module, training.regularization.dropout, module)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *input_shape) -> logits (B, C), (B,) for a binary task, (B, T, V) for next_token."""
        return self.logits_of(self._call(self.module, x))

    def _call(self, module: nn.Module, x: Tensor) -> Any:
        return module(x.expand(-1, 3, *x.shape[2:]) if self.repeats else x)

    def _probe(self, x: Tensor, name: str) -> tuple[int, ...]:
        """The shape of what the module returns for ``x``, in both modes; neither it nor the random numbers change."""
        with torch.no_grad(), isolate_rng(include_cuda=False):
            try:
                if any(isinstance(parameter, UninitializedParameter) for parameter in self.module.parameters()):
                    self._call(self.module.eval(), x)  # but lazy layers, which learn their sizes here
                    self.module.train()
                twin = copy.deepcopy(self.module)
                outputs = [self._call(twin.train(mode), x) for mode in (True, False)]
            except Exception as error:  # whatever it raises
                if self.channels not in (None, x.shape[1]) and not self.repeats:
                    raise ValueError(
                        f"{name} reads {self.channels} channels and the data has {x.shape[1]}: it needs an argument "
                        f"that says so (timm: arguments.in_chans={x.shape[1]}), or other images"
                    ) from error
                raise ValueError(f"{name} does not take a batch of {tuple(x.shape)}: {first_line(error)}") from error
        for mode, output in zip(("training", "evaluation"), outputs, strict=True):
            if not isinstance(output, Tensor):
                raise ValueError(
                    f"{name} returns {type(output).__name__} in {mode}, and not one tensor of logits; if it has "
                    f"auxiliary outputs, an argument may turn them off (torchvision: arguments.aux_logits=false)"
                )
        return tuple(outputs[1].shape)


def _replace_head(module: nn.Module, output_size: int) -> bool:
    """Give ``module`` an output for each of ``output_size``; False where its head is not found."""
    reset = getattr(module, "reset_classifier", None)
    if callable(reset):
        reset(output_size)
        return True
    path = _head(module)
    head = path and module.get_submodule(path)
    if not isinstance(head, nn.Linear):
        return False
    module.set_submodule(path, nn.Linear(head.in_features, output_size, bias=head.bias is not None))
    return True


def _put_dropout(module: nn.Module, dropout: float, name: str) -> None:
    """Put dropout before the head."""
    path = _head(module)
    if not path:
        raise ValueError(
            f"dropout has no place in {name}: it goes before the last linear layer, and none ends its "
            f"{' or '.join(_HEADS)}; give the module's own argument for it, if it has one"
        )
    module.set_submodule(path, nn.Sequential(nn.Dropout(dropout), module.get_submodule(path)))


def _head(module: nn.Module) -> str:
    """The path of the last layer; empty if there is none."""
    head: nn.Module | None = None
    classifier = getattr(module, "get_classifier", None)
    if callable(classifier):
        head = classifier()
    else:
        parts = dict(module.named_modules())
        for path in _HEADS:
            last = parts.get(path)
            while isinstance(last, nn.Sequential) and len(last):
                last = last[-1]
            if isinstance(last, nn.Linear):
                head = last
                break
    return next((path for path, part in module.named_modules() if part is head), "")
