"""What is told of a line as it happens: each state of an incident and each answer once, in words."""

from pathlib import Path

import msgspec
import pytest

from orchestration.story import Story, incident_in_words
from streams.ledger import Ledger
from streams.messages import DriftIncident, IncidentAnswer

OPENED = DriftIncident(
    line="tiles", incident_id="i", kind="covariate_drift", state="opened", version=1, signal="bulk", test="page_hinkley",
    reference=1.25, observed=2.85, effect=3.2, since_image_id="x-100", alarm_image_id="x-105", after_images=105, at=5.0,
    confidence=0.974, evidence=("median of bulk moved by +3.2 sd over 6 images",), shape="step", place="everywhere",
)  # fmt: skip


def state(name: str, sequence: int, reason: str) -> DriftIncident:
    return msgspec.structs.replace(OPENED, state=name, sequence=sequence, reason=reason, at=5.0 + sequence)


LIFE = (
    OPENED,
    state("growing", 1, "5.0 robust sd at image x-140, 3.2 before"),
    state("closed", 2, "no further alarm in 200 images"),
    state("reopened", 3, "it came back at image x-400"),
    state("closed", 4, "version 2 judges the line"),
)


def test_an_alarm_says_what_changed_how_sure_where_by_how_much_since_when_and_why() -> None:
    assert incident_in_words(OPENED) == (
        "ALARM: the line has changed (covariate_drift, 97 % sure), everywhere: bulk moved by +3.2 robust sd, from 1.25 to 2.85 "
        "(page_hinkley); since image x-100, a step; median of bulk moved by +3.2 sd over 6 images"
    )


@pytest.mark.parametrize(
    ("place", "words"),
    [("top left", ", top left of the image:"), ("centre", ", centre of the image:"), ("", " sure):")],
)
def test_a_place_is_said_where_it_is_known(place: str, words: str) -> None:
    assert words in incident_in_words(msgspec.structs.replace(OPENED, place=place))


def test_an_incident_of_an_older_program_says_what_it_knows() -> None:
    old = msgspec.structs.replace(OPENED, confidence=None, evidence=(), shape="", place="")
    assert incident_in_words(old) == (
        "ALARM: the line has changed (covariate_drift): bulk moved by +3.2 robust sd, from 1.25 to 2.85 (page_hinkley); "
        "since image x-100"
    )


def test_each_state_and_each_answer_is_told_once(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    told: list[str] = []
    story = Story(ledger, "tiles", told.append)
    answer = IncidentAnswer(line="tiles", incident_id="i", says="expected", note="new material", by="ana", at=6.0)
    for each in (LIFE[:1], LIFE[1:4], LIFE[4:]):
        ledger.record(each)
        story.catch_up()
        story.catch_up()
    ledger.record([answer, msgspec.structs.replace(answer, says="acknowledged", note="", at=7.0)])
    story.catch_up()
    story.catch_up()
    assert [line.split("] ")[1].split(" (covariate_drift")[0] for line in told] == [
        "ALARM: the line has changed",
        "the incident GROWS (5.0 robust sd at image x-140, 3.2 before): the line has changed",
        "incident closed",
        "the incident is BACK (it came back at image x-400): the line has changed",
        "incident closed",
        "ana says of the incident",
        "ana says of the incident",
    ]
    assert told[-3].endswith("(covariate_drift): version 2 judges the line")
    assert told[-2].endswith("(covariate_drift): expected: new material")
    assert told[-1].endswith("(covariate_drift): acknowledged")
