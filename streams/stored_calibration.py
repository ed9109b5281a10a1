"""A calibration kept with its version: what a bootstrap of seconds found, so that the watcher need not find it again.

Kept is what cannot be computed at once (`detectors.manifest.DriftCalibration`); the rest of a `Calibration` follows from the reference.
One that is broken, of another reference or of another method is ignored, in words: then the watcher calibrates by itself.
"""

import hashlib
import logging
import time

import msgspec
import numpy as np

from detectors.errors import InvalidInput
from detectors.manifest import NO_CALIBRATION, DriftCalibration, DriftReference
from streams import bootstrap, calibrating
from streams.bootstrap import Array, Thresholds
from streams.calibrating import Calibration, calibrate, calibration_of, reference_table

METHOD = 1
"""Counts changes of the code in `streams.calibrating` and `streams.bootstrap` that change thresholds."""

_log = logging.getLogger(__name__)


def method() -> str:
    """What thresholds come from: `METHOD`, and a digest of every constant of those two modules, which nobody has to count.

    >>> method() == method()
    True
    """
    constants = {
        f"{module['__name__']}.{name}": value
        for module in (vars(bootstrap), vars(calibrating))
        for name, value in module.items()
        if name.isupper()
    }
    told = msgspec.json.encode(constants, enc_hook=lambda array: array.tolist(), order="deterministic")
    return f"{METHOD}-{hashlib.sha256(told).hexdigest()[:12]}"


def calibrated(reference: DriftReference, *, seed: int) -> DriftCalibration | None:
    """The calibration of a version that is being made; None, with a warning, where its reference can carry none."""
    began = time.perf_counter()
    try:
        names, table_NS = reference_table(reference)
    except InvalidInput as error:
        _log.warning("the version is stored without a calibration, and its drift cannot be watched: %s", error)
        return None
    stored = stored_of(calibrate(names, table_NS, seed=seed), table_NS, seed=seed)
    _log.info("drift thresholds of %d signals: %.1f s", len(names), time.perf_counter() - began)
    return stored


def stored_of(calibration: Calibration, reference_NS: Array, *, seed: int) -> DriftCalibration:
    """A calibration as it is kept, with the digest that says whose it is."""
    known = calibration.known
    bare = DriftCalibration(
        method=method(),
        names=calibration.names,
        seed=seed,
        correlation=tuple(calibration.correlation.tolist()),
        start=_rows(known.start),
        length=_rows(known.length),
        levels=known.levels,
    )
    return msgspec.structs.replace(bare, sha256=_digest(bare, reference_NS))


def restored(raw: msgspec.Raw, reference: DriftReference) -> Calibration | None:
    """The calibration kept in a manifest; None where there is none, and, with a warning, where it does not fit.

    Raises InvalidInput for a reference that can carry none.
    """
    names, table_NS = reference_table(reference)
    if raw == NO_CALIBRATION:
        return None
    try:
        return _read(raw, names, table_NS)
    except InvalidInput as error:
        _log.warning("the stored calibration is not used, the version is calibrated anew: %s", error)
        return None


def in_words(raw: msgspec.Raw, reference: DriftReference) -> str:
    """What the manifest of a version says of its drift watch, for people.

    >>> few = DriftReference(peak=(1.0,), bulk=(1.0,), mean=(1.0,), contrast=(1.0,), sharpness=(1.0,))
    >>> in_words(NO_CALIBRATION, few)
    'not watched: drift reference of 1 images: at least 10 are needed to tell chance from change; fit the model on more images'
    """
    try:
        names, table_NS = reference_table(reference)
    except InvalidInput as error:
        return f"not watched: {error}"
    of = f"{len(names)} signals, reference of {len(table_NS)} images"
    if raw == NO_CALIBRATION:
        return f"{of}, thresholds found by the watcher"
    try:
        _read(raw, names, table_NS)
    except InvalidInput as error:
        return f"{of}, stored thresholds not used: {error}"
    return f"{of}, thresholds stored"


def _read(raw: msgspec.Raw, names: tuple[str, ...], table_NS: Array) -> Calibration:
    """The stored calibration; raises InvalidInput where it does not fit the reference."""
    try:
        stored = msgspec.json.decode(raw, type=DriftCalibration)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"it cannot be read: {error}") from error
    if stored.method != method():
        raise InvalidInput(f"it is of method {stored.method}, this program's is {method()}")
    if stored.names != names:
        raise InvalidInput(f"it is of the signals {', '.join(stored.names)}, the reference has {', '.join(names)}")
    if stored.sha256 != _digest(stored, table_NS):
        raise InvalidInput("it belongs to another reference, or was changed")
    _check_numbers(stored)
    known = Thresholds(np.array(stored.start), np.array(stored.length), stored.levels)
    return calibration_of(names, table_NS, np.array(stored.correlation), known)


def _check_numbers(stored: DriftCalibration) -> None:
    """Raise InvalidInput for numbers that are no thresholds, whoever wrote them."""
    signals = len(stored.names)
    lengths = [len(stored.correlation), *(len(row) - 1 for row in (*stored.start, *stored.length))]
    if set(lengths) != {signals}:
        raise InvalidInput(f"it has thresholds of {lengths} signals, the reference {signals}")
    (short, low), (long, high) = stored.levels
    if not np.isfinite([*stored.correlation, *stored.start[0], *stored.start[1], low, high]).all():
        raise InvalidInput("it has numbers that are not finite")
    if not (
        1 <= short < long < np.inf and low <= high and all(0 < each < np.inf for row in stored.length for each in row)
    ):
        raise InvalidInput(f"its levels {stored.levels} do not rise with the run length, or a tail has no length")


def _rows(array_2W: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    fast, slow = array_2W.tolist()
    return tuple(fast), tuple(slow)


def _digest(stored: DriftCalibration, reference_NS: Array) -> str:
    numbers = msgspec.json.encode(msgspec.structs.replace(stored, sha256=""))
    return hashlib.sha256(numbers + np.ascontiguousarray(reference_NS, dtype="<f8").tobytes()).hexdigest()
