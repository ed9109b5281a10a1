"""Day and night in turn, ten changes: each version is taken back for its own light, and the line does not go to and fro between."""

from pathlib import Path

from streams.messages import DriftIncident
from tests.orchestration.alternating import DAY, LINE, NIGHT, Alternating

CHANGES = 10
PHASE = 54


def test_ten_changes_of_light_make_one_version_more_and_one_promotion_each(tmp_path: Path) -> None:
    line = Alternating(tmp_path)
    line.born(DAY)
    line.pass_by(40, DAY)
    for change in range(CHANGES):
        line.pass_by(PHASE, (NIGHT, DAY)[change % 2])
        promotions = line.ledger.promotions(LINE)
        assert len(promotions) == change + 2, f"one promotion a change, after change {change + 1}"
        assert promotions[-1].version == (2, 1)[change % 2], line.looked[-1]
    assert line.registry.versions(LINE) == [1, 2]
    assert line.outcomes[:2] == [("promoted", 1), ("promoted", 2)]
    assert line.outcomes[2:] == [("switched_back", (1, 2)[change % 2]) for change in range(CHANGES - 1)]
    opened = [each for each in line.said if isinstance(each, DriftIncident) and each.state == "opened"]
    assert [each.kind for each in opened] == ["covariate_drift"] * CHANGES
    line.pass_by(PHASE, DAY)
    assert len(line.ledger.promotions(LINE)) == CHANGES + 1, "a line that stays is left alone"
