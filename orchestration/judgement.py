"""What a gate found, and by which images."""

from collections.abc import Iterable
from dataclasses import dataclass

from streams.ledger import GateResult


@dataclass(frozen=True)
class Judgement(GateResult):
    """A gate's result with the keys of the images that it looked at."""

    keys: tuple[str, ...] = ()


def of_number(
    name: str, value: float, limit: float, words: str, *, passed: bool, keys: Iterable[str] = ()
) -> Judgement:
    """The judgement of a gate that compared one number with its limit.

    >>> of_number("threshold_holds", 1, 2, "1 of 8 flagged", passed=True, keys=["a"]).keys
    ('a',)
    """
    return Judgement(name=name, passed=passed, value=float(value), limit=float(limit), words=words, keys=tuple(keys))
