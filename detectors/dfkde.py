"""DFKDE: the density of normal patches at every position, by Gaussian kernels on the images themselves.

Deep-feature kernel density estimation as surveys of the field describe it: features of a pretrained network, reduced
dimensions, one kernel an image, score -log f. *Differences*: reduced by principal components of all patches; a score
is counted from the greatest value the density of its position can have, so that it is never negative and positions
compare; everything stays in logarithms, so that images far from all others are still ranked.

Shape legend: B images, H x W patch grid of P positions, D feature dimensions, C components, N images kept.
"""

from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from detectors.checks import require_fit, require_like, require_place, require_vouched
from detectors.components import principal_components, projected
from detectors.contract import DetectorState, Maps, Mask, Neighbour, Parts, Patches
from detectors.density import (
    FACTORS,
    adaptive_widths,
    below_peak,
    likelihoods,
    scott_factor,
    silverman_factor,
    spreads,
    squares,
    without_own,
)
from detectors.errors import ArtifactError, InvalidInput

Bandwidth = Literal["scott", "silverman", "likelihood", "validation"]
Kernel = Literal["isotropic", "product", "adaptive"]

MEMORY_BYTES = 2 * 2**30
"""What a fit may take where nobody says."""

HELD_OUT = 5
"""One part in so many is held out where the bandwidth is chosen by validation."""

_POSITIONS = 64
_TENSORS = ("mean_D", "components_DC", "centre_HWC", "scale_HWC", "samples_PNC", "widths_PN", "images_N")


