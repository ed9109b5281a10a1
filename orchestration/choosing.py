"""Which of the four detectors a line gets that asks for `auto`: the one that the gate finds best on the images held out."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from detectors.errors import InvalidInput
from detectors.model import BLIND, Model
from orchestration.evidence import Evidence, Images
from orchestration.gate_defects import finds_drawn_defects
from streams.causes import TRUSTED
from streams.settings import LineConfig

AUTO = "auto"
OF_TRUSTED = "patchcore"
CANDIDATES = ("patchcluster", "patchcore", "padim", "dfkde")
"""In the order in which they are preferred where the gate cannot tell them apart."""

LEAST_GAIN = 0.005
"""Of the gate's score, for which a less preferred detector is taken."""


def detectors_for(config: LineConfig, mode: str) -> tuple[str, ...]:
    """The detectors to try: the configured one; all for `auto`; no blind one on images that are known to be normal.

    >>> detectors_for(LineConfig(detector="patchcluster"), "trusted")
    ('patchcore',)
    """
    wanted = CANDIDATES if config.detector == AUTO else (config.detector,)
    if mode != TRUSTED:
        return wanted
    return tuple(each for each in wanted if each not in BLIND) or (OF_TRUSTED,)


def best_of(names: Iterable[str], fit: Callable[[str], Model], held_out: Callable[[], Images]) -> Model:
    """The model that finds drawn defects best (`finds_drawn_defects`), with notes that say what each found; a single one is not judged.

    A detector that cannot be fitted (its memory, say) is noted and passed over. Raises InvalidInput where none can be.
    """
    first, *others = names
    if not others:
        return fit(first)
    best: tuple[float, Model] | None = None
    notes: list[str] = []
    for name in (first, *others):
        try:
            model = fit(name)
        except InvalidInput as error:
            notes.append(f"{name} could not be fitted: {error}")
            continue
        value = finds_drawn_defects(Evidence(candidate=model, champion=None, held_out=held_out(), files={})).value
        notes.append(f"{name}: drawn defects found with AUROC {value:.3f}")
        if best is None or value > best[0] + LEAST_GAIN:
            best = (value, model)
    if best is None:
        raise InvalidInput(f"no detector can be fitted: {'; '.join(notes)}")
    return replace(best[1], notes=(*best[1].notes, f"chosen: {best[1].detector.name}", *notes))
