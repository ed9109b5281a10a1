"""The gates that a candidate passes through, in order, and what each asks: the one list of them. Light: imports nothing."""

from collections.abc import Mapping
from types import MappingProxyType

GATE_DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "differs_from_champion": "Something would change: the candidate is not the champion once more.",
        "threshold_holds": "The threshold flags no more of the held-out images, and of reviewed normals, than its rate allows.",
        "reference_holds": "The drift reference describes images that were left out of the fit.",
        "drift_can_be_watched": "The drift reference is long enough and its alarm thresholds are stored.",
        "latency_and_size": "One image is scored fast enough and the artefact is small enough, also beside the champion.",
        "finds_known_defects": "Reviewed defects of the line as it is now, or drawn ones, are found, no worse than by the champion.",
        "finds_drawn_defects": "Defects drawn into recent images are found, no worse than by the champion.",
        "agrees_where_nothing_changed": "Where the line did not change, candidate and champion judge its normal images alike.",
        "line_is_sound": "No surge of defects came up while the candidate was made.",
    }
)
