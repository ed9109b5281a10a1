"""What a candidate must show before it may serve: each gate by its name, and how one is asked. A gate that cannot be evaluated fails.

Candidate and champion are shown the same frozen images: those of the training set that were held out of the fit, and of the line's golden
set those that show the line as it is now. `docs/retraining-gates.md` has the table.
"""

import logging
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from detectors.errors import Unavailable
from orchestration.evidence import Evidence
from orchestration.gate_calibration import drift_can_be_watched, reference_holds, threshold_holds
from orchestration.gate_champion import agrees_where_nothing_changed, differs_from_champion, latency_and_size
from orchestration.gate_defects import finds_drawn_defects, finds_known_defects
from orchestration.gate_list import GATE_DESCRIPTIONS
from orchestration.judgement import Judgement, of_number

Gate = Callable[[Evidence], Judgement]

_log = logging.getLogger(__name__)


def line_is_sound(evidence: Evidence) -> Judgement:
    """No surge of defects came up while the candidate was made: it would have learnt that bad parts are normal.

    A surge beside a change of light shows only after a hundred images or so, when a request may be under way already.
    """
    looked = evidence.look()
    found = ", ".join(looked.found)
    words = (
        f"{found} is open: say of the drift that it is expected, or ask by hand"
        if found
        else "nothing but the line's drift is open"
    )
    words += f" ({looked.words})" if looked.words else ""
    return of_number("line_is_sound", len(looked.found), 0, words, passed=not found)


_JUDGES: Mapping[str, Gate] = {
    each.__name__: each
    for each in (
        differs_from_champion,
        threshold_holds,
        reference_holds,
        drift_can_be_watched,
        latency_and_size,
        finds_known_defects,
        finds_drawn_defects,
        agrees_where_nothing_changed,
        line_is_sound,
    )
}

GATES: Mapping[str, Gate] = MappingProxyType({name: _JUDGES[name] for name in GATE_DESCRIPTIONS})
"""Every gate of the list, by name."""


def judge(name: str, gathered: Callable[[], Evidence]) -> Judgement:
    """What a gate finds in the evidence; one that cannot be evaluated has failed, and says why (value NaN).

    Raises Unavailable, which is no fault of the candidate: the run is tried again.
    """
    try:
        found = GATES[name](gathered())
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001  the gates' one broad except: whatever goes wrong, the candidate does not pass
        _log.warning("gate %s cannot be evaluated", name, exc_info=True)
        return _unevaluated(name, f"{type(error).__name__}: {error}")
    if not (math.isfinite(found.value) and math.isfinite(found.limit)):
        return _unevaluated(name, f"value {found.value}, limit {found.limit}: {found.words}")
    return found


def _unevaluated(name: str, why: str) -> Judgement:
    words = f"cannot be evaluated, so the candidate is refused: {why}"
    return of_number(name, math.nan, 0.0, words, passed=False)
