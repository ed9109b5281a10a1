"""PatchCore: the distance of a patch to the nearest patch of normal images, kept in a memory bank of fixed size.

Roth et al. 2022 (arXiv 2106.08265). *Differences from the paper*: the bank has a fixed number of rows rather than a
share of the patches, so latency does not grow with the data; the image score is the maximum of the smoothed map
(`detectors.calibration`), and the reweighting of equation 7 is an option. The paper's score is the maximum of the
unsmoothed map with `reweighting`.

Shape legend: B images, H x W patch grid, N patches, D dimensions, M bank rows, K neighbours.
"""

from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.typing import NDArray

from detectors.checks import require_fit, require_patches, require_place, require_vouched
from detectors.contract import DetectorState, Maps, Mask, Neighbour, Parts, Patches
from detectors.coreset import greedy_k_center
from detectors.errors import ArtifactError, InvalidInput
from detectors.neighbours import NearestNeighbours

REWEIGHTING_NEIGHBOURS = 9
"""Rows around the nearest that equation 7 looks at, as in the paper's code."""


class PatchCore:
    """Detector of one class: every image of the fit is taken for normal.

    `bank`: rows at most; `seed`: of the coreset's projection and first row; `neighbours`: nearest rows whose mean
    distance is the score of a patch (k-NN); `reweighting`: multiply each map by the weight of equation 7, made from
    its worst patch and the `REWEIGHTING_NEIGHBOURS` bank rows around that patch's nearest.

    >>> patches_BHWD = np.random.default_rng(0).normal(size=(3, 4, 4, 8)).astype(np.float32)
    >>> detector = PatchCore(bank=20).fit(patches_BHWD)
    >>> detector.anomaly_maps(patches_BHWD).shape
    (3, 4, 4)
    """

    name = "patchcore"

    def __init__(
        self,
        *,
        bank: int = 4000,
        seed: int = 0,
        neighbours: int = 1,
        reweighting: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if not 1 <= neighbours <= bank:
            raise InvalidInput(f"{neighbours} neighbours in a bank of {bank} rows; 1 to the bank's rows are possible")
        self._bank = bank
        self._seed = seed
        self._neighbours = neighbours
        self._reweighting = reweighting
        self._progress = progress
        self._bank_MD: NDArray[np.float32] | None = None
        self._provenance_M3 = np.zeros((0, 3), np.int32)
        self._search: NearestNeighbours | None = None
        self._parts_B: Parts | None = None
        self._fitted: Patches | None = None
        self._left_out_BHW: Maps | None = None

    def fit(self, patches_BHWD: Patches, parts_B: Parts | None = None, vouched_B: Mask | None = None) -> Self:
        """Keep the coreset of all patches. Holds on to the caller's array (not changed) until
        `left_out_maps` are made.

        Raises InvalidInput for fewer than two parts, and for patches that are not finite float32 `(B, H, W, D)`.
        """
        parts_B = require_fit(patches_BHWD, parts_B)
        require_vouched(patches_BHWD, vouched_B)
        images, height, width, dimensions = patches_BHWD.shape
        points_ND = patches_BHWD.reshape(-1, dimensions)
        picked_M = np.sort(greedy_k_center(points_ND, self._bank, seed=self._seed, progress=self._progress))
        places = np.unravel_index(picked_M, (images, height, width))
        self._keep(points_ND[picked_M], np.stack(places, axis=1).astype(np.int32))
        self._parts_B, self._fitted, self._left_out_BHW = parts_B, patches_BHWD, None
        return self

    def anomaly_maps(self, patches_BHWD: Patches) -> Maps:
        """Mean distance of every patch to its nearest bank rows, `maps_BHW`; independent of the batch."""
        bank = self._fitted_search()
        require_patches(patches_BHWD)
        return np.stack([self._map(bank, patches_HWD, None) for patches_HWD in patches_BHWD])

    def left_out_maps(self) -> Maps:
        """Maps of the images of the fit, each by the bank rows that other parts gave.

        A little pessimistic: rows that other parts would have given in its place are not in the bank. Made once,
        then kept. Raises InvalidInput on a restored detector, and where one part gave all rows.
        """
        bank = self._fitted_search()
        if self._left_out_BHW is None:
            if self._fitted is None or self._parts_B is None:
                raise InvalidInput("left-out maps of a detector restored from its state; ask the one that was fitted")
            maps_BHW = np.empty(self._fitted.shape[:3], np.float32)
            givers_M = self._parts_B[self._provenance_M3[:, 0]]
            for image, patches_HWD in enumerate(self._fitted):
                own_M = givers_M == self._parts_B[image]
                if own_M.all():
                    raise InvalidInput(
                        f"the part of image {image} gave all {bank.rows} rows of the bank; allow a larger bank"
                    )
                maps_BHW[image] = self._map(bank, patches_HWD, own_M)
            self._left_out_BHW, self._fitted = maps_BHW, None  # the features are not needed any more
        return self._left_out_BHW.copy()

    def suspects(self) -> NDArray[np.bool_]:
        """All False, `(B,)`: PatchCore believes what it is given. Raises InvalidInput on a restored detector."""
        if self._parts_B is None:
            raise InvalidInput("suspects of a detector that was not fitted here; ask the one that was fitted")
        return np.zeros(len(self._parts_B), np.bool_)

    def nearest(self, patches_HWD: Patches, row: int, column: int) -> Neighbour:
        """The bank row nearest to one patch: which image of the fit it came from, and where on its grid."""
        bank = self._fitted_search()
        require_patches(patches_HWD[None])
        require_place(patches_HWD.shape[:2], row, column)
        distances_11, rows_11 = bank.search(patches_HWD[row, column][None], 1)
        image, its_row, its_column = (int(part) for part in self._provenance_M3[rows_11[0, 0]])
        return Neighbour(image=image, row=its_row, column=its_column, distance=float(distances_11[0, 0]))

    def state(self) -> DetectorState:
        """Parameters, and the tensors `bank_MD` (float32) and `provenance_M3` (int32: image, row, column)."""
        parameters = {
            "bank": self._bank,
            "seed": self._seed,
            "neighbours": self._neighbours,
            "reweighting": self._reweighting,
        }
        return DetectorState(parameters, {"bank_MD": self._fitted_bank(), "provenance_M3": self._provenance_M3})

    @classmethod
    def from_state(cls, state: DetectorState) -> Self:
        """The detector that `state` came from; raises ArtifactError if the state is not one of this class."""
        try:
            bank, seed, neighbours = (_whole(state.parameters[name]) for name in ("bank", "seed", "neighbours"))
            reweighting = state.parameters.get("reweighting", False)  # absent from the first release's artefacts
            if not isinstance(reweighting, bool):
                raise TypeError(f"reweighting {reweighting!r}")
            detector = cls(bank=bank, seed=seed, neighbours=neighbours, reweighting=reweighting)
            bank_MD = np.asarray(state.tensors["bank_MD"])
            provenance_M3 = np.asarray(state.tensors["provenance_M3"])
            if provenance_M3.dtype != np.int32 or provenance_M3.shape != (len(bank_MD), 3):
                raise InvalidInput(f"provenance of shape {provenance_M3.shape} and type {provenance_M3.dtype}")
            detector._keep(bank_MD, provenance_M3)
        except (KeyError, TypeError, InvalidInput) as error:
            raise ArtifactError(
                f"not the state of a patchcore detector ({error}); publish the version again"
            ) from error
        return detector

    def _keep(self, bank_MD: NDArray[np.float32], provenance_M3: NDArray[np.int32]) -> None:
        self._search = NearestNeighbours(bank_MD)
        self._bank_MD = bank_MD
        self._provenance_M3 = provenance_M3

    def _map(self, bank: NearestNeighbours, patches_HWD: Patches, own_M: NDArray[np.bool_] | None) -> Maps:
        """Map of one image, `(H, W)`, without the bank rows `own_M`."""
        queries_ND = patches_HWD.reshape(-1, patches_HWD.shape[2])
        rows = bank.rows - (0 if own_M is None else int(np.count_nonzero(own_M)))
        distances_NK, rows_NK = bank.search(queries_ND, min(self._neighbours, rows), without_M=own_M)
        map_N: NDArray[np.float32] = distances_NK.mean(axis=1)
        if self._reweighting:
            worst = int(map_N.argmax())
            map_N *= self._weight(bank, queries_ND[worst], int(rows_NK[worst, 0]), own_M)
        return map_N.reshape(patches_HWD.shape[:2])

    def _weight(
        self, bank: NearestNeighbours, patch_D: NDArray[np.float32], row: int, own_M: NDArray[np.bool_] | None
    ) -> np.float32:
        """Equation 7: 1 - exp |p - m*| / sum of exp |p - m| over the rows m around m*, the row nearest to patch p."""
        bank_MD = self._fitted_bank()
        count = min(REWEIGHTING_NEIGHBOURS, bank.rows - (0 if own_M is None else int(np.count_nonzero(own_M))))
        _, around_1K = bank.search(bank_MD[row][None], count, without_M=own_M)
        distances_K = np.linalg.norm(bank_MD[around_1K[0]].astype(np.float64) - patch_D, axis=1)
        nearest = np.linalg.norm(bank_MD[row].astype(np.float64) - patch_D)
        return np.float32(1 - 1 / np.exp(np.minimum(distances_K - nearest, 700)).sum()) if count > 1 else np.float32(1)

    def _fitted_search(self) -> NearestNeighbours:
        if self._search is None:
            raise InvalidInput("a patchcore detector that was not fitted; call fit first")
        return self._search

    def _fitted_bank(self) -> NDArray[np.float32]:
        if self._bank_MD is None:
            raise InvalidInput("a patchcore detector that was not fitted; call fit first")
        return self._bank_MD


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    return value
