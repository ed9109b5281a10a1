"""Which versions may be taken back, by what the ledger tells: none that was refused or rolled back."""

from pathlib import Path

import msgspec
import pytest

from streams.comebacks import last_asked, proven
from streams.ledger import Ledger
from streams.messages import DriftIncident, Message, ModelAlert, ModelPromoted, ModelServing, RetrainRequest
from tests.streams.test_watching import verdicts


class Story:
    """A line's life as the ledger has it: services of versions one after another, a second an image."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.at = 0
        self.sequence = 0
        self.serving: int | None = None

    def promote(
        self, version: int, *, request_id: str | None = None, by: str = "driftline", rolled_back: bool = False
    ) -> None:
        self.sequence += 1
        self.at += 1
        self.record(ModelPromoted(
            line="tiles", version=version, previous=self.serving, sequence=self.sequence, by=by, why="", at=self.at - 0.5,
            request_id=request_id, rolled_back=rolled_back,
        ))  # fmt: skip
        self.serving = version

    def judge(self, images: int) -> None:
        assert self.serving is not None
        self.record(*verdicts(self.at, images, version=self.serving))
        self.at += images

    def ask(self, name: str, *, after: int) -> RetrainRequest:
        """The line changes after so many more images, and forty later a model is asked for."""
        assert self.serving is not None
        self.judge(after)
        since = f"tiles-{self.at}"
        self.judge(40)
        self.record(DriftIncident(
            line="tiles", incident_id=name, kind="covariate_drift", state="opened", version=self.serving, signal="bulk",
            test="page_hinkley", reference=1.0, observed=2.0, effect=3.0, since_image_id=since, alarm_image_id=since,
            after_images=9, at=float(self.at),
        ))  # fmt: skip
        request = RetrainRequest(
            line="tiles", request_id=name, cause="covariate_drift", mode="blind", image_keys=("a",),
            parent_version=self.serving, alarm_at=None, requested_at=float(self.at), incident_id=name,
        )  # fmt: skip
        self.record(request)
        return request

    def answer(self, name: str, version: int, outcome: str) -> None:
        """The request ends with a version in service."""
        self.promote(version, request_id=name)
        self.ledger.end_request(name, outcome=outcome, version=version, detail="", at=self.at)

    def record(self, *messages: Message) -> None:
        self.ledger.record(messages)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}"))


def test_what_served_may_come_back(story: Story) -> None:
    story.promote(1)
    story.ask("night", after=100)
    story.answer("night", 2, "promoted")
    assert proven(story.ledger, "tiles") == {1, 2}


def test_a_version_that_never_served_may_not_and_one_that_a_scorer_took_up_may(story: Story) -> None:
    story.record(ModelServing(line="tiles", version=1, previous=None, at=0.0))
    story.promote(3)
    assert proven(story.ledger, "tiles") == {1, 3}


def test_a_version_that_a_scorer_refused_may_not(story: Story) -> None:
    story.promote(1)
    story.promote(2)
    story.record(ModelAlert(line="tiles", version=1, serving=2, reason="broken", raised_at=5.0))
    assert proven(story.ledger, "tiles") == {2}


def test_a_version_that_was_refused_beside_its_successor_may_until_it_is_refused_as_a_champion(story: Story) -> None:
    story.promote(1)
    story.promote(2)
    beside = ModelAlert(line="tiles", version=1, serving=2, reason="MemoryError", raised_at=5.0, beside=True)
    story.record(beside)
    assert proven(story.ledger, "tiles") == {1, 2}
    story.record(msgspec.structs.replace(beside, reason="broken", raised_at=6.0, beside=False))
    assert proven(story.ledger, "tiles") == {2}


def test_a_version_that_was_rolled_back_may_not_until_somebody_promotes_it_again(story: Story) -> None:
    story.promote(1)
    story.ask("night", after=100)
    story.answer("night", 2, "promoted")
    story.promote(1, by="ana", rolled_back=True)
    assert proven(story.ledger, "tiles") == {1}
    story.promote(2, by="ana")
    assert proven(story.ledger, "tiles") == {1, 2}


def test_coming_back_is_no_rollback(story: Story) -> None:
    story.promote(1)
    for change in range(6):
        version = (2, 1)[change % 2]
        story.ask(f"change-{change}", after=100)
        story.answer(f"change-{change}", version, "switched_back" if change else "promoted")
    assert proven(story.ledger, "tiles") == {1, 2}


def test_the_last_request_of_a_version_is_that_of_its_own_watch(story: Story) -> None:
    story.promote(1)
    first = story.ask("first", after=10)
    assert last_asked(story.ledger, "tiles", 1) == first
    second = story.ask("second", after=10)
    story.answer("second", 2, "promoted")
    third = story.ask("third", after=10)
    by_hand = msgspec.structs.replace(third, request_id="by-hand", cause="manual", incident_id=None)
    story.record(msgspec.structs.replace(by_hand, requested_at=by_hand.requested_at + 1))
    assert last_asked(story.ledger, "tiles", 1) == second
    assert last_asked(story.ledger, "tiles", 2) == third
    assert last_asked(story.ledger, "tiles", 3) is None
