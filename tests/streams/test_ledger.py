"""The ledger: idempotent, honest about repeats, requests carried out once, several processes at once."""

import math
import re
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from detectors.errors import InvalidInput, Unavailable
from streams.ledger import HISTORY_PAGE, AuditEntry, GateResult, Ledger
from streams.ledger_engine import open_engine
from streams.messages import (
    Approval,
    Collected,
    DeadLetter,
    DriftIncident,
    IncidentAnswer,
    LineImage,
    Message,
    ModelAlert,
    ModelPromoted,
    ModelServing,
    RetrainRequest,
    Review,
    ShadowVerdict,
    Signals,
    Verdict,
)
from tests.servers import postgresql_database, postgresql_role
from tests.streams.ledger_bulk import connected
from tests.streams.together import together

SIGNALS = Signals(peak=1.0, bulk=0.5, mean=100.0, contrast=20.0, sharpness=5.0)


def verdict(image_id: str, *, at: float = 1.0, version: int = 1, score: float = 1.0, flagged: bool = False) -> Verdict:
    return Verdict(
        line="tiles", image_id=image_id, version=version, score=score, threshold=2.0, threshold_revision=1, flagged=flagged,
        signals=SIGNALS, taken_at=at, judged_at=at, latency_ms=10.0, image_key=f"images/{image_id}.png",
    )  # fmt: skip


def image(image_id: str) -> LineImage:
    return LineImage(
        line="tiles", image_id=image_id, taken_at=1.0, digest="d", key=f"images/{image_id}.png", size_bytes=3
    )


def collected(image_id: str, *, at: float = 1.0) -> Collected:
    return Collected(line="tiles", image=image(image_id), collected_at=at)


def request(request_id: str = "r1", *, at: float = 1.0) -> RetrainRequest:
    return RetrainRequest(
        line="tiles", request_id=request_id, cause="cold_start", mode="blind", image_keys=("a", "b"), parent_version=None,
        alarm_at=None, requested_at=at,
    )  # fmt: skip


def promoted(version: int, *, at: float = 5.0) -> ModelPromoted:
    return ModelPromoted(
        line="tiles", version=version, previous=None, sequence=version, by="driftline", why="cold_start", at=at
    )


def incident(state: str, *, at: float = 3.0, sequence: int = 0) -> DriftIncident:
    return DriftIncident(
        line="tiles", incident_id="i1", kind="covariate_drift", state=state, version=1, signal="bulk", test="page_hinkley",
        reference=1.0, observed=2.0, effect=2.5, since_image_id="a", alarm_image_id="b", after_images=10, at=at,
        sequence=sequence,
    )  # fmt: skip


def answer(says: str, *, at: float = 4.0, by: str = "ana", incident_id: str = "i1") -> IncidentAnswer:
    return IncidentAnswer(line="tiles", incident_id=incident_id, says=says, note="", by=by, at=at)


def test_the_first_verdict_stands_and_repeats_are_counted_by_kind(ledger: Ledger) -> None:
    ledger.record([verdict("a"), verdict("a")])
    ledger.record([verdict("a", version=2, score=9.0)])
    found = ledger.verdict("tiles", "a")
    assert found == verdict("a")
    counts = ledger.counts("tiles")
    assert (counts.verdicts, counts.redelivered, counts.doubled) == (1, 1, 1)


def test_verdicts_come_newest_first_and_after_a_moment(ledger: Ledger) -> None:
    ledger.record([verdict(name, at=at) for name, at in (("b", 2.0), ("a", 1.0), ("c", 3.0))])
    assert [each.image_id for each in ledger.verdicts("tiles", limit=2)] == ["c", "b"]
    assert [each.image_id for each in ledger.verdicts("tiles", after=1.0, limit=9)] == ["c", "b"]
    assert [each.image_id for each in ledger.history("tiles", 1)] == ["a", "b", "c"]


