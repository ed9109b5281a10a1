"""Any image that was judged, by what is known of it; its whole story; what was found, to take away."""

import time
from collections.abc import Callable
from datetime import timedelta

import streamlit as st

from dashboard.choosing import chosen_lines
from dashboard.exporting import BYTES_LIMIT, IMAGES_LIMIT, MISSING_NAMED, TABLE_LIMIT, Archive, archive_of, table_of
from dashboard.frame import show
from dashboard.image_story import image_story
from dashboard.queries import Colour
from dashboard.searching import FLAGGED, PAGE_IMAGES, SAYS, Fields, Matches, all_matches, asked
from dashboard.sources import in_words, sources, thumbnail, viewer_zone
from dashboard.words import clock, figure, plain, short
from streams.ledger_search import FoundImage, FoundPage, Place, Search

COLUMNS = 6
LONGEST_VERSION = 2**31 - 1
FIELDS = tuple(
    f"search {name}" for name in ("id", "whole", "since", "until", "lowest", "highest", "flagged", "says", "version")
)
COLOURS: dict[str, Colour] = {"defect": "red", "normal": "green", "unsure": "gray"}
_STORY, _TURNED, _EXPORT = "search story", "search turned", "search export"


def page() -> None:
    """Title and picker, what is looked for, what was found, its export."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header("Search", anchor=False, width="content")
        lines = chosen_lines()
    if lines is None:
        return
    fields = _fields()
    wanted = asked(lines, fields, viewer_zone())
    places = _places(wanted)
    found = sources().ledger.search(wanted, before=places[-1], limit=PAGE_IMAGES)
    _turning(found, places)
    _images(found)
    if not found.images:
        _nothing(wanted, fields, found, first=len(places) == 1)
    else:
        _export(wanted)
    if _STORY in st.session_state:
        _story()


def _fields() -> Fields:
    """What a person may fill in: nothing of it has to be."""
    image, since, until, version = st.columns([4, 3, 3, 2], gap="small")
    with image:
        image_id = st.text_input("Image id, or how it begins", key="search id", placeholder="part-12")
    begins = since.datetime_input(
        "Judged from", value=None, step=timedelta(minutes=5), key="search since", format="YYYY-MM-DD"
    )
    ends = until.datetime_input("until", value=None, step=timedelta(minutes=5), key="search until", format="YYYY-MM-DD")
    number = version.number_input("Version", 1, LONGEST_VERSION, None, step=1, key="search version", placeholder="any")
    whole, lowest, highest, flagged, says, clear = st.columns(
        [4, 2, 2, 2, 2, 2], gap="small", vertical_alignment="bottom"
    )
    exactly = whole.checkbox("the id is exactly this", key="search whole")
    low = lowest.number_input("Score from", value=None, step=0.1, key="search lowest", placeholder="any")
    high = highest.number_input("to", value=None, step=0.1, key="search highest", placeholder="any")
    flag = flagged.selectbox("Flagged", list(FLAGGED), key="search flagged", format_func=_or_any)
    said = says.selectbox("People say", list(SAYS), key="search says", format_func=_or_any)
    clear.button("Clear", icon=":material/filter_alt_off:", on_click=_clear, key="search clear", width="stretch")
    return Fields(image_id, exactly, begins, ends, low, high, str(flag), str(said), number)


def _places(wanted: Search) -> list[Place | None]:
    """Where the pages turned so far begin, of this search; another one begins at its newest image."""
    turned: tuple[Search, list[Place | None]] = st.session_state.get(_TURNED, (wanted, [None]))
    if turned[0] != wanted:
        turned = (wanted, [None])
    st.session_state[_TURNED] = turned
    return turned[1]


def _turning(found: FoundPage, places: list[Place | None]) -> None:
    """How many images are shown, of which time, and the ways to newer and older ones."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(_shown(found), width="stretch")
        st.button(
            "Newest",
            icon=":material/first_page:",
            on_click=_turn,
            args=(places[:1],),
            disabled=len(places) < 2,
            key="newest",
        )
        st.button(
            "Newer",
            icon=":material/chevron_left:",
            on_click=_turn,
            args=(places[:-1],),
            disabled=len(places) < 2,
            key="newer",
        )
        st.button(
            "Older" if found.looked_back_to is None else "Look further back",
            icon=":material/chevron_right:",
            on_click=_turn,
            args=([*places, found.following],),
            disabled=found.following is None,
            key="older",
        )


def _shown(found: FoundPage) -> str:
    """What is shown, and how far was looked for it."""
    words = "No image on this page."
    if found.images:
        first, last = (_when(found.images[place].verdict.judged_at) for place in (-1, 0))
        count = len(found.images)
        words = f"1 image, judged {last}." if count == 1 else f"{count} images, newest first, judged {first} to {last}."
    if found.looked_back_to is not None:
        words += f" Looked at everything back to {_when(found.looked_back_to)}; there may be older ones."
    return words


def _images(found: FoundPage) -> None:
    for start in range(0, len(found.images), COLUMNS):
        row = found.images[start : start + COLUMNS]
        for column, image in zip(st.columns(COLUMNS, gap="small"), row, strict=False):
            with column:
                _image(image)


