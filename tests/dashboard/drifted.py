"""A line that changed four times: its light once (closed, a new model came of it) and again (open, little by little), dirt in
the top left of its lens, and a surge of bad parts. A real ledger, registry and store.
"""

import hashlib

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.manifest import DriftReference
from detectors.maps import REGIONS
from detectors.objects import image_key
from streams.messages import DriftIncident, RetrainRequest, Signals, Verdict
from streams.perturbation import Perturbation, apply
from streams.rendered import RenderedLine
from streams.rendered_defects import DEFECTS
from tests.dashboard.installation import LINE, Installation, carry_out, png, publish, request, serving, verdict

RATE = 0.5
IMAGES = 440
LIGHT, SWAP, SMUDGE, SURGE, DIMMING = 80, 150, 220, 300, 360
"""The image at which each change begins; a new model is in service from SWAP."""
NOTICED = {LIGHT: 92, SMUDGE: 226, SURGE: 324, DIMMING: 408}
CLOSED, SMUDGED, SURGED, DIMMED = "closed-light", "smudge", "surge", "dimming"
RUN_LENGTH = 10_000


def reference(mean: float, rng: np.random.Generator) -> DriftReference:
    """Of 60 normal images at a brightness."""
    normal = [_signals(rng, mean=mean) for _ in range(60)]
    names = ("peak", "bulk", "mean", "contrast", "sharpness")
    columns = {name: tuple(getattr(each, name) for each in normal) for name in names}
    return DriftReference(**columns, regions=tuple(each.regions for each in normal))


def tell_of_drift(here: Installation, *, now: float, pictures: bool = True) -> None:
    """Everything of the line until `now`; the `pictures` before and after each change take a second or two."""
    rng = np.random.default_rng(5)
    start = now - IMAGES / RATE
    publish(here, LINE, reference=reference(110.0, rng))
    publish(here, LINE, parent=1, request_id="request-1", reference=reference(126.0, rng))
    here.registry.promote(LINE, 1)
    here.registry.promote(LINE, 2)
    pictured = {image for change, alarm in NOTICED.items() for image in (change - 1, change, alarm)}
    keys = {number: _picture(here, number, at=now) for number in sorted(pictured) if pictures}
    lived = [_lived(number, start + number / RATE, keys.get(number), rng) for number in range(IMAGES)]
    here.ledger.record([serving(LINE, 1, at=start - 1), serving(LINE, 2, at=start + SWAP / RATE)])
    here.ledger.record(lived)
    here.ledger.record(_incidents(start))
    here.ledger.record([_asked(start)])
    carry_out(here, LINE, at=start + (SWAP - 10) / RATE, version=2)


