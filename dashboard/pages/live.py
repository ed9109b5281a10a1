"""One line as it runs: scores over time, what happened in words, the flagged images as they arrive."""

import time

import streamlit as st

from dashboard import charts
from dashboard.choosing import chosen_line
from dashboard.events import Event, events, refusal_in_words, standing_alert
from dashboard.frame import show
from dashboard.queries import alarms, marks_table, references, span_of, verdict_table
from dashboard.sources import in_words, sources, thumbnail, viewer_zone
from dashboard.words import clock, figure, plain, short
from streams.messages import Verdict

WINDOWS = {"last 200": 200, "last 500": 500, "last 2,000": 2000}
EVENTS_SHOWN = 40
FLAGGED_SHOWN = 8
FLAGGED_COLUMNS = 4


def page() -> None:
    """Title and picker, then the parts that live."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header("Live", anchor=False, width="content")
        line = chosen_line()
    if line is None:
        return
    _trouble(line)
    left, right = st.columns([7, 3], gap="medium")
    with left:
        shown = st.segmented_control(
            "Images shown", list(WINDOWS), default="last 500", label_visibility="collapsed", required=True
        )
        _scores(line, WINDOWS[shown or "last 500"])
    with right:
        _events(line)
    _flagged(line)


@st.fragment(run_every=2)
def _trouble(line: str) -> None:
    with in_words():
        alert = standing_alert(sources().ledger, line)
        if alert is not None:
            words = refusal_in_words(alert)
            st.error(plain(short(words, 500)), icon=":material/gpp_bad:")


@st.fragment(run_every=2)
def _scores(line: str, images: int) -> None:
    with in_words():
        here = sources()
        verdicts = here.ledger.verdicts(line, limit=images)
        if not verdicts:
            st.info(
                "No image of this line was judged yet: it has no model. The Lines page says how many are collected."
            )
            return
        span = span_of(verdicts)
        points = verdict_table(verdicts, references(here.registry, line, [verdict.version for verdict in verdicts]))
        ledger = here.ledger
        marks = marks_table(alarms(ledger, line), ledger.servings(line), ledger.alerts(line), span=span)
        st.altair_chart(charts.score_chart(points, marks, span=span), width="stretch", key="scores")
        st.altair_chart(charts.bulk_chart(points, marks, span=span), width="stretch", key="bulk")
        if points["bulk_z"].isna().any():
            st.caption("Bulk is not drawn where the version that judged has no readable manifest.")


@st.fragment(run_every=2)
def _events(line: str) -> None:
    st.subheader("What happened", anchor=False)
    with in_words(), st.container(height=460, border=False):
        told = events(sources().ledger, line)[:EVENTS_SHOWN]
        if not told:
            st.caption("Nothing yet: alarms, new models and swaps are told here.")
        for event in told:
            _event(event)


def _event(event: Event) -> None:
    when = plain(clock(event.at, viewer_zone(), today=time.time()))
    st.markdown(f":{event.colour}[:material/{event.symbol}:] **{when}**  {plain(short(event.words, 400))}")


@st.fragment(run_every=2)
def _flagged(line: str) -> None:
    st.subheader("Last flagged", anchor=False)
    with in_words():
        flagged = sources().ledger.flagged(line, limit=FLAGGED_SHOWN)
        if not flagged:
            st.caption("No image of this line was flagged yet.")
        for start in range(0, len(flagged), FLAGGED_COLUMNS):
            for column, verdict in zip(
                st.columns(FLAGGED_COLUMNS), flagged[start : start + FLAGGED_COLUMNS], strict=False
            ):
                with column:
                    _flagged_image(verdict)


def _flagged_image(verdict: Verdict) -> None:
    picture = thumbnail(verdict.heatmap_key or verdict.image_key)
    if picture.jpeg is None:
        st.warning(plain(picture.words), icon=":material/broken_image:")
    else:
        st.image(picture.jpeg, width="stretch")
    when = plain(clock(verdict.judged_at, viewer_zone(), today=time.time()))
    ratio = f"score {figure(verdict.score)}, threshold {figure(verdict.threshold)}"
    st.caption(f"**{when}** · version {verdict.version} · {ratio}  \n{plain(short(verdict.image_id, 48))}")


if __name__ == "__main__":
    show(page, __file__)
