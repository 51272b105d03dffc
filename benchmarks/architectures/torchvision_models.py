"""Every network of torchvision, on small images wherever its builder allows them."""

from collections.abc import Callable
from functools import partial

import torch
import torchvision
from torch import Tensor
from torchvision import models

from benchmarks.architectures.specimen import CLASSES, Specimen

#: What a builder needs for a small input, and the size of that: frames, height and width.
_INPUTS: dict[str, tuple[dict[str, object], tuple[int, ...]]] = {
    "inception_v3": ({}, (299, 299)),
    "quantized_inception_v3": ({}, (299, 299)),
    "maxvit_t": ({}, (224, 224)),
    "vit_b_16": ({"image_size": 64}, (64, 64)),
    "vit_b_32": ({"image_size": 64}, (64, 64)),
    "vit_l_16": ({"image_size": 64}, (64, 64)),
    "vit_l_32": ({"image_size": 64}, (64, 64)),
    "vit_h_14": ({"image_size": 56}, (56, 56)),
    "mvit_v1_b": ({}, (16, 224, 224)),
    "mvit_v2_s": ({}, (16, 224, 224)),
    "s3d": ({}, (16, 224, 224)),
}


def names() -> list[str]:
    """All that torchvision can build, the smallest first: a run that is stopped has seen most of them."""
    return sorted(models.list_models(), key=lambda name: models.get_model_weights(name).DEFAULT.meta["num_params"])


def builder(name: str) -> Callable[[], Specimen]:
    """How to build one of them."""
    for module, build in (
        (models.detection, _detector),
        (models.optical_flow, _flow),
        (models.segmentation, _segmenter),
    ):
        if name in models.list_models(module):
            return partial(build, name)
    return partial(_classifier, name)


def _classifier(name: str) -> Specimen:
    is_video = name in models.list_models(models.video)
    arguments, size = _INPUTS.get(name, ({}, (8, 64, 64) if is_video else (64, 64)))
    batch = 1 if is_video and max(size) > 64 else 2 if is_video or max(size) > 64 else 8
    model = models.get_model(name, weights=None, num_classes=CLASSES, **arguments)
    return Specimen(model, (torch.randn(batch, 3, *size),))


def _segmenter(name: str) -> Specimen:
    model = models.get_model(name, weights=None, weights_backbone=None, num_classes=CLASSES)
    return Specimen(model, (torch.randn(4, 3, 64, 64),))


def _flow(name: str) -> Specimen:
    images = (torch.rand(2, 3, 128, 128), torch.rand(2, 3, 128, 128))
    return Specimen(models.get_model(name, weights=None), images, {"num_flow_updates": 3})


def _detector(name: str) -> Specimen:
    size = 300 if name.startswith("ssd300") else 320 if name.startswith("ssdlite") else 128
    sizes = {} if name.startswith("ssd") else {"min_size": size, "max_size": size}
    if "rcnn" in name:
        sizes |= {"rpn_pre_nms_top_n_train": 32, "rpn_post_nms_top_n_train": 32, "box_batch_size_per_image": 16}
    model = models.get_model(name, weights=None, weights_backbone=None, num_classes=CLASSES, **sizes)
    images = [torch.rand(3, size, size) for _ in range(2)]
    return Specimen(model, (images, [_target(name, size) for _ in images]), returns_losses=True)


def _target(name: str, size: int) -> dict[str, Tensor]:
    """Two objects in an image."""
    low = torch.rand(2, 2) * size / 2
    target = {"boxes": torch.cat([low, low + size / 3], 1), "labels": torch.randint(1, 3, (2,))}
    if name.startswith("maskrcnn"):
        target["masks"] = torch.randint(0, 2, (2, size, size), dtype=torch.uint8)
    if name.startswith("keypointrcnn"):
        points = low.unsqueeze(1) + torch.rand(2, 17, 2) * size / 3
        target["keypoints"] = torch.cat([points, torch.ones(2, 17, 1)], 2)
        target["labels"] = torch.ones(2, dtype=torch.int64)
    return target


def version() -> str:
    """Of the library."""
    return f"torchvision {torchvision.__version__}"
