"""What the pages read from and act on, opened once a server: the composition root of the dashboard."""

import getpass
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from dashboard import drift_map, pictures
from dashboard.drift_map import DriftMap
from dashboard.letters import LetterView, letter_view
from dashboard.pictures import Box, Shown
from dashboard.words import plain
from detectors.errors import DriftlineError, Unavailable
from detectors.objects import ObjectStore
from detectors.registry import Registry
from detectors.store import open_store
from streams.actions import Actor
from streams.ledger import Ledger
from streams.lines_in_force import LinesInForce
from streams.redriving import letter_at
from streams.settings import LineConfig, Settings, lines_file

PICTURES_REMEMBERED = 400
LETTERS_REMEMBERED = 2000


@dataclass(frozen=True)
class Sources:
    """The rooms beneath the pages of one installation."""

    ledger: Ledger
    store: ObjectStore
    registry: Registry
    in_force: LinesInForce

    @property
    def lines(self) -> Mapping[str, LineConfig]:
        """How the lines are run now."""
        return self.in_force.lines


def sources() -> Sources:
    """The installation that the environment names; the same objects in every session of this server."""
    settings = _settings()
    return _opened(str(settings.home), settings.store, settings.ledger)


def person() -> Actor:
    """Who sits at this page: on the embedded default the single local user, who may do everything."""
    return Actor(name=_user(), role="administrator")


def viewer_zone() -> tzinfo:
    """The time zone of the viewer's browser; UTC where it does not say."""
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def thumbnail(key: str, side_px: int = pictures.THUMBNAIL_PX) -> Shown:
    """`pictures.thumbnail`, remembered."""
    return pictures.shown(lambda: _thumbnail(_settings().store, key, side_px))


def framed(key: str, box: Box | None) -> Shown:
    """`pictures.framed`, remembered."""
    return pictures.shown(lambda: _framed(_settings().store, key, box))


def crop(key: str, box: Box) -> Shown:
    """`pictures.crop`, remembered."""
    return pictures.shown(lambda: _crop(_settings().store, key, box))


def with_drift_map(key: str, where: DriftMap, crop: Box) -> Shown:
    """`drift_map.with_drift_map` of the picture `key`, remembered."""
    return pictures.shown(lambda: _with_drift_map(_settings().store, key, where, crop))


def letter(line: str, identity: str) -> LetterView:
    """`letters.letter_view` of a dead letter, remembered: it never changes, and its original may be large."""
    settings = _settings()
    return _letter(str(settings.home), settings.store, settings.ledger, line, identity)


def letter_picture(line: str, identity: str) -> Shown:
    """The original of a dead letter as a picture, remembered; words where it is none."""
    settings = _settings()
    place = (str(settings.home), settings.store, settings.ledger)
    return pictures.shown(lambda: _letter_picture(*place, line, identity))


def configuration_file() -> Path:
    """Where the lines are described."""
    return lines_file(_settings().home)


@contextmanager
def in_words() -> Iterator[None]:
    """What goes wrong on purpose is said on the page, in words; the rest is a fault of ours and shows as one."""
    try:
        yield
    except Unavailable as error:
        st.warning(
            f"Out of reach, nothing is lost; this page comes back by itself. {plain(str(error))}",
            icon=":material/cloud_off:",
        )
    except DriftlineError as error:
        st.error(plain(str(error)), icon=":material/error:")


@st.cache_resource(show_spinner=False)
def _store(store_url: str) -> ObjectStore:
    return open_store(store_url)


@st.cache_resource(show_spinner=False)
def _opened(home: str, store_url: str, ledger_url: str) -> Sources:
    store = _store(store_url)
    return Sources(Ledger.open(ledger_url), store, Registry(store), LinesInForce(Path(home)))


# Keys never change what they name, so pictures are remembered; exceptions are not, so one that is gone may come back.
@st.cache_data(max_entries=PICTURES_REMEMBERED, show_spinner=False)
def _thumbnail(store_url: str, key: str, side_px: int) -> bytes:
    return pictures.thumbnail(_store(store_url), key, side_px=side_px)


@st.cache_data(max_entries=PICTURES_REMEMBERED, show_spinner=False)
def _framed(store_url: str, key: str, box: Box | None) -> bytes:
    return pictures.framed(_store(store_url), key, box)


@st.cache_data(max_entries=PICTURES_REMEMBERED, show_spinner=False)
def _crop(store_url: str, key: str, box: Box) -> bytes:
    return pictures.crop(_store(store_url), key, box)


@st.cache_data(max_entries=PICTURES_REMEMBERED, show_spinner=False)
def _with_drift_map(store_url: str, key: str, where: DriftMap, crop: Box) -> bytes:
    return drift_map.with_drift_map(_store(store_url), key, where, crop)


@st.cache_data(max_entries=LETTERS_REMEMBERED, show_spinner=False)
def _letter(home: str, store_url: str, ledger_url: str, line: str, identity: str) -> LetterView:
    return letter_view(letter_at(_opened(home, store_url, ledger_url).ledger, line, identity))


@st.cache_data(max_entries=PICTURES_REMEMBERED, show_spinner=False)
def _letter_picture(home: str, store_url: str, ledger_url: str, line: str, identity: str) -> bytes:
    letter = letter_at(_opened(home, store_url, ledger_url).ledger, line, identity)
    return pictures.thumbnail_of(letter.original)


def _settings() -> Settings:
    return Settings.from_environ(os.environ)


def _user() -> str:
    try:
        return getpass.getuser()
    except OSError:
        return "local user"
