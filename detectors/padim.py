"""PaDiM: a normal distribution of patch features at every position, and Mahalanobis' distance to it.

Defard et al. 2020 (arXiv 2011.08785), sections III.B and III.C. *Differences from the paper*: statistics are kept, not
the covariance, so that new normal images can be added at any time; the inverse of the Cholesky factor takes the place
of the inverse covariance; the number of random dimensions is a parameter.

Shape legend: B images, H x W patch grid of P positions, D feature dimensions, C chosen dimensions, T = C (C + 1) / 2.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from detectors.checks import require_fit, require_like, require_place, require_vouched
from detectors.contract import DetectorState, Maps, Mask, Parts, Patches
from detectors.errors import ArtifactError, InvalidInput
from detectors.gaussian import Gaussians, gaussians_of, left_out_distances, mahalanobis


class PaDiM:
    """Detector of one class for parts that always lie alike: every position has its own normality.

    `dimensions`: feature dimensions drawn at random with `seed`, all where there are fewer; `regularisation`: what is
    added to each variance (equation 1). Time and memory of a score do not grow with the images fitted on.

    >>> patches_BHWD = np.random.default_rng(0).normal(size=(9, 4, 4, 8)).astype(np.float32)
    >>> detector = PaDiM(dimensions=5).fit(patches_BHWD)
    >>> detector.update(patches_BHWD[:3]).anomaly_maps(patches_BHWD).shape
    (9, 4, 4)
    """

    name = "padim"

    def __init__(self, *, dimensions: int = 100, regularisation: float = 0.01, seed: int = 0) -> None:
        if dimensions < 1 or not 0 < regularisation < np.inf:
            raise InvalidInput(
                f"{dimensions} dimensions, regularisation {regularisation}; give at least 1 and a number above 0"
            )
        self._dimensions = dimensions
        self._regularisation = regularisation
        self._seed = seed
        self._chosen_C = np.zeros(0, np.int32)
        self._features = 0
        self._grid = (0, 0)
        self._known: Gaussians | None = None
        self._whitening_PT: NDArray[np.float32] | None = None
        self._images = 0
        self._left_out_BHW: Maps | None = None

    @staticmethod
    def memory_bytes(grid: tuple[int, int], *, images: int, dimensions: int = 100) -> int:
        """Bytes a fit takes at most beside the features given: statistics, whitening, and the chosen dimensions."""
        positions = grid[0] * grid[1]
        return positions * (dimensions**2 * 30 + images * dimensions * 4) + 64 * 2**20

    def fit(self, patches_BHWD: Patches, parts_B: Parts | None = None, vouched_B: Mask | None = None) -> Self:
        """Learn mean and covariance of every position; forget earlier fits.

        Raises InvalidInput for fewer than two parts, and for patches that are not finite float32 `(B, H, W, D)`.
        """
        parts_B = require_fit(patches_BHWD, parts_B)
        require_vouched(patches_BHWD, vouched_B)
        images, height, width, features = patches_BHWD.shape
        rng = np.random.default_rng(self._seed)
        count = min(self._dimensions, features)
        self._chosen_C = np.sort(rng.choice(features, count, replace=False)).astype(np.int32)
        self._features, self._grid, self._images = features, (height, width), images
        points_BPC = self._points(patches_BHWD)
        self._learn(gaussians_of(points_BPC))
        left_BP = left_out_distances(self._fitted(), points_BPC, parts_B, regularisation=self._regularisation)
        self._left_out_BHW = left_BP.reshape(images, height, width)
        return self

    def update(self, patches_BHWD: Patches) -> Self:
        """Learn from more normal images: the same as a fit on all images together, also after a restart.

        Left-out maps stay those of the images of `fit`. Raises InvalidInput before a fit, and for another grid or
        another number of dimensions.
        """
        known = self._fitted()
        self._check(patches_BHWD)
        self._learn(known.merged(gaussians_of(self._points(patches_BHWD))))
        return self

    def anomaly_maps(self, patches_BHWD: Patches) -> Maps:
        """Mahalanobis' distance of every patch to its position (equation 2), `maps_BHW`; independent of the batch."""
        known = self._fitted()
        self._check(patches_BHWD)
        whitening_PT = self._whitening()
        mean_PC = known.mean_PD.astype(np.float32)
        maps_BP = np.empty((len(patches_BHWD), len(mean_PC)), np.float32)
        for image, points_PC in enumerate(self._points(patches_BHWD)):
            mahalanobis(points_PC - mean_PC, whitening_PT, maps_BP[image])
        return maps_BP.reshape(len(patches_BHWD), *self._grid)

    def left_out_maps(self) -> Maps:
        """Maps of the images of the fit, each by the distribution of all other parts, exactly, `maps_BHW`."""
        if self._left_out_BHW is None:
            raise InvalidInput("left-out maps of a detector restored from its state; ask the one that was fitted")
        return self._left_out_BHW.copy()

    def suspects(self) -> NDArray[np.bool_]:
        """All False, `(B,)`: PaDiM believes what it is given. Raises InvalidInput on a restored detector."""
        if self._images == 0:
            raise InvalidInput("suspects of a detector that was not fitted here; ask the one that was fitted")
        return np.zeros(self._images, np.bool_)

    def nearest(self, patches_HWD: Patches, row: int, column: int) -> None:
        """None: PaDiM keeps no training patches. Raises InvalidInput for a patch off the grid."""
        self._fitted()
        self._check(patches_HWD[None])
        require_place(self._grid, row, column)

    def state(self) -> DetectorState:
        """Parameters, and the tensors `chosen_C` (int32), `mean_HWC` and `scatter_PT` (float64, lower triangles)."""
        known = self._fitted()
        parameters = {
            "dimensions": self._dimensions,
            "regularisation": self._regularisation,
            "seed": self._seed,
            "features": self._features,
            "count": known.count,
        }
        mean_HWC = known.mean_PD.reshape(*self._grid, -1)
        return DetectorState(
            parameters, {"chosen_C": self._chosen_C, "mean_HWC": mean_HWC, "scatter_PT": known.scatter_PT}
        )

    @classmethod
    def from_state(cls, state: DetectorState) -> Self:
        """The detector that `state` came from; raises ArtifactError if the state is not one of this class."""
        try:
            whole = {name: state.parameters[name] for name in ("dimensions", "seed", "features", "count")}
            regularisation = state.parameters["regularisation"]
            if not all(type(value) is int for value in whole.values()) or type(regularisation) is not float:
                raise TypeError(f"{whole}, regularisation {regularisation!r}: numbers are needed")
            tensors = {name: np.asarray(state.tensors[name]) for name in ("chosen_C", "mean_HWC", "scatter_PT")}
            detector = cls(dimensions=int(whole["dimensions"]), regularisation=regularisation, seed=int(whole["seed"]))
            detector._restore(int(whole["features"]), int(whole["count"]), tensors)
        except (KeyError, TypeError, InvalidInput) as error:
            raise ArtifactError(f"not the state of a padim detector ({error}); publish the version again") from error
        return detector

    def _restore(self, features: int, count: int, tensors: dict[str, NDArray[np.generic]]) -> None:
        chosen_C, mean_HWC, scatter_PT = (tensors[name] for name in ("chosen_C", "mean_HWC", "scatter_PT"))
        kinds = [tensor.dtype.name for tensor in (chosen_C, mean_HWC, scatter_PT)]
        chosen = len(chosen_C) if chosen_C.ndim == 1 else 0
        shape = (*mean_HWC.shape[:2], chosen)
        packed = (int(np.prod(mean_HWC.shape[:2])), chosen * (chosen + 1) // 2)
        if kinds != ["int32", "float64", "float64"] or mean_HWC.shape != shape or scatter_PT.shape != packed:
            raise InvalidInput(f"tensors of shapes {chosen_C.shape}, {mean_HWC.shape}, {scatter_PT.shape} and {kinds}")
        known = Gaussians(count, mean_HWC.reshape(-1, chosen).astype(np.float64), scatter_PT.astype(np.float64))
        if not (chosen and count > 1 and np.isfinite(known.mean_PD).all() and np.isfinite(known.scatter_PT).all()):
            raise InvalidInput(f"{chosen} dimensions, {count} images, or values that are not finite")
        self._chosen_C, self._features = chosen_C.astype(np.int32), features
        self._grid = (int(mean_HWC.shape[0]), int(mean_HWC.shape[1]))
        self._learn(known)

    def _learn(self, known: Gaussians) -> None:
        self._known, self._whitening_PT = known, None

    def _whitening(self) -> NDArray[np.float32]:
        """Made when first needed: many updates may come before the next score."""
        if self._whitening_PT is None:
            known = self._fitted()
            self._whitening_PT = known.whitening(self._regularisation, divisor=known.count - 1).astype(np.float32)
        return self._whitening_PT

    def _points(self, patches_BHWD: Patches) -> Patches:
        """The chosen dimensions, `(B, P, C)`."""
        images, height, width, _ = patches_BHWD.shape
        return np.ascontiguousarray(patches_BHWD[..., self._chosen_C].reshape(images, height * width, -1))

    def _check(self, patches_BHWD: Patches) -> None:
        require_like(patches_BHWD, (*self._grid, self._features))

    def _fitted(self) -> Gaussians:
        if self._known is None:
            raise InvalidInput("a padim detector that was not fitted; call fit first")
        return self._known
