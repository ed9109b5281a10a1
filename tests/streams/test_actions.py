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
    cancel_request,
    promote,
    reject,
    request_retrain,
    review,
    rollback,
    set_threshold,
)
from streams.causes import Wish
from streams.ledger import Ledger
from streams.messages import IncidentAnswer, RetrainRequest, Review
from streams.operating_points import DAY_S
from streams.settings import LineConfig
from tests.detectors.artefacts import artefact
from tests.streams.test_ledger import incident, request, verdict

LINE = "tiles"
REQUEST = RetrainRequest(
    line=LINE, request_id="r", cause="schedule", mode="refresh", image_keys=(), parent_version=1, alarm_at=None, requested_at=0.0,
    wanted_images=200,
)  # fmt: skip


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


def give_up(ledger: Ledger, actor: Actor) -> None:
    ledger.record([REQUEST])
    cancel_request(ledger, actor, line=LINE, request_id=REQUEST.request_id, why="stopped", at=1.0)


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
            ledger, actor, registry, LineConfig(), Wish(), line=LINE, at=1.0
        ),
    ),
    "cancel": ("engineer", lambda ledger, _, actor: give_up(ledger, actor)),
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
    first = request_retrain(ledger, ana, registry, LineConfig(), Wish(), line=LINE, at=1.0)
    with pytest.raises(InvalidInput, match="open request"):
        request_retrain(ledger, ana, registry, LineConfig(), Wish(), line=LINE, at=2.0)
    assert [row.request for row in ledger.requests(LINE)] == [first]
    assert len(ledger.audit()) == 1
    assert [message for _, message in ledger.outbox(9)] == [first]
    ledger.end_request(first.request_id, outcome="refused", version=None, detail="", at=3.0)
    request_retrain(ledger, ana, registry, LineConfig(), Wish(), line=LINE, at=4.0)


def test_of_people_who_ask_at_the_same_moment_one_is_served(ledger: Ledger, registry: Registry) -> None:
    start = threading.Barrier(4)

    def ask(name: str) -> bool:
        start.wait(timeout=30)
        try:
            actor = Actor(name, "engineer")
            request_retrain(ledger, actor, registry, LineConfig(), Wish(), line=LINE, at=1.0)
        except InvalidInput:
            return False
        return True

    with ThreadPoolExecutor(4) as people:
        served = list(people.map(ask, ("ana", "ben", "cem", "dee")))
    assert served.count(True) == 1
    assert len(ledger.requests(LINE)) == 1


@pytest.mark.parametrize(
    ("line", "wish", "error", "says"),
    [
        (LINE, Wish("guess"), InvalidInput, "blind, trusted, refresh"),
        (LINE, Wish(images=19), InvalidInput, "window of 19 images; a model needs 20"),
        (LINE, Wish(images=401), InvalidInput, "window of 401 images; 400 are the most, ask for fewer"),
        (LINE, Wish(why="x" * 10_001), InvalidInput, "10001 bytes, the limit is 10000"),
        (
            LINE,
            Wish("trusted"),
            InvalidInput,
            "has 1 parts reviewed as normal and no folder .* needs 20; review more, or name",
        ),
        ("tils", Wish(), NotFound, r"no line 'tils'; did you mean tiles\?"),
        ("zzz", Wish(), NotFound, "no line 'zzz'; there are tiles"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    ledger: Ledger, registry: Registry, line: str, wish: Wish, error: type[Exception], says: str
) -> None:
    ledger.record([Review(line=LINE, image_id="a", says="normal", note="", by="ana", at=1.0)])
    with pytest.raises(error, match=says):
        request_retrain(ledger, Actor("ana", "engineer"), registry, LineConfig(), wish, line=line, at=1.0)
    assert (ledger.requests(), ledger.audit()) == ([], [])


def test_a_line_with_a_folder_of_trusted_images_needs_no_reviews(ledger: Ledger, registry: Registry) -> None:
    config, wish = LineConfig(trusted="/srv/good"), Wish("trusted", why="new fixture")
    asked = request_retrain(ledger, Actor("ana", "engineer"), registry, config, wish, line=LINE, at=1.0)
    assert (asked.cause, asked.mode, asked.image_keys, asked.wanted_images) == ("manual", "trusted", (), 200)
    assert [entry.detail for entry in ledger.audit()] == ["trusted, the latest 200 images: new fixture"]


def test_a_request_that_waits_may_be_given_up_and_one_that_runs_may_not(ledger: Ledger, registry: Registry) -> None:
    ana = Actor("ana", "engineer")
    first = request_retrain(ledger, ana, registry, LineConfig(), Wish(), line=LINE, at=1.0)
    with pytest.raises(NotFound, match="line 'doors' has no request"):
        cancel_request(ledger, ana, line="doors", request_id=first.request_id, why="", at=2.0)
    cancel_request(ledger, ana, line=LINE, request_id=first.request_id, why="stopped", at=2.0)
    row = ledger.request(first.request_id)
    assert row is not None
    assert (row.state, row.detail, row.ended_at) == ("cancelled", "cancelled by ana", 2.0)
    second = request_retrain(ledger, ana, registry, LineConfig(), Wish(), line=LINE, at=3.0)
    ledger.begin_request(second.request_id, run_id="run", attempt=1, at=4.0)
    with pytest.raises(InvalidInput, match="is running by now; one that runs is cancelled with its run"):
        cancel_request(ledger, ana, line=LINE, request_id=second.request_id, why="", at=5.0)
    assert [entry.action for entry in ledger.audit()] == ["retrain", "cancel", "retrain"]


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


def test_a_new_threshold_keeps_what_it_would_have_flagged_on_the_day_before(ledger: Ledger, registry: Registry) -> None:
    now = 100 * DAY_S
    ledger.record([verdict("old", at=now - DAY_S - 1, score=9.0, flagged=True)])
    ledger.record([verdict(f"v{n}", at=now - n, score=n / 10, flagged=n > 20) for n in range(1, 41)])
    ledger.record([verdict("other version", at=now - 5, version=2, score=9.0, flagged=True)])
    say_of = Actor("bo", "reviewer")
    review(ledger, say_of, line=LINE, image_id="v40", says="defect", note="", at=now)
    review(ledger, say_of, line=LINE, image_id="v25", says="normal", note="", at=now)
    act = Actor("ana", "engineer")
    set_threshold(ledger, act, registry, line=LINE, version=1, threshold=3.0, why="scrap", at=now)
    kept = (
        "would have flagged 10 instead of 20 of 40 over the last 24 h (25.0 %); "
        "finds 1 of 1 reviewed defects, flags 0 of 1 reviewed normals"
    )
    assert registry.operating_point(LINE, 1).preview == kept
    (entry, *_) = ledger.audit()
    assert (entry.who, entry.action, entry.at) == ("ana", "threshold", now)
    assert entry.detail == f"version 1, revision 2: 3.0 for 2.5 (scrap); {kept}"


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(InvalidInput, match="viewer"):
        Actor("ana", "boss")
