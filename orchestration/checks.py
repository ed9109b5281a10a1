"""The gates as blocking asset checks of the candidate: one that fails keeps the version from being published."""

import dagster as dg

from orchestration.assets import candidate
from orchestration.resources import Installation
from streams.ledger import GateResult

GATE_DESCRIPTIONS = {
    "threshold_holds": "The threshold flags no more of the held-out images than its stated rate allows.",
    "reference_holds": "The drift reference describes images that were left out of the fit.",
    "latency_and_size": "One image is scored fast enough and the artefact is small enough.",
    "finds_drawn_defects": "Defects drawn into recent images are found, no worse than by the champion.",
    "line_is_sound": "No surge of defects came up while the candidate was made.",
}


def _gate_check(name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=candidate, name=name, blocking=True, description=GATE_DESCRIPTIONS[name])
    def check(context: dg.AssetCheckExecutionContext, installation: Installation) -> dg.AssetCheckResult:
        # Imported here to keep torch out of the daemon and the web page.
        from orchestration import gates

        retrain = installation.retrain(context.run)
        gate: GateResult = getattr(gates, name)(retrain.evidence)
        retrain.note(gate)
        return dg.AssetCheckResult(
            passed=gate.passed,
            metadata={"value": float(gate.value), "limit": float(gate.limit), "in words": gate.words},
        )

    return check


gate_checks = [_gate_check(name) for name in GATE_DESCRIPTIONS]