class DFKDE:
    """Detector of one class for parts that always lie alike: every position has its own density of any shape.

    `dimensions`: principal components kept; `bandwidth`: `scott` or `silverman` (rules of thumb), `likelihood`
    (leave-one-out) or `validation` (on held-out images), one for all positions in standard deviations of each;
    `kernel`: `isotropic`, `product` (a width for every dimension) or `adaptive` (a width for every sample);
    `images`: images kept, drawn with `seed`; `memory`: bytes a fit may take. Time and memory of a score grow with the
    images kept.

    >>> patches_BHWD = np.random.default_rng(0).normal(size=(9, 4, 4, 8)).astype(np.float32)
    >>> detector = DFKDE(dimensions=5).fit(patches_BHWD)
    >>> maps_BHW = detector.anomaly_maps(np.stack([patches_BHWD[0], patches_BHWD[0] + 1e4, patches_BHWD[0] + 1e5]))
    >>> bool((np.diff(maps_BHW, axis=0) > 0).all() and np.isfinite(maps_BHW).all())
    True
    """

    name = "dfkde"

    def __init__(
        self,
        *,
        dimensions: int = 100,
        bandwidth: Bandwidth = "scott",
        kernel: Kernel = "isotropic",
        images: int = 200,
        memory: int = MEMORY_BYTES,
        seed: int = 0,
    ) -> None:
        if dimensions < 1 or images < 2 or memory < 1:
            raise InvalidInput(f"{dimensions} dimensions, {images} images, {memory} bytes; give at least 1, 2 and 1")
        if bandwidth not in get_args(Bandwidth) or kernel not in get_args(Kernel):
            raise InvalidInput(
                f"bandwidth {bandwidth!r} and kernel {kernel!r}; choose from {', '.join(get_args(Bandwidth))} and "
                f"{', '.join(get_args(Kernel))}"
            )
        self._parameters: dict[str, int | float | str | bool] = {
            "dimensions": dimensions,
            "bandwidth": bandwidth,
            "kernel": kernel,
            "images": images,
            "seed": seed,
        }
        self._memory = memory
        self._tensors: dict[str, NDArray[np.generic]] = {}
        self._images = 0
        self._left_out_BHW: Maps | None = None

    @staticmethod
    def memory_bytes(grid: tuple[int, int], *, images: int, dimensions: int = 100) -> int:
        """Bytes a fit on `images` images takes at most beside the features given.

        >>> DFKDE.memory_bytes((32, 32), images=200) // 2**20
        289
        """
        positions = grid[0] * grid[1]
        samples = positions * images * (dimensions * 8 + 16)  # components, and their scaled copy
        return samples + _POSITIONS * images**2 * 40 + 2**25

    def fit(self, patches_BHWD: Patches, parts_B: Parts | None = None, vouched_B: Mask | None = None) -> Self:
        """Learn components, bandwidth and samples; forget earlier fits.

        Raises InvalidInput for fewer than two parts, for patches that are not finite float32 `(B, H, W, D)`, and
        before any work where `memory_bytes` exceeds `memory`.
        """
        parts_B = require_fit(patches_BHWD, parts_B)
        require_vouched(patches_BHWD, vouched_B)
        count, height, width, features = patches_BHWD.shape
        kept_N = self._kept(parts_B)
        dimensions = min(int(self._parameters["dimensions"]), features)
        needed = self.memory_bytes((height, width), images=count, dimensions=dimensions)
        if needed > self._memory:
            raise InvalidInput(
                f"a dfkde of {count} images, {height} x {width} patches and {dimensions} dimensions takes "
                f"{needed} bytes, {self._memory} are allowed; allow more, or give fewer images or dimensions"
            )
        mean_D, components_DC = principal_components(patches_BHWD, dimensions)
        points_BPC = projected(patches_BHWD, mean_D, components_DC)
        self._tensors = {
            "mean_D": mean_D,
            "components_DC": components_DC,
            "images_N": kept_N.astype(np.int32),
            **self._samples(points_BPC[kept_N], parts_B[kept_N], (height, width)),
        }
        self._images = count
        self._left_out_BHW = self._maps(points_BPC, parts_B, parts_B[kept_N])
        return self

    def anomaly_maps(self, patches_BHWD: Patches) -> Maps:
        """log (greatest density of the position / density of the patch), `maps_BHW`, in nats; batches do not matter."""
        self._fitted()
        self._check(patches_BHWD)
        points_BPC = np.concatenate([self._points(image_HWD[None]) for image_HWD in patches_BHWD])
        nobody_N = np.full(len(self._fitted()["images_N"]), -1)
        return self._maps(points_BPC, np.zeros(len(patches_BHWD), np.int64), nobody_N)

    def left_out_maps(self) -> Maps:
        """Maps of the images of the fit, each without the kernels of its own part (bandwidths and scale stay), `maps_BHW`."""
        if self._left_out_BHW is None:
            raise InvalidInput("left-out maps of a detector restored from its state; ask the one that was fitted")
        return self._left_out_BHW.copy()

    def suspects(self) -> NDArray[np.bool_]:
        """All False, `(B,)`: DFKDE believes what it is given. Raises InvalidInput on a restored detector."""
        if self._images == 0:
            raise InvalidInput("suspects of a detector that was not fitted here; ask the one that was fitted")
        return np.zeros(self._images, np.bool_)

    def nearest(self, patches_HWD: Patches, row: int, column: int) -> Neighbour:
        """The nearest patch at the same position; its distance in the components' units."""
        tensors = self._fitted()
        self._check(patches_HWD[None])
        require_place(patches_HWD.shape[:2], row, column)
        place = row * patches_HWD.shape[1] + column
        scale_C = tensors["scale_HWC"][row, column]
        point_C = self._points(patches_HWD[None])[0, place]
        apart_NC = tensors["samples_PNC"][place] * scale_C - (point_C - tensors["centre_HWC"][row, column])
        distances_N = np.linalg.norm(apart_NC, axis=1)
        best = int(distances_N.argmin())
        image = int(tensors["images_N"][best])
        return Neighbour(image=image, row=row, column=column, distance=float(distances_N[best]))

    def state(self) -> DetectorState:
        """Parameters, and the tensors `mean_D`, `components_DC`, `centre_HWC`, `scale_HWC`, `samples_PNC` (scaled),
        `widths_PN` (float32 all) and `images_N` (int32).
        """
        return DetectorState(dict(self._parameters), dict(self._fitted()))

    @classmethod
    def from_state(cls, state: DetectorState) -> Self:
        """The detector that `state` came from; raises ArtifactError if the state is not one of this class."""
        try:
            given = {name: state.parameters[name] for name in ("dimensions", "bandwidth", "kernel", "images", "seed")}
            if not all(type(given[name]) is int for name in ("dimensions", "images", "seed")):
                raise TypeError(f"{given}: whole numbers are needed")
            detector = cls(**given)  # type: ignore[arg-type]  # checked here and by the constructor
            detector._tensors = _checked({name: np.asarray(state.tensors[name]) for name in _TENSORS})
        except (KeyError, TypeError, InvalidInput) as error:
            raise ArtifactError(f"not the state of a dfkde detector ({error}); publish the version again") from error
        return detector

    def _kept(self, parts_B: Parts) -> NDArray[np.int64]:
        """Which images are kept, ascending: all, or as many as may be."""
        most = int(self._parameters["images"])
        if len(parts_B) <= most:
            return np.arange(len(parts_B))
        kept_N = np.sort(np.random.default_rng(int(self._parameters["seed"])).choice(len(parts_B), most, replace=False))
        if len(np.unique(parts_B[kept_N])) < 2:
            raise InvalidInput(f"the {most} images kept of {len(parts_B)} all show one part; allow more images")
        return kept_N

    def _samples(self, points_NPC: Patches, parts_N: Parts, grid: tuple[int, int]) -> dict[str, NDArray[np.generic]]:
        """Centre, scale, samples and widths of every position."""
        samples_PNC = np.ascontiguousarray(points_NPC.transpose(1, 0, 2))
        centre_PC = samples_PNC.mean(axis=1)
        scale_PC = np.empty_like(centre_PC)
        for part in _parts(len(samples_PNC)):
            scale_PC[part] = spreads(samples_PNC[part], product=self._parameters["kernel"] == "product")
            samples_PNC[part] -= centre_PC[part, None]
            samples_PNC[part] /= scale_PC[part, None]
        return {
            "centre_HWC": centre_PC.reshape(*grid, -1),
            "scale_HWC": scale_PC.reshape(*grid, -1),
            "samples_PNC": samples_PNC,
            "widths_PN": self._widths(samples_PNC, parts_N),
        }

    def _widths(self, samples_PNC: Patches, parts_N: Parts) -> NDArray[np.float32]:
        """Standard deviations of the kernels, in units of the scale."""
        positions, count, dimensions = samples_PNC.shape
        chosen = self._chosen_factor(samples_PNC, parts_N)
        widths_PN = np.full((positions, count), chosen)
        if self._parameters["kernel"] == "adaptive":
            for part in _parts(positions):
                apart_QNN = without_own(squares(samples_PNC[part], samples_PNC[part]), parts_N)
                widths_PN[part] = adaptive_widths(apart_QNN, widths_PN[part], dimensions)
        return widths_PN.astype(np.float32)

    def _chosen_factor(self, samples_PNC: Patches, parts_N: Parts) -> float:
        _, count, dimensions = samples_PNC.shape
        start = scott_factor(count, dimensions)
        if self._parameters["bandwidth"] == "silverman":
            return silverman_factor(count, dimensions)
        if self._parameters["bandwidth"] == "scott":
            return start
        held_N = np.unique(parts_N, return_inverse=True)[1] % HELD_OUT == 0
        total_G = np.zeros(len(FACTORS))
        for part in _parts(len(samples_PNC)):
            if self._parameters["bandwidth"] == "likelihood":
                apart_PQN = without_own(squares(samples_PNC[part], samples_PNC[part]), parts_N)
            else:
                held_PQC, rest_PNC = samples_PNC[part][:, held_N], samples_PNC[part][:, ~held_N]
                apart_PQN = squares(held_PQC, rest_PNC).astype(np.float64)
            total_G += likelihoods(apart_PQN, start, dimensions)
        return start * FACTORS[int(total_G.argmax())]

    def _maps(self, points_BPC: Patches, parts_B: Parts, parts_N: Parts) -> Maps:
        """Maps of images that show `parts_B` without the samples of these `parts_N`."""
        tensors = self._fitted()
        height, width, dimensions = tensors["centre_HWC"].shape
        centre_PC = tensors["centre_HWC"].reshape(-1, dimensions)
        scale_PC = tensors["scale_HWC"].reshape(-1, dimensions)
        maps_BP = np.empty(points_BPC.shape[:2], np.float32)
        for image, points_PC in enumerate(points_BPC):
            scaled_PC = (points_PC - centre_PC) / scale_PC
            own_N = parts_N == parts_B[image]
            below_peak(scaled_PC, tensors["samples_PNC"], tensors["widths_PN"], own_N, maps_BP[image])
        return maps_BP.reshape(-1, height, width)

    def _points(self, patches_BHWD: Patches) -> Patches:
        return projected(patches_BHWD, self._fitted()["mean_D"], self._fitted()["components_DC"])

    def _check(self, patches_BHWD: Patches) -> None:
        tensors = self._fitted()
        require_like(patches_BHWD, (*tensors["centre_HWC"].shape[:2], len(tensors["mean_D"])))

    def _fitted(self) -> dict[str, Patches]:
        if not self._tensors:
            raise InvalidInput("a dfkde detector that was not fitted; call fit first")
        return self._tensors  # type: ignore[return-value]  # all float32 but images_N, which is only indexed


