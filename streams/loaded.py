"""A model in memory, as the scorer uses it."""

from dataclasses import dataclass

from detectors.model import Model
from detectors.registry import OperatingPoint


@dataclass(frozen=True)
class Serving:
    """A model that scores: its version, the fitted model, the operating point in force, and what its detector takes of memory."""

    version: int
    model: Model
    operating_point: OperatingPoint
    held_bytes: int