def test_flagged_images_leave_the_queue_once_reviewed(ledger: Ledger) -> None:
    ledger.record([verdict("a", flagged=True), verdict("b", at=2.0, flagged=True), verdict("c", at=3.0)])
    ledger.record([Review(line="tiles", image_id="b", says="normal", note="", by="ana", at=4.0)])
    assert [each.image_id for each in ledger.flagged("tiles", limit=9)] == ["b", "a"]
    assert [each.image_id for each in ledger.flagged("tiles", limit=9, unreviewed_only=True)] == ["a"]
    assert [each.says for each in ledger.reviews("tiles", "b")] == ["normal"]


def test_collected_images_wait_until_they_are_judged(ledger: Ledger) -> None:
    ledger.record([collected("a", at=2.0), collected("b", at=1.0)])
    assert [each.image_id for each in ledger.pending_images("tiles")] == ["b", "a"]
    ledger.record([verdict("b")])
    assert [each.image_id for each in ledger.pending_images("tiles")] == ["a"]
    assert ledger.counts("tiles").collected_pending == 1


def test_a_request_is_carried_out_once(ledger: Ledger) -> None:
    ledger.record([request()])
    assert ledger.begin_request("r1", run_id="run-1", attempt=1, at=2.0)
    assert not ledger.begin_request("r1", run_id="run-other", attempt=1, at=2.5)
    assert ledger.begin_request("r1", run_id="run-1", attempt=1, at=2.6), "the same run may begin again"
    assert ledger.begin_request("r1", run_id="run-2", attempt=2, at=3.0), "a later attempt takes over"
    assert ledger.end_request("r1", outcome="promoted", version=1, detail="", at=4.0)
    assert not ledger.end_request("r1", outcome="failed", version=None, detail="", at=5.0), "the first end stands"
    assert not ledger.begin_request("r1", run_id="run-3", attempt=3, at=6.0)
    row = ledger.request("r1")
    assert row is not None
    assert (row.state, row.version, row.run_id, row.attempt) == ("promoted", 1, "run-2", 2)
    ledger.record([request()])
    assert [each.state for each in ledger.requests("tiles")] == ["promoted"], "a redelivered request changes nothing"


def test_a_request_goes_on_while_its_version_is_tried_out_and_while_it_waits_for_people(ledger: Ledger) -> None:
    ledger.record([request()])
    ledger.begin_request("r1", run_id="run-1", attempt=1, at=2.0)
    assert ledger.begin_shadow("r1", version=2, detail="beside", at=3.0)
    assert not ledger.begin_shadow("r1", version=2, detail="again", at=3.5)
    assert not ledger.begin_request("r1", run_id="run-2", attempt=2, at=3.6), "no run has anything to do with it"
    row = ledger.request("r1")
    assert row is not None
    assert (row.state, row.version, row.started_at, row.ended_at) == ("shadowing", 2, 3.0, None)
    (summary,) = ledger.lines()
    assert summary.open_request == "shadowing"
    assert ledger.end_request("r1", outcome="awaiting_approval", version=2, detail="", at=4.0)
    assert not ledger.end_request("r1", outcome="awaiting_approval", version=2, detail="again", at=5.0)
    assert ledger.end_request("r1", outcome="refused", version=2, detail="rejected", at=6.0), "waiting is no end"
    assert not ledger.end_request("r1", outcome="promoted", version=2, detail="", at=7.0)


def test_how_a_version_judged(ledger: Ledger) -> None:
    ledger.record([verdict(str(n), at=float(n), flagged=n % 4 == 0) for n in range(1, 13)])
    assert ledger.flag_share("tiles", 1, before=12.0, images=500) == pytest.approx(2 / 11)
    assert ledger.flag_share("tiles", 1, before=13.0, images=2) == 0.5
    assert ledger.flag_share("tiles", 1, before=1.0, images=2) is None
    assert ledger.judged_since("tiles", 1, 10.0) == (2, 12.0)
    assert ledger.judged_since("tiles", 2, 0.0) == (0, None)


