"""PatchCluster: a blind detector. It needs no normal images, only that most images are normal and that defects differ.

Zhang, Suganuma, Okatani: That's BAD, Blind Anomaly Detection by Implicit Local Feature Clustering, arXiv 2307.03243.

Shape legend: B images, H x W patch grid, P = H x W patches an image, D feature dimensions, M memory-bank rows, K
neighbours.
"""

import math
from typing import Self

import numpy as np
from numpy.typing import NDArray

from detectors.blind import mean_distances, reduced, shortest_half
from detectors.checks import require_fit, require_patches, require_place, require_vouched
from detectors.contract import DetectorState, Maps, Mask, Neighbour, Parts, Patches
from detectors.errors import ArtifactError, InvalidInput
from detectors.maps import Scores, image_scores
from detectors.neighbours import NearestNeighbours

SUSPICION = 2.5
"""Robust standard deviations (of the logarithm of the image score) above the middle of most images from which an image
is a suspect.
"""

LEAST_SPREAD = 0.01
"""Relative spread of image scores below which nobody is suspect for being off by a rounding error."""

NEIGHBOURS = (1, 2, 3, 5, 9, 16, 30)
"""Numbers of neighbours that a batch chooses from."""

ROUNDS = 2
"""How often the bank is cleaned of the images that look worst, and all images are scored again."""

TRUSTED = 2 / 3
"""Share of the images, the ones that look most normal, that the cleaned bank is drawn from."""

ROWS_AN_IMAGE = 32
SUBSAMPLE = range(2000, 8001)
"""A batch is ranked against `ROWS_AN_IMAGE` patches of each image, within these bounds in total."""

VOUCHED_QUANTILE = 0.98
"""Patches of a vouched image beyond this quantile of all normal patches stand out: the bank alone would flag them again."""

ORIGIN = ("image", "row", "column")


