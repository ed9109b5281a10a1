"""What people may do: every action against every role, audited, durable, onto the bus through the outbox."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from detectors.errors import InvalidInput, NotFound
from detectors.registry import Registry
from detectors.store import FolderStore
from streams.actions import (
    ROLES,
    Actor,
    NotAllowed,
    answer_incident,
    approve,
    promote,
    reject,
    request_retrain,
    review,
    rollback,
    set_threshold,
)
from streams.ledger import Ledger
from streams.messages import IncidentAnswer
from streams.settings import LineConfig
from tests.detectors.artefacts import artefact
from tests.streams.test_ledger import incident, request, verdict

LINE = "tiles"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    opened = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    opened.record([verdict("a", flagged=True), incident("opened")])
    return opened


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    opened = Registry(FolderStore(tmp_path / "objects"))
    for number in (1, 2):
        opened.publish(LINE, artefact(LINE, content=f"tensors {number}"))
    opened.promote(LINE, 1)
    return opened


def say(ledger: Ledger, actor: Actor, says: str, *, incident_id: str = "i1", note: str = "") -> IncidentAnswer:
    return answer_incident(ledger, actor, line=LINE, incident_id=incident_id, says=says, note=note, at=1.0)


def tried(ledger: Ledger) -> Ledger:
    """Version 2 waits for a person."""
    ledger.record([request()])
    ledger.end_request("r1", outcome="awaiting_approval", version=2, detail="", at=1.0)
    return ledger


ACTIONS: dict[str, tuple[str, Callable[[Ledger, Registry, Actor], object]]] = {
    "review": (
        "reviewer",
        lambda ledger, _, actor: review(ledger, actor, line=LINE, image_id="a", says="normal", note="", at=1.0),
    ),
    "acknowledge": ("reviewer", lambda ledger, _, actor: say(ledger, actor, "acknowledged")),
    "expect": ("engineer", lambda ledger, _, actor: say(ledger, actor, "expected")),
    "ignore": ("engineer", lambda ledger, _, actor: say(ledger, actor, "ignored")),
    "retrain": (
        "engineer",
        lambda ledger, registry, actor: request_retrain(
            ledger, actor, registry, line=LINE, mode="blind", image_keys=("k",), at=1.0
        ),
    ),
    "promote": (
        "engineer",
        lambda ledger, registry, actor: promote(ledger, actor, registry, line=LINE, version=2, why="better", at=1.0),
    ),
    "approve": (
        "engineer",
        lambda ledger, registry, actor: approve(
            tried(ledger), actor, registry, line=LINE, version=2, why="ok", config=LineConfig(four_eyes=True), at=1.0
        ),
    ),
    "reject": (
        "engineer",
        lambda ledger, registry, actor: reject(
            tried(ledger), actor, registry, line=LINE, version=2, why="misses scratches", at=1.0
        ),
    ),
    "rollback": (
        "engineer",
        lambda ledger, registry, actor: (
            registry.promote(LINE, 2),
            rollback(ledger, actor, registry, line=LINE, why="worse", at=1.0),
        ),
    ),
    "threshold": (
        "engineer",
        lambda ledger, registry, actor: set_threshold(
            ledger, actor, registry, line=LINE, version=1, threshold=3.0, why="scrap", at=1.0
        ),
    ),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_asks_for_its_role(ledger: Ledger, registry: Registry, action: str, role: str) -> None:
    least, act = ACTIONS[action]
    actor = Actor("ana", role)
    if ROLES.index(role) < ROLES.index(least):
        with pytest.raises(NotAllowed, match=role):
            act(ledger, registry, actor)
        assert ledger.audit() == []
        assert ledger.outbox(9) == []
    else:
        act(ledger, registry, actor)
        (entry,) = ledger.audit()
        assert (entry.who, entry.role, entry.line) == ("ana", role, LINE)
        assert entry.action == ("answer" if action in ("acknowledge", "expect", "ignore") else action)


def test_a_review_is_there_when_the_call_returns_and_goes_to_the_bus(ledger: Ledger) -> None:
    said = review(ledger, Actor("ana", "reviewer"), line=LINE, image_id="a", says="defect", note="a scratch", at=1.0)
    assert ledger.reviews(LINE, "a") == [said]
    assert [message for _, message in ledger.outbox(9)] == [said]


@pytest.mark.parametrize(
    ("image_id", "says", "note", "error"),
    [
        ("a", "broken", "", InvalidInput),
        ("nobody", "normal", "", NotFound),
        ("a", "normal", "x" * 10_001, InvalidInput),
    ],
)
def test_a_review_that_makes_no_sense_is_refused(
    ledger: Ledger, image_id: str, says: str, note: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        review(ledger, Actor("ana", "reviewer"), line=LINE, image_id=image_id, says=says, note=note, at=1.0)


@pytest.mark.parametrize("says", ["acknowledged", "expected", "ignored"])
def test_an_answer_to_an_incident_is_there_when_the_call_returns_and_goes_to_the_bus(ledger: Ledger, says: str) -> None:
    said = say(ledger, Actor("ana", "engineer"), says, note="new material from Monday")
    assert (said.by, said.says, said.note, said.incident_id) == ("ana", says, "new material from Monday", "i1")
    assert ledger.answers("i1") == [said]
    assert [message for _, message in ledger.outbox(9)] == [said]
    assert [entry.detail for entry in ledger.audit()] == [f"i1: {says}"]


@pytest.mark.parametrize(
    ("incident_id", "says", "note", "error", "words"),
    [
        ("i1", "fine", "", InvalidInput, "says 'fine'; it may say acknowledged, expected, ignored"),
        ("i9", "expected", "", NotFound, "no incident 'i9'; reload"),
        ("i1", "expected", "x" * 10_001, InvalidInput, "10001 bytes, the limit is 10000; shorten"),
    ],
)
def test_an_answer_that_makes_no_sense_is_refused(
    ledger: Ledger, incident_id: str, says: str, note: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        say(ledger, Actor("ana", "engineer"), says, incident_id=incident_id, note=note)
    assert (ledger.answers("i1"), ledger.audit(), ledger.outbox(9)) == ([], [], [])


def test_an_answer_to_another_lines_incident_is_refused(ledger: Ledger) -> None:
    with pytest.raises(NotFound, match="line 'doors' has no incident"):
        answer_incident(
            ledger, Actor("ana", "engineer"), line="doors", incident_id="i1", says="expected", note="", at=1.0
        )


def test_one_request_at_a_time(ledger: Ledger, registry: Registry) -> None:
    ana = Actor("ana", "engineer")
    first = request_retrain(ledger, ana, registry, line=LINE, mode="blind", image_keys=("k",), at=1.0)
    with pytest.raises(InvalidInput, match="open request"):
        request_retrain(ledger, ana, registry, line=LINE, mode="blind", image_keys=("k",), at=2.0)
    assert [row.request for row in ledger.requests(LINE)] == [first]
    assert len(ledger.audit()) == 1
    assert [message for _, message in ledger.outbox(9)] == [first]
    ledger.end_request(first.request_id, outcome="refused", version=None, detail="", at=3.0)
    request_retrain(ledger, ana, registry, line=LINE, mode="blind", image_keys=("k",), at=4.0)


def test_of_people_who_ask_at_the_same_moment_one_is_served(ledger: Ledger, registry: Registry) -> None:
    start = threading.Barrier(4)

    def ask(name: str) -> bool:
        start.wait(timeout=30)
        try:
            actor = Actor(name, "engineer")
            request_retrain(ledger, actor, registry, line=LINE, mode="blind", image_keys=("k",), at=1.0)
        except InvalidInput:
            return False
        return True

    with ThreadPoolExecutor(4) as people:
        served = list(people.map(ask, ("ana", "ben", "cem", "dee")))
    assert served.count(True) == 1
    assert len(ledger.requests(LINE)) == 1


@pytest.mark.parametrize(
    ("mode", "keys", "says"), [("guess", ("k",), "blind, trusted, refresh"), ("blind", (), "no images")]
)
def test_a_request_that_makes_no_sense_is_refused(
    ledger: Ledger, registry: Registry, mode: str, keys: tuple[str, ...], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        request_retrain(ledger, Actor("ana", "engineer"), registry, line=LINE, mode=mode, image_keys=keys, at=1.0)
    assert (ledger.requests(LINE), ledger.audit()) == ([], [])


@pytest.mark.parametrize("action", ["promote", "rollback"])
def test_a_change_of_champion_is_recorded_and_sent_with_the_pointers_that_hold(
    ledger: Ledger, registry: Registry, action: str
) -> None:
    ACTIONS[action][1](ledger, registry, Actor("ana", "engineer"))
    pointers = registry.pointers(LINE)
    (said,) = ledger.promotions(LINE)
    assert (said.version, said.previous, said.sequence) == (pointers.champion, pointers.previous, pointers.sequence)
    assert [message for _, message in ledger.outbox(9)] == [said]


def test_a_new_threshold_is_a_revision_beside_the_version(ledger: Ledger, registry: Registry) -> None:
    before = registry.operating_point(LINE, 1)
    set_threshold(ledger, Actor("ana", "engineer"), registry, line=LINE, version=1, threshold=3.0, why="scrap", at=1.0)
    after = registry.operating_point(LINE, 1)
    assert (after.threshold, after.by, after.revision) == (3.0, "ana", before.revision + 1)


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(InvalidInput, match="viewer"):
        Actor("ana", "boss")
