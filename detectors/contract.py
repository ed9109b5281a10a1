"""The one contract every detector keeps, whatever its algorithm.

Shape legend: B images, H x W patch grid, D feature dimensions, M memory-bank rows.
Scores: higher = more anomalous, always.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

Patches = NDArray[np.float32]
"""Patch features of a batch, `patches_BHWD`."""

Parts = NDArray[np.int64]
"""Which part each image of a batch shows, `parts_B`: images of one number show the same part again."""

Mask = NDArray[np.bool_]
"""Which images of a batch, `(B,)`."""

Maps = NDArray[np.float32]
"""Patch anomaly maps of a batch, `maps_BHW`: one non-negative distance a patch."""


@dataclass(frozen=True)
class DetectorState:
    """A fitted detector as plain data: what the artefact stores (no pickle).

    `parameters` go to the manifest as JSON, `tensors` to a safetensors file.
    """

    parameters: Mapping[str, int | float | str | bool]
    tensors: Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Neighbour:
    """The nearest normal patch of a patch: which training image (index in the fit) and where on its grid."""

    image: int
    row: int
    column: int
    distance: float


class Detector(Protocol):
    """An anomaly detector on patch features.

    The constructor stores parameters, `fit` computes. Scores of an image never depend on the batch it comes in.
    """

    @property
    def name(self) -> str:
        """The detector's name on the command line: `patchcore`, `patchcluster`, ..."""

    def fit(self, patches_BHWD: Patches, parts_B: Parts | None = None, vouched_B: Mask | None = None) -> Self:
        """Fit on the patch features of normal (or, for a blind detector, recent) images and return self.

        Where parts appear more than once, `parts_B` says which: all images teach, none vouches for its own part.
        `vouched_B`: images that people called normal, which a blind detector learns however odd they look; the others take
        every image for normal.
        """

    def anomaly_maps(self, patches_BHWD: Patches) -> Maps:
        """Distance of every patch to normality, `maps_BHW`."""

    def left_out_maps(self) -> Maps:
        """Maps of the images of the fit themselves, each with all images of its own part left out, `maps_BHW`.

        Only available on the instance that was fitted, not on one restored from its state.
        """

    def suspects(self) -> Mask:
        """Which images of the fit look bad, `(B,)`: they gave the bank no rows. All False for a one-class detector."""

    def nearest(self, patches_HWD: Patches, row: int, column: int) -> Neighbour | None:
        """The nearest normal patch of one patch; None where the algorithm keeps no training patches."""

    def state(self) -> DetectorState:
        """The fitted detector as plain data."""

    @classmethod
    def from_state(cls, state: DetectorState) -> Self:
        """The detector that `state` came from; raises ArtifactError if the state is not one of this class."""