def old_incident(*, at: float, **changes: object) -> DriftIncident:
    """One as they were before they said where, how sure and why."""
    plain = DriftIncident(
        line=LINE, incident_id="old", kind="covariate_drift", state="opened", version=1, signal="bulk",
        test="page-hinkley", reference=1.0, observed=1.4, effect=2.9, since_image_id="part-10",
        alarm_image_id="part-20", after_images=20, at=at,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def _asked(start: float) -> RetrainRequest:
    made = request(LINE, at=start + NOTICED[LIGHT] / RATE)
    return msgspec.structs.replace(made, incident_id=CLOSED)


def _incidents(start: float) -> list[DriftIncident]:
    def at(number: int) -> float:
        return start + number / RATE

    def incident(name: str, change: int, **more: object) -> DriftIncident:
        alarm = NOTICED[change]
        known = old_incident(
            at=at(alarm), incident_id=name, since_image_id=f"part-{change}", before_image_id=f"part-{change - 1}",
            alarm_image_id=f"part-{alarm}", after_images=alarm, run_length=RUN_LENGTH, shape="step",
        )  # fmt: skip
        return msgspec.structs.replace(known, **more)

    everywhere = tuple(np.round(np.linspace(1.1, 2.4, REGIONS**2), 1).tolist())
    corner = (9.2, 7.9, 0.4, -0.2, 8.1, 5.4, 0.2, 0.1, 0.3, 0.2, -1.3, 0.0, 0.1, -0.2, 0.1, 0.3)
    return [
        incident(
            CLOSED, LIGHT, state="closed", at=at(SWAP) + 1, signal="mean", reference=110.0, observed=126.0, effect=5.2,
            confidence=0.999, evidence=("median of mean moved by +5.2 sd over 13 images",), where=everywhere,
            place="everywhere", reason="version 2 judges the line",
        ),
        incident(
            SMUDGED, SMUDGE, state="growing", at=at(SMUDGE + 60), version=2, signal="bulk@r1c1", reference=1.0,
            observed=1.46, effect=9.2, after_images=NOTICED[SMUDGE] - SWAP, confidence=0.97, where=corner,
            evidence=("median of bulk@r1c1 moved by +9.2 sd over 7 images",), place="top left", sequence=1,
        ),
        incident(
            SURGED, SURGE, kind="defect_surge", version=2, signal="flagged", reference=0.05, observed=0.36, effect=1.4,
            after_images=NOTICED[SURGE] - SWAP, confidence=0.98, where=tuple(each / 8 for each in corner),
            evidence=("9 of 25 images far above the median of their peaks",), place="nowhere in particular",
        ),
        incident(
            DIMMED, DIMMING, state="reopened", version=2, signal="mean", reference=126.0, observed=113.5, effect=-4.1,
            after_images=NOTICED[DIMMING] - SWAP, confidence=0.93, shape="ramp", where=everywhere, place="everywhere",
            evidence=("median of mean moved by -4.1 sd over 49 images",), sequence=2,
        ),
    ]  # fmt: skip


def _lived(number: int, at: float, key: str | None, rng: np.random.Generator) -> Verdict:
    bad = number % 20 == 7 or (number >= SURGE and number % 3 == 0)
    corner = 0.46 if number >= SMUDGE else 0.0
    signals = _signals(rng, mean=_brightness(number), corner=corner, peak=1.4 if bad else 0.0)
    made = verdict(LINE, number, at=at, version=1 if number < SWAP else 2, score=signals.peak)
    key = made.image_key if key is None else key
    return msgspec.structs.replace(made, signals=signals, image_key=key)


def _brightness(number: int) -> float:
    if number < LIGHT:
        return 110.0
    return 126.0 - 18.0 * max(0, number - DIMMING) / (IMAGES - DIMMING)


def _signals(rng: np.random.Generator, *, mean: float, corner: float = 0.0, peak: float = 0.0) -> Signals:
    regions = rng.normal(1.0, 0.05, REGIONS**2)
    regions[[0, 1, REGIONS, REGIONS + 1]] += corner
    return Signals(
        peak=float(rng.gamma(40, 1.1 / 40)) + peak,
        bulk=float(np.median(regions)),
        mean=float(rng.normal(mean, 3.0)),
        contrast=float(rng.normal(30.0, 1.0)),
        sharpness=float(rng.normal(9.0, 0.5)),
        regions=tuple(regions.tolist()),
    )


def _picture(here: Installation, number: int, *, at: float) -> str:
    """Image `number` as the camera saw it."""
    defect = next(iter(DEFECTS)) if number == NOTICED[SURGE] else None
    light = _brightness(number) / 110.0
    seen = Perturbation(light=light, smudge=0.25 if number >= SMUDGE else 0.0)
    data = png(_taken(number, defect, seen))
    key = image_key(LINE, hashlib.sha256(data).hexdigest(), at=at, suffix="png")
    here.store.put(key, data)
    return key


def _taken(number: int, defect: str | None, seen: Perturbation) -> NDArray[np.uint8]:
    return apply(RenderedLine(seed=7).image(number, defect=defect), seen, rng=np.random.default_rng(number))
