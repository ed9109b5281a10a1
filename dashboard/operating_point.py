"""The threshold of a version on the models page: its history, what another one would have flagged, and setting it with a reason."""

import time

import streamlit as st

from dashboard.feedback import NO_REASON, say, show_said
from dashboard.sources import in_words, person, sources, viewer_zone
from dashboard.versions import VersionCard
from dashboard.words import clock, figure, plain, short
from detectors.errors import DriftlineError
from detectors.registry import OperatingPoint
from streams.actions import set_threshold
from streams.operating_points import preview, suggest

REVISIONS_SHOWN = 10


def threshold_controls(line: str, card: VersionCard) -> None:
    """A switch, and behind it all about the threshold of a version: nothing is counted until somebody asks."""
    if card.operating_point is None or not st.toggle("Threshold", key=f"threshold {line} {card.number}"):
        return
    with in_words(), st.container(border=True):
        show_said(_place(line, card))
        _history(line, card)
        value = _tried(line, card, card.operating_point)
        why = st.text_input("Reason, for the audit trail", max_chars=500, key=f"threshold why {line} {card.number}")
        if st.button("Set this threshold", type="primary", key=f"threshold do {line} {card.number}"):
            _set(line, card, value, why)
            st.rerun()


def _history(line: str, card: VersionCard) -> None:
    points = sources().registry.operating_points(line, card.number)
    for point in points[-REVISIONS_SHOWN:]:
        when = clock(point.at, viewer_zone(), today=time.time())
        words = f"{figure(point.threshold)}, revision {point.revision}, {when} by {short(point.by, 40)}: {short(point.why, 200)}"
        st.caption(plain(f"{words}; {point.preview}" if point.preview else words))


def _tried(line: str, card: VersionCard, in_force: OperatingPoint) -> float:
    """The threshold that is typed, under it what it would have flagged and what the reviews suggest."""
    here = sources()
    value = float(
        st.number_input(
            "Another threshold",
            min_value=0.0,
            value=in_force.threshold,
            step=float(f"{in_force.threshold / 100:.1g}") or 0.01,
            format="%.6g",
            key=f"threshold value {line} {card.number}",
        )
    )
    seen = preview(here.ledger, line, card.number, value, now=time.time())
    st.markdown(f"{plain(f'{value:.6g}')} {plain(seen.words)}.")
    suggestion = suggest(here.ledger.scored_parts(line, card.number), in_force.threshold)
    spoken = suggestion.words if suggestion.threshold is None else f"the reviews suggest {suggestion.words}"
    st.caption(plain(spoken))
    return value


def _set(line: str, card: VersionCard, value: float, why: str) -> None:
    if not why.strip():
        say(_place(line, card), False, f"Nothing was changed: {NO_REASON}")
        return
    here, at = sources(), time.time()
    try:
        point = set_threshold(
            here.ledger, person(), here.registry, line=line, version=card.number, threshold=value, why=why, at=at
        )
    except DriftlineError as error:
        say(_place(line, card), False, f"Nothing was changed: {error}")
        return
    words = f"Revision {point.revision} is {figure(point.threshold)}; scorers follow within three seconds."
    say(_place(line, card), True, words)


def _place(line: str, card: VersionCard) -> str:
    """Where the session keeps what was said of a version's threshold."""
    return f"threshold said {line} {card.number}"
