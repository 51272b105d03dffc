"""Every type of network of transformers that a tiny configuration of it can be made of, with random weights."""

import inspect
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.models.auto import modeling_auto

from benchmarks.architectures.specimen import CLASSES, CannotRunError, Specimen
from benchmarks.architectures.transformers_config import PLAIN, SPECIAL, tiny

#: The heads that are tried, the first that a type has is taken; a sequence classifier beside it.
_HEADS = (
    *("MASKED_LM", "SEQ_TO_SEQ_CAUSAL_LM", "SPEECH_SEQ_2_SEQ", "CAUSAL_LM", "IMAGE_CLASSIFICATION", "OBJECT_DETECTION"),
    *("SEMANTIC_SEGMENTATION", "UNIVERSAL_SEGMENTATION", "DEPTH_ESTIMATION", "VIDEO_CLASSIFICATION"),
    *("AUDIO_CLASSIFICATION", "CTC", "IMAGE_TEXT_TO_TEXT", "SEQUENCE_CLASSIFICATION", "PRETRAINING"),
)
_SKIPPED = {"gemma3n_vision": "it is timm's mobilenetv5_300m"}
BATCH, LENGTH = 4, 12
_GRID = torch.tensor([[1, 4, 4]] * BATCH)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


@cache
def _classes() -> dict[str, tuple[str, str, str]]:
    """The type, the head and the class of each network, by its name in the table."""
    of = {head: getattr(modeling_auto, f"MODEL_FOR_{head}_MAPPING_NAMES") for head in _HEADS}
    of["base"] = modeling_auto.MODEL_MAPPING_NAMES
    found = {}
    for kind in sorted({kind for classes in of.values() for kind in classes}):
        heads = [head for head in of if kind in of[head]]
        for head in dict.fromkeys([heads[0], *(h for h in heads if h == "SEQUENCE_CLASSIFICATION")]):
            name = of[head][kind]
            found[f"{kind}/{name if isinstance(name, str) else name[0]}"] = (
                kind,
                head,
                name if isinstance(name, str) else name[0],
            )
    return found


def names() -> list[str]:
    """The types, each with the class of its first head, and with that of a sequence classifier."""
    return list(_classes())


def builder(name: str) -> Callable[[], Specimen]:
    """How to build one of them."""
    return partial(_build, *_classes()[name])


def _build(kind: str, head: str, class_name: str) -> Specimen:
    if kind in _SKIPPED:
        raise CannotRunError(_SKIPPED[kind])
    config = tiny(transformers.CONFIG_MAPPING[kind](), num_labels=CLASSES, pad_token_id=0)
    model = getattr(transformers, class_name)(config).train()
    errors = []
    for keywords in _batches(model, config, head):
        specimen = Specimen(model, keywords=keywords)
        try:
            specimen.loss()
        except Exception as error:
            errors.append(error)
        else:
            return specimen
    raise errors[0] if errors else CannotRunError(f"no batch is known for {sorted(_arguments(model))}")


def _arguments(model: nn.Module) -> set[str]:
    return {*inspect.signature(model.forward).parameters}


def _batches(model: nn.Module, config: Any, head: str) -> Iterator[dict[str, Any]]:
    """Batches that the network may want, likely ones first."""
    wanted = _arguments(model)
    for inputs in _inputs(wanted, config):
        for labels in _labels(head, inputs, config) if "labels" in wanted else [{}]:
            yield {**inputs, **labels}
        if "labels" in wanted:
            yield inputs


