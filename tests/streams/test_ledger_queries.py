"""The ledger's named queries: what they answer, and that none of them reads the verdicts from end to end."""

from collections.abc import Callable
from contextlib import closing

import msgspec
import pytest

from streams.ledger import Hour, Ledger
from streams.messages import DeadLetter, Review, Verdict
from tests.streams.ledger_bulk import connected, fill_beside, make_large, settle
from tests.streams.ledger_plans import named_queries, scans, statements_of, work
from tests.streams.test_ledger import LETTER, collected, incident, promoted, request, verdict


def review(image_id: str, *, at: float = 4.0) -> Review:
    return Review(line="tiles", image_id=image_id, says="normal", note="", by="ana", at=at)


def letter(offset: int, *headers: tuple[str, bytes]) -> DeadLetter:
    return msgspec.structs.replace(LETTER, source_offset=offset, headers=headers)


def of_line(line: str, message: Verdict) -> Verdict:
    return msgspec.structs.replace(message, line=line)


def test_flags_are_counted_by_hour_and_repeats_only_once(ledger: Ledger) -> None:
    morning = [verdict("a", at=7200.0, flagged=True), verdict("b", at=10799.9), verdict("c", at=10800.0)]
    ledger.record([*morning, morning[0], of_line("other", verdict("a", at=7200.0))])
    ledger.record([verdict("a", at=99999.0, version=2), verdict("d", at=10801.0, flagged=True)])
    assert ledger.hours("tiles") == [Hour(7200.0, judged=2, flagged=1), Hour(10800.0, judged=2, flagged=1)]
    assert ledger.hours("tiles", since=10799.9, until=10800.0) == [Hour(7200.0, judged=2, flagged=1)]
    assert ledger.hours("tiles", since=10800.0) == [Hour(10800.0, judged=2, flagged=1)]
    assert ledger.hours("tiles")[0].flag_rate == 0.5
    assert ledger.hours("nowhere") == []


def test_verdicts_after_the_deadline_are_counted_once_each(ledger: Ledger) -> None:
    late = msgspec.structs.replace(verdict("a", at=7200.0), overdue=True)
    ledger.record([late, verdict("b", at=7201.0), msgspec.structs.replace(late, image_id="c", judged_at=10800.0)])
    ledger.record([late, of_line("other", verdict("a"))])
    assert [(hour.judged, hour.overdue) for hour in ledger.hours("tiles")] == [(2, 1), (1, 1)]
    assert {each.line: (each.judged, each.overdue) for each in ledger.lines()} == {"tiles": (3, 2), "other": (1, 0)}
    assert ledger.counts("tiles").overdue == 2
    assert ledger.counts("nowhere").overdue == 0


def test_each_line_has_its_own_numbers(ledger: Ledger) -> None:
    ledger.record(
        [verdict("a"), verdict("a", version=2), of_line("other", verdict("a")), of_line("other", verdict("a"))]
    )
    numbers = [ledger.counts(line) for line in ("tiles", "other")]
    assert [(each.verdicts, each.doubled, each.redelivered) for each in numbers] == [(1, 1, 0), (1, 0, 1)]


def test_what_is_not_recorded_is_not_counted(ledger: Ledger) -> None:
    with pytest.raises(Exception, match="cannot hold"):
        ledger.record([verdict("a"), verdict("b", version=2**70)])
    assert ledger.hours("tiles") == []


def test_one_image_has_its_story(ledger: Ledger) -> None:
    elsewhere = msgspec.structs.replace(incident("opened"), incident_id="i2", since_image_id="x", alarm_image_id="y")
    named, nameless = letter(1, ("ce_id", b"b")), letter(2)
    ledger.record([collected("b"), verdict("b", version=2), verdict("a"), promoted(1), promoted(2), elsewhere])
    ledger.record(
        [incident("opened"), incident("closed"), review("b", at=5.0), review("b"), review("a"), named, nameless]
    )
    story = ledger.story("tiles", "b")
    assert (story.line, story.image_id, story.collected, story.verdict) == (
        "tiles",
        "b",
        collected("b"),
        verdict("b", version=2),
    )
    assert story.promotions == (promoted(2),)
    assert story.reviews == (review("b"), review("b", at=5.0))
    assert story.incidents == (incident("closed"),), "it is the image of the alarm"
    assert story.dead_letters == (named,)
    assert ledger.story("tiles", "images-3-2").dead_letters == (nameless,), (
        "an image without an id is called by its place"
    )


def test_an_image_that_never_came_has_no_story(ledger: Ledger) -> None:
    story = ledger.story("tiles", "a")
    assert (story.collected, story.verdict) == (None, None)
    assert (story.promotions, story.reviews, story.incidents, story.dead_letters) == ((), (), (), ())


@pytest.mark.parametrize("name", [b"\xff\x00", b"x" * 100_000])
def test_dead_letters_with_names_that_no_index_takes_are_kept(ledger: Ledger, name: bytes) -> None:
    ledger.record([letter(1, ("ce_id", name))])
    assert ledger.dead_letters(9) == [letter(1, ("ce_id", name))]


def test_lines_are_named_whatever_is_known_of_them(ledger: Ledger) -> None:
    assert ledger.line_names() == []
    ledger.record([of_line(line, verdict("a")) for line in ("c", "a", "ä/b")])
    ledger.record([msgspec.structs.replace(collected("a"), line="d"), msgspec.structs.replace(request(), line="e")])
    ledger.record([msgspec.structs.replace(review("a"), line="b"), review("a"), verdict("a")])
    assert ledger.line_names() == ["a", "b", "c", "d", "e", "tiles", "ä/b"]
    assert [summary.line for summary in ledger.lines()] == ledger.line_names()


SMALL, LARGE = 10_000, 40_000
EVERY_ROW = ("SELECT count(*) FROM verdicts WHERE redelivered >= 0", ())


@pytest.fixture
def ledgers(new_url: Callable[[], str]) -> dict[int, str]:
    """Two that differ in the number of their verdicts alone."""
    urls = {size: new_url() for size in (SMALL, LARGE)}
    for size, url in urls.items():
        make_large(url, size)
        with closing(Ledger.open(url)) as ledger:
            fill_beside(ledger, SMALL)
        settle(url)
    return urls


def test_no_named_query_reads_the_verdicts_from_end_to_end(ledgers: dict[int, str]) -> None:
    queries = named_queries(LARGE)
    sent = {name: statements_of(ledgers[LARGE], query) for name, query in queries.items()}
    with connected(ledgers[LARGE]) as connection:
        found = {name: [scans(connection, each) for each in statements] for name, statements in sent.items()}
        assert scans(connection, EVERY_ROW), "one that does is noticed"
    assert {name: scan for name, plans in found.items() for scan in plans if scan} == {}


def test_the_work_of_a_named_query_does_not_grow_with_the_verdicts(ledgers: dict[int, str]) -> None:
    done: dict[str, list[int]] = {"every row": []}
    for size, url in ledgers.items():
        for name, query in named_queries(size).items():
            statements = statements_of(url, query)
            with connected(url) as connection:
                done.setdefault(name, []).append(sum(work(connection, each) for each in statements))
        with connected(url) as connection:
            done["every row"].append(work(connection, EVERY_ROW))
    grown = [name for name, (small, large) in done.items() if large > 1.5 * small + 100]
    assert grown == ["every row"], done