def _image(image: FoundImage) -> None:
    verdict = image.verdict
    picture = thumbnail(verdict.image_key)
    if picture.jpeg is None:
        with st.container(border=True):
            st.caption(f":material/broken_image: {plain(picture.words)}")
    else:
        st.image(picture.jpeg, width="stretch")
    with st.container(horizontal=True, gap="small"):
        if verdict.flagged:
            st.badge("flagged", color="red")
        if image.says is not None:
            st.badge(plain(short(image.says, 20)), color=COLOURS.get(image.says, "gray"), icon=":material/person:")
        if not verdict.flagged and image.says is None:
            st.badge("not flagged", color="gray")
    when = plain(_when(verdict.judged_at))
    st.caption(
        f"**{plain(short(verdict.image_id, 28))}**  \n{when}  \n{plain(short(verdict.line, 28))} · version {verdict.version}  \n"
        f"score {figure(verdict.score)} of {figure(verdict.threshold)}"
    )
    key = f"story {verdict.line} {verdict.image_id}"
    st.button("Story", key=key, on_click=_open, args=(verdict.line, verdict.image_id), width="stretch")


def _nothing(wanted: Search, fields: Fields, found: FoundPage, *, first: bool) -> None:
    """What to do where nothing was found; an image that was never judged is no match, but known."""
    if found.following is not None:
        st.info("Nothing so far. Look further back, or name a time.", icon=":material/history:")
    elif not first:
        st.info("Nothing older matches.", icon=":material/search_off:")
    elif fields.empty:
        st.info(
            "No image was judged here yet. The Lines page says how many are collected.", icon=":material/hourglass_top:"
        )
    else:
        st.info(
            "Nothing matches. Leave out a field, or Clear all; of an id its beginning is enough.",
            icon=":material/search_off:",
        )
    for line in sources().ledger.unjudged_lines(wanted.image_id, lines=wanted.lines) if wanted.image_id else ():
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(f"An image of this id came down {short(line, 64)}, and was not judged.", width="content")
            st.button("Story", key=f"unjudged {line}", on_click=_open, args=(line, wanted.image_id))


def _export(wanted: Search) -> None:
    """All that was found, made when it is asked for: only the latest is held."""
    with st.expander("Take it away", icon=":material/download:", key="take away"):
        table, images = st.columns(2, gap="medium")
        with table:
            st.caption(f"Every match, up to {TABLE_LIMIT:,}, a row each.")
            _made(wanted, "CSV", _table)
        with images:
            st.caption(
                f"The newest {IMAGES_LIMIT} images, up to {BYTES_LIMIT // 1_000_000} MB, in MVTec's layout: "
                "test/good, test/defect, test/flagged ..."
            )
            _made(wanted, "zip", _archive)


def _made(wanted: Search, what: str, make: Callable[[Search], tuple[bytes, str]]) -> None:
    if st.button(
        f"Make {what}", key=f"make {what}", icon=":material/table:" if what == "CSV" else ":material/folder_zip:"
    ):
        with in_words(), st.spinner("Reading what was found"):
            st.session_state[_EXPORT] = (wanted, what, *make(wanted))
    made: tuple[Search, str, bytes, str] | None = st.session_state.get(_EXPORT)
    if made is None or made[:2] != (wanted, what):
        return
    st.text(made[3])
    name, mime = ("driftline.csv", "text/csv") if what == "CSV" else ("driftline-images.zip", "application/zip")
    st.download_button(
        f"Download {name}", made[2], name, mime, key=f"download {what}", on_click="ignore", type="primary"
    )


def _table(wanted: Search) -> tuple[bytes, str]:
    found = all_matches(sources().ledger, wanted, limit=TABLE_LIMIT)
    return table_of(found.images), f"{_counted(len(found.images), 'row')}. {_cut(found, TABLE_LIMIT)}"


def _archive(wanted: Search) -> tuple[bytes, str]:
    here = sources()
    found = all_matches(here.ledger, wanted, limit=IMAGES_LIMIT)
    archive = archive_of(here.store, found.images)
    return archive.data, f"{_counted(archive.images, 'image')}. {_cut(found, IMAGES_LIMIT)} {_absent(archive)}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _cut(found: Matches, limit: int) -> str:
    if found.looked_back_to is not None:
        return f"Looked at everything back to {_when(found.looked_back_to)}; name a time for older ones."
    return f"There are more: only the newest {limit:,} are in it." if found.cut else "That is all of them."


def _absent(archive: Archive) -> str:
    full = "Not all fitted: it is full. " if archive.full else ""
    if not archive.missing:
        return f"{full}No mask is known, so none is in it."
    named = ", ".join(short(each, 40) for each in archive.missing[:MISSING_NAMED])
    more = (
        f" and {len(archive.missing) - MISSING_NAMED} more (README.txt has all)"
        if archive.missing[MISSING_NAMED:]
        else ""
    )
    return f"{full}The pixels of {len(archive.missing)} are no longer in the object store: {named}{more}. No mask is known."


@st.dialog("The story of an image", width="large", on_dismiss=lambda: _close())
def _story() -> None:
    line, image_id = st.session_state[_STORY]
    with in_words():
        image_story(line, image_id)


def _open(line: str, image_id: str) -> None:
    st.session_state[_STORY] = (line, image_id)


def _close() -> None:
    st.session_state.pop(_STORY, None)


def _turn(places: list[Place | None]) -> None:
    wanted, _ = st.session_state[_TURNED]
    st.session_state[_TURNED] = (wanted, places)


def _clear() -> None:
    for key in FIELDS:
        st.session_state.pop(key, None)


def _when(at: float) -> str:
    return clock(at, viewer_zone(), today=time.time())


def _or_any(choice: str) -> str:
    return choice or "any"


if __name__ == "__main__":
    show(page, __file__)
