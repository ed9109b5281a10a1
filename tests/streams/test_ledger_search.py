"""Search among the verdicts: what it finds, page by page, and that it never reads them from end to end."""

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial

import msgspec
import pytest

from detectors.errors import InvalidInput
from streams import ledger_search
from streams.ledger import Ledger
from streams.ledger_search import Place, Search
from streams.messages import Review, Verdict
from streams.reviews import standing
from tests.streams.ledger_bulk import BEGAN_AT, LINES, OTHERS, connected, fill_beside, image_id, make_large, settle
from tests.streams.ledger_plans import scans, statements_of, work
from tests.streams.test_ledger import LETTER, collected, verdict

KOREAN = "프레스-4/문"
IMAGES = 240
DAY_S = 86_400.0


def said(image: str, says: str, *, by: str = "ana", at: float = 9e5, line: str = "tiles") -> Review:
    return Review(line=line, image_id=image, says=says, note="", by=by, at=at)


def lived() -> list[Verdict]:
    """Two lines over some days, three at a time judged in the same moment; ids repeat between the lines."""
    return [
        msgspec.structs.replace(
            verdict(
                f"part-{number * 77 % IMAGES:03}",
                at=1000.0 * (number // 3),
                version=1 + number // 100,
                flagged=number % 7 == 0,
            ),
            line=("tiles", KOREAN)[number % 2],
            score=float(number * 37 % 100),
        )
        for number in range(IMAGES)
    ]


REVIEWS = [
    *(said(f"part-{number:03}", "defect") for number in range(0, IMAGES, 8)),
    *(said(f"part-{number:03}", "normal", by="bo", at=9.1e5) for number in range(0, IMAGES, 12)),
    *(said(f"part-{number:03}", "unsure", line=KOREAN) for number in range(1, IMAGES, 30)),
    *(said(f"part-{number:03}", "normal", at=9.2e5) for number in range(0, IMAGES, 40)),
]
SEARCHES = [
    Search(),
    Search(lines=(KOREAN,)),
    Search(image_id="part-01"),
    Search(image_id="part-014", whole=True),
    Search(image_id="part-14", whole=True),
    Search(since=5000.0, until=20_000.0),
    Search(lowest=20.0, highest=40.0),
    Search(lowest=99.5),
    Search(flagged=True),
    Search(flagged=False, version=2),
    Search(version=1, lowest=50.0, flagged=True),
    Search(version=9),
    Search(says="defect"),
    Search(says="normal", lines=("tiles",)),
    Search(says="unsure", until=50_000.0),
    Search(says="none"),
    Search(says="none", flagged=True, version=1),
    Search(says="defect", flagged=False, lowest=10.0, version=1),
    Search(says="normal", image_id="part-1"),
]


def matching(wanted: Search, verdicts: list[Verdict]) -> list[tuple[float, str, str, str | None]]:
    """What a search is to find, by going through all of it."""
    found = []
    for each in verdicts:
        reviews = [one for one in REVIEWS if (one.line, one.image_id) == (each.line, each.image_id)]
        says = standing(reviews) if reviews else None
        matches = (
            (not wanted.lines or each.line in wanted.lines)
            and (each.image_id == wanted.image_id if wanted.whole else each.image_id.startswith(wanted.image_id))
            and wanted.since <= each.judged_at < wanted.until
            and wanted.lowest <= each.score <= wanted.highest
            and wanted.flagged in (None, each.flagged)
            and wanted.version in (None, each.version)
            and (wanted.says is None or wanted.says == (says or "none"))
        )
        if matches:
            found.append((each.judged_at, each.line, each.image_id, says))
    return sorted(found, key=lambda one: one[:3], reverse=True)


def turned(ledger: Ledger, wanted: Search, *, limit: int) -> Iterator[tuple[float, str, str, str | None]]:
    """Everything a search finds, page by page."""
    page = ledger.search(wanted, limit=limit)
    for _ in range(1000):
        assert len(page.images) <= limit
        for each in page.images:
            yield each.verdict.judged_at, each.verdict.line, each.verdict.image_id, each.says
        if page.following is None:
            return
        assert page.looked_back_to is not None or len(page.images) == limit
        page = ledger.search(wanted, before=page.following, limit=limit)
    pytest.fail("there is no end")


@pytest.mark.parametrize("few", [False, True])
def test_every_match_is_found_once_newest_first(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, few: bool) -> None:
    """Also where a page may look at a handful of images only, and nothing is sorted at once."""
    if few:
        for limit in ("INDEXED", "READ", "NAMED"):
            monkeypatch.setattr(ledger_search, limit, 10)
        monkeypatch.setattr(ledger_search, "REVIEWED_AT_ONCE", 8)
    verdicts = lived()
    ledger.record([*verdicts, *REVIEWS])
    for wanted in SEARCHES:
        assert list(turned(ledger, wanted, limit=7)) == matching(wanted, verdicts), wanted


def test_what_came_meanwhile_moves_no_page(ledger: Ledger) -> None:
    verdicts = lived()
    ledger.record(verdicts)
    first = ledger.search(Search(), limit=50)
    ledger.record([verdict("new", at=1e6)])
    second = ledger.search(Search(), before=first.following, limit=50)
    found = [each.verdict.image_id for each in (*first.images, *second.images)]
    assert found == [image for _, _, image, _ in matching(Search(), verdicts)[:100]]


def test_a_page_says_how_far_it_looked(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_search, "INDEXED", 10)
    ledger.record([msgspec.structs.replace(each, judged_at=1000.0 * place) for place, each in enumerate(lived())])
    page = ledger.search(Search(lowest=1e6), limit=7)
    assert page.images == ()
    assert page.looked_back_to is not None
    assert page.following == Place(page.looked_back_to, "", "")
    assert 5 <= (239_000 - page.looked_back_to) / 1000 <= 20


def test_an_image_that_was_never_judged_is_known(ledger: Ledger) -> None:
    dead = msgspec.structs.replace(LETTER, line=KOREAN, headers=(("ce_id", b"lost"),))
    ledger.record([collected("waits"), dead, collected("judged"), verdict("judged"), said("unheard", "defect")])
    assert ledger.unjudged_lines("waits") == ["tiles"]
    assert ledger.unjudged_lines("lost") == [KOREAN]
    assert ledger.unjudged_lines("lost", lines=("tiles",)) == []
    assert [ledger.unjudged_lines(each) for each in ("judged", "unheard", "nothing")] == [[], [], []]


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ({"since": 10.0, "until": 9.0}, "ends before it begins"),
        ({"since": math.nan}, "ends before it begins"),
        ({"lowest": 2.0, "highest": 1.0}, "no score lies between 2 and 1"),
        ({"lowest": math.nan}, "no score lies between nan"),
        ({"says": "perhaps"}, "nobody says 'perhaps'"),
        ({"image_id": "x" * 10_000}, "an id of 10,000 characters"),
        ({"image_id": "a\0b"}, "NUL"),
        ({"image_id": "a\ud800"}, "is not text"),
    ],
)
def test_what_nothing_can_match_is_said(mistake: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        replace(Search(), **mistake)  # type: ignore[arg-type]


@pytest.mark.parametrize("image", ["%", "_art", "' OR 1=1 --", "part-0\U0010ffff", "한글", "x" * 1000, "../etc"])
def test_odd_ids_are_text_like_any_other(ledger: Ledger, image: str) -> None:
    ledger.record([verdict("part-0"), verdict(f"{image}!")])
    assert [each.verdict.image_id for each in ledger.search(Search(image_id=image), limit=9).images] == [f"{image}!"]


def test_nothing_is_found_in_an_empty_ledger(ledger: Ledger) -> None:
    for wanted in SEARCHES:
        assert ledger.search(wanted, limit=9) == ledger_search.FoundPage((), None)


SMALL, LARGE = 10_000, 40_000
END = BEGAN_AT + LARGE
LEDGER_SEARCHES = {
    "all": Search(),
    "a line": Search(lines=LINES[:1]),
    "an id": Search(image_id=image_id(77), whole=True),
    "few ids": Search(image_id=image_id(770)[:-1]),
    "a minute long ago": Search(lines=LINES[:1], since=BEGAN_AT + 1000, until=BEGAN_AT + 1060),
    "flagged": Search(flagged=True),
    "not flagged by the oldest version": Search(flagged=False, version=1),
    "a version": Search(version=1),
    "no such version": Search(version=99),
    "a frequent score": Search(lowest=1.0),
    "nobody said anything": Search(says="none"),
    "flagged and nobody said anything": Search(says="none", flagged=True),
    "people say normal": Search(says="normal"),
    "people say normal of what was not flagged": Search(says="normal", flagged=False),
    "a score nobody has": Search(lowest=9.0),
    "an id and what people say": Search(image_id="image-0", says="defect"),
    "many ids and a score": Search(image_id="image-0", lowest=9.0, flagged=False),
}
BOUNDED = ("a score nobody has", "an id and what people say", "many ids and a score")
"""They look at as many as they may, which are more than the small ledger has."""


def two_pages(wanted: Search, ledger: Ledger) -> None:
    """The first page and, where there is one, the next."""
    following = ledger.search(wanted, limit=24).following
    if following is not None:
        ledger.search(wanted, before=following, limit=24)


def test_no_search_reads_the_verdicts_from_end_to_end(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_search, "INDEXED", SMALL)
    monkeypatch.setattr(ledger_search, "READ", SMALL // 4)
    monkeypatch.setattr(ledger_search, "NAMED", 10 * LARGE // OTHERS)
    make_large(url, LARGE)
    with closing(Ledger.open(url)) as opened:
        fill_beside(opened, LARGE)
    settle(url)
    found: dict[str, list[str]] = {}
    done: dict[str, int] = {}
    for name, wanted in LEDGER_SEARCHES.items():
        statements = statements_of(url, partial(two_pages, wanted))
        with connected(url) as connection:
            found[name] = [scan for each in statements for scan in scans(connection, each)]
            done[name] = sum(work(connection, each) for each in statements)
    with connected(url) as connection:
        every_row = work(connection, ("SELECT count(*) FROM verdicts WHERE redelivered >= 0", ()))
    assert {name: scan for name, scan in found.items() if scan} == {}
    too_much = {name: steps for name, steps in done.items() if steps > every_row * (0.7 if name in BOUNDED else 0.35)}
    assert too_much == {}, (every_row, done)