class PatchCluster:
    """Scores a patch by its mean distance to its K nearest patches of *other* images: normal patches lie in dense
    clusters.

    A blind fit ranks the batch against a seeded random `subsample` of its patches, as many from each image. Then it
    cleans, `ROUNDS` times: the bank is drawn again from the two thirds of the images that look most normal (`TRUSTED`),
    and all images are scored again, each without the patches of its own part. Those that stand out from most
    (`SUSPICION`) are suspects; the final bank (at most `bank` rows, as many from each image) comes from all others. New
    images are scored against that bank by the same mean distance.

    *The number of neighbours* (`neighbours` None) is chosen in every round, without labels: of `NEIGHBOURS`, the one
    under which the logarithms of the image scores spread most. Good parts differ from each other by about the same
    factor whatever K is; what more there is to the spread are parts that differ for a reason. Too small a K lets bad
    parts vouch for each other (they find their like), too large a K reaches from a small cluster into the next: both
    bring bad parts nearer to good ones. The choice and its worst case are measured in `docs/detectors.md`, as is the
    cleaning: a fixed share does not ask how many are bad, and two thirds keep the rare kinds of good parts in the bank
    where a half loses them.

    *The subsample* (`subsample` None) has `ROWS_AN_IMAGE` rows an image within `SUBSAMPLE`: what other draws of the same
    size change in the ranking is then less than what K changes, and time grows with the batch no faster than it must.

    *Vouched images* are those that a person called normal: never suspects, and each of their patches that stands out gets
    K rows in the bank, for its mean distance to be that to the patch itself: one person's word counts as much as K
    parts that look like it.

    *Differences from the paper.* There K is about 100 and given; it ranks one fixed set of images, here the cleaned set
    becomes a bank that scores images to come. The ranking is made in principal components. Nobody vouches.

    >>> patches = np.random.default_rng(0).normal(size=(6, 4, 4, 3)).astype(np.float32)
    >>> patches[4, 1, 2] += 30
    >>> detector = PatchCluster(bank=50).fit(patches)
    >>> detector.suspects().nonzero()[0].tolist()
    [4]
    >>> detector.anomaly_maps(patches[:2]).shape
    (2, 4, 4)
    """

    name = "patchcluster"

    def __init__(
        self, *, bank: int = 4000, neighbours: int | None = None, subsample: int | None = None, seed: int = 0
    ) -> None:
        for what, value in (("bank", bank), ("neighbours", neighbours), ("subsample", subsample)):
            if value is not None and value < 1:
                raise InvalidInput(f"{what} {value}; give 1 or more")
        fewest = min(bank, subsample or bank)
        if neighbours is not None and neighbours > fewest:
            raise InvalidInput(f"{neighbours} neighbours from a bank of {fewest} rows; give more rows")
        if seed < 0:
            raise InvalidInput(f"seed {seed}; give 0 or more")
        self.bank = bank
        self.neighbours = neighbours
        self.subsample = subsample
        self.seed = seed
        self._chosen = (neighbours or 1, subsample or 1)
        self._bank: _Bank | None = None
        self._left_out_BHW: Maps | None = None
        self._suspects_B: Mask | None = None
        self._ranking_B: Scores | None = None

    def fit(self, patches_BHWD: Patches, parts_B: Parts | None = None, vouched_B: Mask | None = None) -> Self:
        """Fit blind on recent images, good and bad, of at least 2 parts; raises InvalidInput for other or non-finite
        features.
        """
        parts_B = require_fit(patches_BHWD, parts_B)
        vouched_B = require_vouched(patches_BHWD, vouched_B)
        count = len(patches_BHWD)
        rng = np.random.default_rng(self.seed)
        rows = self.subsample or min(max(ROWS_AN_IMAGE * count, SUBSAMPLE[0]), SUBSAMPLE[-1])
        logs_B, neighbours = self._ranked(patches_BHWD, parts_B, rows, rng)
        suspects_B = _suspects(logs_B) & ~vouched_B
        origin_M3 = _balanced(np.flatnonzero(~suspects_B), patches_BHWD.shape[1:3], self.bank, rng)
        bank = _Bank(_rows(patches_BHWD, origin_M3), origin_M3)
        left_out_BHW = _left_out(patches_BHWD, parts_B, bank, neighbours)
        if vouched_B.any():
            origin_V3 = _standing_out(left_out_BHW, vouched_B, suspects_B, self.bank // neighbours)
            origin_M3 = np.concatenate([origin_M3, np.repeat(origin_V3, neighbours, axis=0)])
            bank = _Bank(_rows(patches_BHWD, origin_M3), origin_M3)
            left_out_BHW = _left_out(patches_BHWD, parts_B, bank, neighbours)
        self._chosen = (neighbours, rows)
        self._left_out_BHW = left_out_BHW
        self._suspects_B, self._ranking_B, self._bank = suspects_B, np.exp(logs_B), bank
        return self

    def _ranked(self, patches_BHWD: Patches, parts_B: Parts, rows: int, rng: np.random.Generator) -> tuple[Scores, int]:
        """Logarithm of the image scores against a cleaned bank, `(B,)`, and the number of neighbours they came from."""
        points_BPC = reduced(patches_BHWD, rng)
        candidates = NEIGHBOURS if self.neighbours is None else (self.neighbours,)
        counts = [each for each in candidates if each <= min(self.bank, rows)]
        trusted = np.arange(len(points_BPC))
        for last in [False] * ROUNDS + [True]:
            origin_M3 = _balanced(trusted, patches_BHWD.shape[1:3], rows, rng)
            cells_M = origin_M3[:, 1] * patches_BHWD.shape[2] + origin_M3[:, 2]
            means_KBP = mean_distances(
                points_BPC, points_BPC[origin_M3[:, 0], cells_M], parts_B, parts_B[origin_M3[:, 0]], counts
            )
            logs_KB = np.log(np.maximum(_peaks(means_KBP, patches_BHWD.shape[1:3]), np.finfo(np.float32).tiny))
            best = int(logs_KB.std(axis=1).argmax())
            if last:
                break
            kept = max(2, math.ceil(TRUSTED * len(points_BPC)))
            trusted = np.sort(np.argsort(logs_KB[best], kind="stable")[:kept])
        return logs_KB[best], counts[best]

    def anomaly_maps(self, patches_BHWD: Patches) -> Maps:
        """Mean distance of every patch to its K nearest bank rows, `maps_BHW`; raises InvalidInput before a fit."""
        require_patches(patches_BHWD)
        index = self._fitted().index
        queries_ND = np.ascontiguousarray(patches_BHWD.reshape(-1, patches_BHWD.shape[3]))
        return _mean_distances(index, queries_ND, self._chosen[0]).reshape(patches_BHWD.shape[:3])

    def left_out_maps(self) -> Maps:
        """Maps of the images of the fit against the final bank, each without its own part's rows, `maps_BHW`."""
        if self._left_out_BHW is None:
            raise InvalidInput(
                "left-out maps exist on the fitted instance only, not on one restored from its state; fit again"
            )
        return self._left_out_BHW.copy()

    def suspects(self) -> Mask:
        """Which images of the fit look bad, `(B,)`: they gave the final bank no rows."""
        if self._suspects_B is None:
            raise InvalidInput(
                "suspects exist on the fitted instance only, not on one restored from its state; fit again"
            )
        return self._suspects_B.copy()

    def ranking(self) -> Scores:
        """Image scores of the fit against the images that look most normal, `(B,)`: to rank by, on a scale of their own.

        Where many images are bad this ranks better than `left_out_maps`, whose bank holds all but the suspects.
        """
        if self._ranking_B is None:
            raise InvalidInput("a ranking exists on the fitted instance only, not on one restored; fit again")
        return self._ranking_B.copy()

    def nearest(self, patches_HWD: Patches, row: int, column: int) -> Neighbour | None:
        """The bank row nearest to the patch at `row`, `column`; raises InvalidInput for a patch that is not on the
        grid.
        """
        require_patches(patches_HWD[None])
        require_place(patches_HWD.shape[:2], row, column)
        bank = self._fitted()
        distances_1K, rows_1K = bank.index.search(np.ascontiguousarray(patches_HWD[row, column][None]), 1)
        image, bank_row, bank_column = (int(each) for each in bank.origin_M3[rows_1K[0, 0]])
        return Neighbour(image=image, row=bank_row, column=bank_column, distance=float(distances_1K[0, 0]))

    def state(self) -> DetectorState:
        """Parameters as they were chosen, bank `(M, D)` and where on which image of the fit each row comes from `(M, 3)`."""
        bank = self._fitted()
        return DetectorState(
            parameters={
                "bank": self.bank,
                "neighbours": self._chosen[0],
                "subsample": self._chosen[1],
                "seed": self.seed,
            },
            tensors={"bank": bank.bank_MD.copy(), "origin": bank.origin_M3.copy()},
        )

    @classmethod
    def from_state(cls, state: DetectorState) -> Self:
        """The detector that `state` came from; raises ArtifactError if the state is not one of PatchCluster."""
        try:
            numbers = {key: state.parameters[key] for key in ("bank", "neighbours", "subsample", "seed")}
            bank_MD, origin_M3 = state.tensors["bank"], state.tensors["origin"]
        except KeyError as error:
            raise ArtifactError(f"no {error} in the state of a patchcluster; publish the version again") from error
        if not all(type(value) is int for value in numbers.values()):
            raise ArtifactError(
                f"parameters of a patchcluster must be whole numbers, not {numbers}; publish the version again"
            )
        if bank_MD.ndim != 2 or len(bank_MD) == 0 or origin_M3.shape != (len(bank_MD), len(ORIGIN)):
            raise ArtifactError(
                f"bank {bank_MD.shape} and origin {origin_M3.shape} do not agree; publish the version again"
            )
        try:
            detector = cls(**{key: int(value) for key, value in numbers.items()})
            detector._bank = _Bank(bank_MD.astype(np.float32), origin_M3.astype(np.int32))
        except InvalidInput as error:
            raise ArtifactError(f"not the state of a patchcluster: {error}") from error
        return detector

    def _fitted(self) -> "_Bank":
        if self._bank is None:
            raise InvalidInput("this patchcluster has no bank yet; fit it or restore it from a state")
        return self._bank


class _Bank:
    """The rows that new images are compared with, and where each comes from: (image of the fit, row, column)."""

    def __init__(self, bank_MD: Patches, origin_M3: NDArray[np.int32]) -> None:
        self.bank_MD = bank_MD
        self.origin_M3 = origin_M3
        self.index = NearestNeighbours(bank_MD)


def _balanced(
    images: NDArray[np.int64], grid: tuple[int, int], rows: int, rng: np.random.Generator
) -> NDArray[np.int32]:
    """At most `rows` random patches, as many from each of the images, as (image, row, column), ordered by image, `(M,
    3)`.
    """
    patches = grid[0] * grid[1]
    each = min(patches, max(1, rows // len(images)))
    chosen = np.sort(rng.permutation(images)[:rows])
    picked = [np.sort(rng.choice(patches, each, replace=False)) for _ in chosen]
    cells = np.concatenate(picked)
    return np.stack([np.repeat(chosen, each), cells // grid[1], cells % grid[1]], axis=1).astype(np.int32)


def _standing_out(maps_BHW: Maps, vouched_B: Mask, suspects_B: Mask, most: int) -> NDArray[np.int32]:
    """The patches of vouched images that other images do not explain, at most `most`, worst first, `(V, 3)` as (image, row, column)."""
    ordinary_BHW = maps_BHW[~suspects_B & ~vouched_B] if (~suspects_B & ~vouched_B).any() else maps_BHW
    excess_BHW = np.where(vouched_B[:, None, None], maps_BHW - np.quantile(ordinary_BHW, VOUCHED_QUANTILE), -np.inf)
    worst_V = np.argsort(-excess_BHW, axis=None, kind="stable")[: min(most, int((excess_BHW > 0).sum()))]
    return np.stack(np.unravel_index(worst_V, excess_BHW.shape), axis=1).astype(np.int32)


def _rows(patches_BHWD: Patches, origin_M3: NDArray[np.int32]) -> Patches:
    return np.ascontiguousarray(patches_BHWD[origin_M3[:, 0], origin_M3[:, 1], origin_M3[:, 2]])


def _left_out(patches_BHWD: Patches, parts_B: Parts, bank: "_Bank", neighbours: int) -> Maps:
    """Maps of all images against the bank, each image without the rows of its own part, `maps_BHW`."""
    count, height, width, dimensions = patches_BHWD.shape
    maps_BHW = np.empty((count, height, width), np.float32)
    for image in range(count):
        own_M = parts_B[bank.origin_M3[:, 0]] == parts_B[image]
        if own_M.all():
            raise InvalidInput(
                f"only the part of image {image} is left for the bank; give more images, or a bank of more rows"
            )
        queries_PD = patches_BHWD[image].reshape(-1, dimensions)
        maps_BHW[image] = _mean_distances(bank.index, queries_PD, neighbours, own_M).reshape(height, width)
    return maps_BHW


def _mean_distances(
    index: NearestNeighbours, queries_ND: Patches, neighbours: int, own_M: Mask | None = None
) -> Patches:
    """Patch score of the paper: the mean distance to the K nearest rows (to all of them where fewer are left), `(N,)`."""
    left = index.rows - (0 if own_M is None else int(np.count_nonzero(own_M)))
    distances_NK, _ = index.search(queries_ND, min(neighbours, left), without_M=own_M)
    mean: Patches = distances_NK.mean(axis=1)
    return mean


def _peaks(means_KBP: Patches, grid: tuple[int, int]) -> Scores:
    """Image scores for each number of neighbours, `(K, B)`."""
    return np.stack([image_scores(means_BP.reshape(-1, *grid)) for means_BP in means_KBP])


def _suspects(logs_B: Scores) -> Mask:
    """Images whose score stands out from most, on a logarithmic scale, `(B,)`; never half of them."""
    middle, spread = shortest_half(logs_B)
    suspects: Mask = logs_B > middle + SUSPICION * max(spread, LEAST_SPREAD)
    return suspects