def _parts(positions: int) -> list[slice]:
    return [slice(start, start + _POSITIONS) for start in range(0, positions, _POSITIONS)]


def _checked(tensors: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """The tensors as they are; raises InvalidInput where they do not fit together."""
    features, components = tensors["components_DC"].shape if tensors["components_DC"].ndim == 2 else (0, 0)
    height, width = tensors["centre_HWC"].shape[:2] if tensors["centre_HWC"].ndim == 3 else (0, 0)
    count = len(tensors["images_N"]) if tensors["images_N"].ndim == 1 else 0
    grid = (height, width, components)
    shapes = dict(zip(_TENSORS, _expected(features, grid, count), strict=True))
    for name, tensor in tensors.items():
        kind = np.int32 if name == "images_N" else np.float32
        if tensor.shape != shapes[name] or tensor.dtype != kind or not tensor.size or not np.isfinite(tensor).all():
            raise InvalidInput(f"tensor {name} of shape {tensor.shape} and type {tensor.dtype}, or not finite")
    if (tensors["widths_PN"] <= 0).any() or (tensors["scale_HWC"] <= 0).any():  # type: ignore[operator]
        raise InvalidInput("a bandwidth or scale that is not above 0")
    return tensors


def _expected(features: int, grid: tuple[int, int, int], count: int) -> tuple[tuple[int, ...], ...]:
    height, width, components = grid
    positions = height * width
    samples, widths = (positions, count, components), (positions, count)
    return (features,), (features, components), grid, grid, samples, widths, (count,)