def test_the_alert_of_a_challenger_is_no_trouble_of_the_line(ledger: Ledger) -> None:
    champions = ModelAlert(line="tiles", version=2, serving=1, reason="digest", raised_at=9.0)
    ledger.record([champions, *(
        ModelAlert(line="tiles", version=n, serving=1, reason="digest", raised_at=9.0 + n, beside=True) for n in (3, 4)
    )])  # fmt: skip
    (summary,) = ledger.lines()
    assert summary.alert == champions


def test_a_long_history_comes_whole_and_in_order_page_by_page(ledger: Ledger) -> None:
    many = [verdict(f"{number:04}", at=float(number // 3)) for number in range(2 * HISTORY_PAGE + 1)]
    ledger.record([*many[::-1], verdict("other", version=2)])
    assert list(ledger.history("tiles", 1)) == many
    assert list(ledger.history("tiles", 3)) == []


def test_unknown_outcomes_are_refused(ledger: Ledger) -> None:
    with pytest.raises(InvalidInput, match="promoted"):
        ledger.end_request("r1", outcome="done", version=None, detail="", at=1.0)


def test_a_gate_noted_again_replaces_itself(ledger: Ledger) -> None:
    for passed in (False, True):
        ledger.note_gate("r1", GateResult(name="g", passed=passed, value=1.0, limit=2.0, words="w"))
    assert ledger.gates("r1") == [GateResult(name="g", passed=True, value=1.0, limit=2.0, words="w")]


def test_a_gate_that_could_not_evaluate_is_noted_as_failed(ledger: Ledger) -> None:
    ledger.note_gate("r1", GateResult(name="g", passed=False, value=math.nan, limit=2.0, words="no images"))
    (gate,) = ledger.gates("r1")
    assert (gate.passed, gate.limit, gate.words) == (False, 2.0, "no images")
    assert math.isnan(gate.value)


def test_incidents_close_in_whatever_order_their_messages_come(ledger: Ledger, new_url: Callable[[], str]) -> None:
    other = Ledger.open(new_url())
    ledger.record([incident("opened"), incident("closed")])
    other.record([incident("closed"), incident("opened")])
    for each in (ledger, other):
        assert [found.state for found in each.incidents("tiles")] == ["closed"]
        assert each.incidents("tiles", open_only=True) == []


LIFE = (
    incident("opened", at=3.0),
    incident("growing", at=4.0, sequence=1),
    incident("closed", at=5.0, sequence=2),
    incident("reopened", at=6.0, sequence=3),
    incident("closed", at=7.0, sequence=4),
)


@pytest.mark.parametrize("states", range(1, len(LIFE) + 1))
@pytest.mark.parametrize("seed", range(3))
def test_the_newest_state_of_an_incident_stands_in_whatever_order_they_come(
    ledger: Ledger, states: int, seed: int
) -> None:
    other = msgspec.structs.replace(incident("opened", at=3.5), incident_id="i2")
    deliveries = [*LIFE[:states], *LIFE[:states], other]
    Random(seed).shuffle(deliveries)
    for each in deliveries:
        ledger.record([each])
    assert ledger.incidents("tiles") == [LIFE[states - 1], other], "in the order of their openings"
    assert ledger.incident("tiles", "i1") == LIFE[states - 1]
    assert ledger.incident_states("tiles", "i1") == [*LIFE[:states]]
    assert len(ledger.incident_states("tiles")) == states + 1
    is_open = LIFE[states - 1].state != "closed"
    assert (LIFE[states - 1] in ledger.incidents("tiles", open_only=True)) == is_open
    (summary,) = ledger.lines()
    assert summary.open_incident == "covariate_drift"


def test_an_incident_is_found_by_line_and_name(ledger: Ledger) -> None:
    ledger.record([incident("opened")])
    assert ledger.incident("tiles", "i1") == incident("opened")
    assert ledger.incident("doors", "i1") is None
    assert ledger.incident("tiles", "i9") is None


def test_answers_come_oldest_first_and_once_each(ledger: Ledger) -> None:
    later, first, other = answer("expected", at=9.0), answer("ignored", by="ben"), answer("ignored", incident_id="i2")
    ledger.record([later, first, other, first])
    assert ledger.answers("i1") == [], "of an incident nobody has heard of"
    ledger.record([incident("opened")])
    assert ledger.answers("i1") == [first, later]
    assert ledger.answers("i9") == []


def test_a_line_at_a_glance(ledger: Ledger) -> None:
    alert = ModelAlert(line="tiles", version=2, serving=1, reason="digest", raised_at=9.0)
    serving = ModelServing(line="tiles", version=1, previous=None, at=6.0)
    ledger.record(
        [verdict("a", at=100.0, flagged=True), verdict("b", at=101.0), incident("opened"), request(), serving, alert]
    )
    (summary,) = ledger.lines()
    assert (summary.line, summary.judged, summary.flag_rate, summary.version) == ("tiles", 2, 0.5, 1)
    assert (summary.open_incident, summary.open_request, summary.images_per_min) == ("covariate_drift", "open", 2.0)
    assert summary.alert == alert
    ledger.record([ModelServing(line="tiles", version=3, previous=1, at=10.0)])
    (summary,) = ledger.lines()
    assert (summary.alert, summary.version) == (None, 3)


LETTER = DeadLetter(
    line="tiles", source_topic="images", source_partition=3, source_offset=17, error="ImageError", reason="0 bytes",
    original=b"\x00\xff", headers=(("ce_id", b"a"),), key=b"tiles", at=1.0,
)  # fmt: skip


def test_dead_letters_are_found_by_where_they_came_from(ledger: Ledger) -> None:
    ledger.record([LETTER, LETTER])
    assert ledger.dead_letters(9) == [LETTER]
    assert ledger.dead_letter("images/3/17") == LETTER
    assert ledger.dead_letter("images/3/18") is None


EVERYTHING: tuple[Message, ...] = (
    verdict("a"), verdict("b", flagged=True), verdict("d", flagged=True), collected("a"), collected("e"), collected("c"),
    *LIFE, answer("expected"), answer("ignored", at=5.0), request(), promoted(1),
    ModelServing(line="tiles", version=1, previous=None, at=6.0),
    Review(line="tiles", image_id="b", says="defect", note="", by="ana", at=7.0), LETTER,
    ModelAlert(line="tiles", version=2, serving=1, reason="digest", raised_at=9.0),
    Approval(line="tiles", request_id="r1", version=2, says="approved", why="ok", by="ana", at=9.5),
    ShadowVerdict(
        line="tiles", image_id="a", version=2, score=1.0, threshold=2.0, flagged=False, champion=1, champion_score=1.0,
        champion_flagged=False, image_key="images/a.png", judged_at=2.0,
    ),
)  # fmt: skip


def everything_in(ledger: Ledger) -> dict[str, object]:
    """All that does not count deliveries."""
    return {
        "lines": ledger.lines(), "verdicts": ledger.verdicts("tiles", limit=99), "history": list(ledger.history("tiles", 1)),
        "flagged": ledger.flagged("tiles", limit=99), "unreviewed": ledger.flagged("tiles", limit=99, unreviewed_only=True),
        "collected": ledger.collected("tiles"), "pending": ledger.pending_images("tiles"), "incidents": ledger.incidents(),
        "incident": ledger.incident("tiles", "i1"), "states": ledger.incident_states("tiles"), "answers": ledger.answers("i1"),
        "requests": ledger.requests(), "promotions": ledger.promotions("tiles"), "servings": ledger.servings("tiles"),
        "alerts": ledger.alerts("tiles"), "approvals": ledger.approvals("tiles"),
        "reviews": ledger.reviews("tiles"), "letters": ledger.dead_letters(99),
        "shadows": ledger.shadows("tiles", 2), "reviewed": ledger.reviewed("tiles"),
    }  # fmt: skip


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(EVERYTHING), again=st.lists(st.sampled_from(EVERYTHING), max_size=6))
def test_any_order_and_repetition_gives_the_same_ledger(
    order: list[Message], again: list[Message], new_url: Callable[[], str]
) -> None:
    mixed, plain = (Ledger.open(new_url()) for _ in range(2))
    for message in (*order, *again):
        mixed.record([message])
    plain.record(EVERYTHING)
    assert everything_in(mixed) == everything_in(plain)
    assert all(everything_in(plain).values()), "every query has something to compare"
    counts = mixed.counts("tiles")
    assert (counts.doubled, counts.redelivered) == (0, sum(isinstance(message, Verdict) for message in again))
    mixed.close()
    plain.close()


OPEN = """
from random import Random
from streams.ledger import Ledger
from tests.streams.test_ledger import RACES, verdict
url, name = sys.argv[1:]
ledger = Ledger.open(url)
"""
WRITE_AND_TAKE = """
for number in range(RACES):
    ledger.record([verdict(f"{name}-{number}")])
    if ledger.begin_request(f"r{number}", run_id=name, attempt=1, at=1.0):
        print("began", number)
    if ledger.end_request(f"r{number}", outcome="promoted", version=1, detail=name, at=2.0):
        print("ended", number, name)
"""
WRITE_THE_SAME = """
batch = [verdict(f"{number:03}", at=360.0 * number, flagged=number % 2 == 0) for number in range(RACES)]
for turn in range(RACES):
    Random(f"{name} {turn}").shuffle(batch)
    ledger.record(batch[:RACES // 2])
ledger.record(batch)
"""
RACES = 25


def test_processes_that_write_at_once_lose_nothing_and_each_request_begins_and_ends_once(url: str) -> None:
    ledger = Ledger.open(url)
    ledger.record([request(f"r{number}") for number in range(RACES)])
    outputs = together(OPEN, WRITE_AND_TAKE, [(url, name) for name in ("one", "two", "three")])
    said = [line.split() for output in outputs for line in output.splitlines()]
    assert ledger.counts("tiles").verdicts == 3 * RACES
    assert sorted(int(words[1]) for words in said if words[0] == "ended") == list(range(RACES))
    began = [int(words[1]) for words in said if words[0] == "began"]
    assert len(set(began)) == len(began), "no request was begun twice"
    ends = {int(words[1]): words[2] for words in said if words[0] == "ended"}
    assert {int(row.request.request_id[1:]): row.detail for row in ledger.requests()} == ends


def test_processes_that_write_the_same_at_once_in_any_order_count_each_image_once(url: str) -> None:
    together(OPEN, WRITE_THE_SAME, [(url, name) for name in ("one", "two")])
    ledger = Ledger.open(url)
    counts = ledger.counts("tiles")
    sent = 2 * (RACES * (RACES // 2) + RACES)
    assert (counts.verdicts, counts.redelivered, counts.doubled) == (RACES, sent - RACES, 0)
    assert [(hour.judged, hour.flagged) for hour in ledger.hours("tiles")] == [(10, 5), (10, 5), (5, 3)]


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("mysql://x", InvalidInput),
        ("postgresql+psycopg://x", InvalidInput),
        ("postgresql+psycopg://name:secret@host", InvalidInput),
        ("postgresql+asyncpg://host/db", InvalidInput),
        ("postgresql+psycopg://nobody:secret@127.0.0.1:9/db", Unavailable),
        ("sqlite:///", InvalidInput),
        ("sqlite:///:memory:", InvalidInput),
    ],
)
def test_another_kind_of_url_is_refused(url: str, error: type[Exception]) -> None:
    with pytest.raises(error) as found:
        Ledger.open(url)
    assert "secret" not in str(found.value)


def test_what_postgresql_refuses_is_said_without_the_password() -> None:
    with postgresql_database() as url:
        good = make_url(url)
        for wrong in (good.set(password="secret-but-wrong"), good.set(database="absent"), good.set(username="nobody")):
            with pytest.raises(InvalidInput, match="check name, password, database and rights") as found:
                Ledger.open(wrong.render_as_string(hide_password=False))
            assert "secret-but-wrong" not in str(found.value)


def allow(url: str, statement: str, role_url: str) -> None:
    """Say something of a user's rights; `{role}` stands for the user."""
    with connected(url) as connection:
        connection.exec_driver_sql(statement.format(role=make_url(role_url).username))


def test_a_user_of_postgresql_without_rights_is_refused_with_the_cure() -> None:
    with postgresql_database() as url, postgresql_role(url) as restricted:
        with pytest.raises(InvalidInput, match=r"(?s)permission denied for schema public.*rights"):
            Ledger.open(restricted)
        Ledger.open(url).close()
        with pytest.raises(InvalidInput, match=r"(?s)permission denied for table ledger_revision.*rights"):
            Ledger.open(restricted)
        allow(url, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}", restricted)
        with pytest.raises(InvalidInput, match=r"may not read and write audit, collected.*GRANT SELECT") as found:
            Ledger.open(restricted)
        assert str(make_url(restricted).password) not in str(found.value)
        allow(url, "GRANT INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}", restricted)
        with closing(Ledger.open(restricted)) as ledger:
            ledger.record([verdict("a")])


def test_rights_that_are_taken_away_are_waited_for_and_no_message_is_blamed() -> None:
    with postgresql_database() as url, postgresql_role(url) as restricted, closing(Ledger.open(url)):
        allow(url, "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}", restricted)
        with closing(Ledger.open(restricted)) as ledger:
            allow(url, "REVOKE INSERT ON verdicts FROM {role}", restricted)
            with pytest.raises(Unavailable, match=r"permission denied for table verdicts.*rights"):
                ledger.record([verdict("a")])
            allow(url, "GRANT INSERT ON verdicts TO {role}", restricted)
            ledger.record([verdict("a")])


def test_a_standby_that_only_reads_is_waited_for() -> None:
    with postgresql_database() as url:
        Ledger.open(url).close()
        name = make_url(url).database
        allow(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on", url)
        with closing(Ledger.open(url)) as ledger, pytest.raises(Unavailable, match="read-only transaction"):
            ledger.record([verdict("a")])


def test_of_people_who_ask_for_a_model_at_once_one_is_heard(url: str) -> None:
    """Two requests of one line in one moment: the second is told of the first."""
    ledger = Ledger.open(url)
    together = threading.Barrier(4)
    heard = []

    def ask(number: int) -> None:
        entry = AuditEntry(1.0, "ana", "engineer", "retrain", "tiles", "")
        together.wait()
        try:
            ledger.act(entry, [request(f"r{number}")], unless_requested=True)
            heard.append(number)
        except InvalidInput:
            pass

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard) == len(ledger.requests("tiles")) == len(ledger.audit()) == 1


def test_a_file_that_is_no_ledger_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"no database at all, but long enough to be taken for one" * 99)
    with pytest.raises(InvalidInput, match=r"notes\.txt"):
        Ledger.open(f"sqlite:///{tmp_path / 'notes.txt'}")


def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file" / "ledger.sqlite"):
        with pytest.raises(InvalidInput, match=re.escape(str(place))):
            Ledger.open(f"sqlite:///{place}")


def test_a_locked_ledger_is_unavailable_and_takes_nothing(tmp_path: Path) -> None:
    Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger = Ledger(open_engine(f"sqlite:///{tmp_path / 'ledger.sqlite'}", busy_timeout_s=0.05))
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            ledger.record([verdict("a")])
        assert ledger.verdict("tiles", "a") is None, "readers never wait"
        other.execute("ROLLBACK")
    ledger.record([verdict("a")])
    assert ledger.verdict("tiles", "a") == verdict("a")


def test_what_is_recorded_together_is_recorded_whole_or_not_at_all(ledger: Ledger) -> None:
    with pytest.raises(InvalidInput, match="cannot hold"):
        ledger.record([verdict("a"), verdict("b", version=2**70)])
    assert ledger.verdicts("tiles", limit=9) == []


def test_a_name_too_long_for_an_index_is_refused_not_tried_for_ever() -> None:
    with postgresql_database() as url, closing(Ledger.open(url)) as ledger:
        with pytest.raises(InvalidInput, match="cannot hold"):
            ledger.record([verdict(Random(0).randbytes(20_000).hex())])
        assert ledger.verdicts("tiles", limit=9) == []