def _inputs(wanted: set[str], config: Any) -> Iterator[dict[str, Any]]:
    if "grid_thw" in wanted:
        yield {("pixel_values" if "pixel_values" in wanted else "hidden_states"): _patches(config), "grid_thw": _GRID}
    tokens = {"input_ids": torch.randint(SPECIAL, PLAIN, (BATCH, LENGTH))}
    if isinstance(end := getattr(config, "eos_token_id", None), int):
        tokens["input_ids"][:, -1] = end  # some classify by it
    decoder = (
        {"decoder_input_ids": torch.randint(SPECIAL, PLAIN, (BATCH, LENGTH))} if "decoder_input_ids" in wanted else {}
    )
    if "input_ids" in wanted:
        if "bbox" in wanted:
            tokens["bbox"] = torch.tensor([1, 2, 30, 40]).expand(BATCH, LENGTH, 4)
        yield tokens | decoder
        for images in _images(config):
            if "pixel_values" in wanted:
                yield tokens | decoder | {"pixel_values": images}
    for name in ("pixel_values", "pixel_values_videos"):
        if name in wanted and "input_ids" not in wanted:
            for images in _images(config):
                yield {name: images} | decoder
    for name in ("input_features", "input_values", "audio_values"):
        if name in wanted:
            for sound in _sounds(config, name):
                yield {name: sound} | decoder


def _find(config: Any, *names: str, default: Any = None) -> Any:
    """The first of some numbers that a configuration or a part of it has."""
    parts = [part for part in vars(config).values() if hasattr(part, "to_dict")]
    for name in names:
        for part in (config, *parts):
            if (value := getattr(part, name, None)) is not None:
                return value
    return default


def _images(config: Any) -> Iterator[Tensor]:
    channels = _find(config, "num_channels", "in_channels", default=3)
    channels = channels if isinstance(channels, int) else 3
    sizes = _find(config, "image_size", "img_size", "input_size", default=64)
    for size in dict.fromkeys([sizes if isinstance(sizes, int) else 64, 64, 224]):
        yield torch.randn(BATCH, channels, size, size)
        yield torch.randn(BATCH, _find(config, "num_frames", default=4), channels, size, size)


def _patches(config: Any) -> Tensor:
    """Two images of 4 x 4 patches each, flat."""
    channels, size, frames = (
        _find(config, *names, default=default)
        for *names, default in (("in_channels", "num_channels", 3), ("patch_size", 14), ("temporal_patch_size", 1))
    )
    return torch.randn(int(_GRID.prod(1).sum()), channels * frames * size**2)


def _sounds(config: Any, name: str) -> Iterator[Tensor]:
    if name == "input_features":
        bins = _find(config, "num_mel_bins", "input_feat_per_channel", "feature_size", "input_dim", default=80)
        for length in (2 * _find(config, "max_source_positions", default=64), 128):
            yield torch.randn(BATCH, bins, length)
            yield torch.randn(BATCH, length, bins)
    else:
        yield torch.randn(BATCH, 4000)
        yield torch.randn(BATCH, 1, 4000)
        yield torch.randn(BATCH, 128, _find(config, "num_mel_bins", default=80))
        yield torch.randn(BATCH, _find(config, "max_length", default=128), _find(config, "num_mel_bins", default=80))


def _labels(head: str, inputs: dict[str, Any], config: Any) -> Iterator[dict[str, Any]]:
    classes = torch.arange(BATCH) % CLASSES
    if head in ("CAUSAL_LM", "MASKED_LM", "IMAGE_TEXT_TO_TEXT", "PRETRAINING") and "input_ids" in inputs:
        yield {"labels": inputs["input_ids"]}
    elif head in ("SEQ_TO_SEQ_CAUSAL_LM", "SPEECH_SEQ_2_SEQ", "CTC"):
        yield {"labels": torch.randint(SPECIAL, PLAIN, (BATCH, LENGTH // 2))}
    elif head.endswith("CLASSIFICATION"):
        yield {"labels": classes}
    elif head == "OBJECT_DETECTION":
        boxes = torch.rand(BATCH, 3, 4) / 3 + 0.3
        yield {"labels": [{"class_labels": torch.arange(3), "boxes": box} for box in boxes]}
    elif head == "SEMANTIC_SEGMENTATION":
        yield {"labels": torch.randint(0, CLASSES, (BATCH, *inputs["pixel_values"].shape[-2:]))}


def version() -> str:
    """Of the library."""
    return f"transformers {transformers.__version__}"
