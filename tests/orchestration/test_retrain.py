"""What a retrain asks the ledger before its candidate may serve."""

from pathlib import Path

import msgspec
import pytest

from orchestration.second_look import open_beside
from streams.ledger import Ledger
from streams.messages import DriftIncident, IncidentAnswer, RetrainRequest

LINE = "tiles"
REQUEST = RetrainRequest(
    line=LINE, request_id="r", cause="covariate_drift", mode="blind", image_keys=("a",), parent_version=1, alarm_at=1.0,
    requested_at=2.0, incident_id="covariate_drift",
)  # fmt: skip


def incident(kind: str, *, state: str = "opened", sequence: int = 0) -> DriftIncident:
    return DriftIncident(
        line=LINE, incident_id=kind, kind=kind, state=state, version=1, signal="bulk", test="page_hinkley", reference=1.0,
        observed=2.0, effect=3.0, since_image_id="a", alarm_image_id="b", after_images=9, at=1.0 + sequence, sequence=sequence,
    )  # fmt: skip


def answer(says: str, *, at: float) -> IncidentAnswer:
    return IncidentAnswer(line=LINE, incident_id="covariate_drift", says=says, note="new glaze", by="ana", at=at)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    opened = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite")
    opened.record([incident("covariate_drift")])
    return opened


def test_a_line_that_only_drifted_is_sound(ledger: Ledger) -> None:
    assert open_beside(ledger, REQUEST) == ()


def test_a_surge_that_came_up_meanwhile_is_seen_until_it_is_closed(ledger: Ledger) -> None:
    ledger.record([incident("defect_surge")])
    assert open_beside(ledger, REQUEST) == ("defect_surge",)
    ledger.record([incident("defect_surge", state="closed", sequence=1)])
    assert open_beside(ledger, REQUEST) == ()


def test_a_person_who_expects_the_change_has_the_last_word(ledger: Ledger) -> None:
    ledger.record([incident("defect_surge"), answer("expected", at=3.0)])
    assert open_beside(ledger, REQUEST) == ()
    ledger.record([answer("ignored", at=4.0)])
    assert open_beside(ledger, REQUEST) == ("defect_surge",)


def test_who_asks_by_hand_has_seen_the_line(ledger: Ledger) -> None:
    ledger.record([incident("defect_surge")])
    assert open_beside(ledger, msgspec.structs.replace(REQUEST, cause="manual", incident_id=None)) == ()
