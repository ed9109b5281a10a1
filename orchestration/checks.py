"""The gates as blocking asset checks of the candidate: one that fails keeps the version from being published."""

import math

import dagster as dg

from orchestration.assets import candidate
from orchestration.gate_list import GATE_DESCRIPTIONS
from orchestration.resources import Installation

KEYS_SHOWN = 20
LAST = {"dagster/priority": "-1"}
"""Of the gate that may wait for the line: the others are judged meanwhile."""


def _gate_check(name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=candidate,
        name=name,
        blocking=True,
        description=GATE_DESCRIPTIONS[name],
        op_tags=LAST if name == "line_is_sound" else None,
    )
    def check(context: dg.AssetCheckExecutionContext, installation: Installation) -> dg.AssetCheckResult:
        retrain = installation.retrain(context.run)
        gate = retrain.judge(name)
        numbers = {} if math.isnan(gate.value) else {"value": gate.value, "limit": gate.limit}
        keys = {"image keys": list(gate.keys)} if 0 < len(gate.keys) <= KEYS_SHOWN else {}
        metadata: dict[str, dg.MetadataValue | float | int | str | list[str]] = {
            **numbers,
            "in words": gate.words,
            "images": len(gate.keys),
            **keys,
        }
        return dg.AssetCheckResult(passed=gate.passed, metadata=metadata)

    return check


gate_checks = [_gate_check(name) for name in GATE_DESCRIPTIONS]
