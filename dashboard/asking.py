"""The part of a page where a person asks for a new model, and sees what the requests of the line wait for."""

import time

import streamlit as st

from dashboard.events import CAUSE_IN_WORDS, window_in_words
from dashboard.feedback import NO_REASON, say, show_said
from dashboard.sources import in_words, person, sources, viewer_zone
from dashboard.words import clock, plain, short
from detectors.errors import DriftlineError
from streams.actions import cancel_request, request_retrain
from streams.causes import MODES, Wish
from streams.ledger import UNENDED, RequestRow
from streams.ledger_rows import SHADOWING
from streams.settings import line_config

MODES_IN_WORDS = {
    "blind": "the latest images, whatever they show",
    "refresh": "the latest images and the old ones that are still normal",
    "trusted": "parts reviewed as normal, and the trusted folder",
}
STANDS_IN_WORDS = {"running": "is carried out", SHADOWING: "is tried out beside the champion"}
_FEEDBACK = "asking feedback"


def section(line: str) -> None:
    """What was asked for and has not ended, what the last key did, and the form to ask."""
    with st.container(horizontal=True, vertical_alignment="center"):
        _open_requests(line)
        _form(line)
    show_said(_FEEDBACK)


@st.fragment(run_every=5)
def _open_requests(line: str) -> None:
    with in_words():
        for row in sources().ledger.requests(line, states=UNENDED):
            _request(line, row)


def _request(line: str, row: RequestRow) -> None:
    request = row.request
    cause = CAUSE_IN_WORDS.get(request.cause, request.cause)
    asked = f"A new model was asked for at {clock(request.requested_at, viewer_zone(), today=time.time())} ({cause})"
    how = f"{request.mode}, from {window_in_words(request)}"
    stands = STANDS_IN_WORDS.get(row.state) or row.detail or "waits for its turn"
    st.info(plain(f"{asked}: {how}. It {short(stands, 400)}."), icon=":material/hourglass_top:")
    if row.state == "open":
        key = f"cancel {request.request_id}"
        st.button("Give it up", icon=":material/cancel:", key=key, on_click=_cancel, args=(line, request.request_id))


def _form(line: str) -> None:
    with (
        st.popover("Retrain now", icon=":material/autorenew:", key=f"ask for {line}"),
        st.form(f"asking {line}", border=False),
    ):
        mode = st.selectbox("It learns from", MODES, format_func=MODES_IN_WORDS.__getitem__, key=f"mode {line}")
        why = st.text_input("Reason, for the audit trail", max_chars=500, key=f"reason {line}")
        if st.form_submit_button("Retrain now", type="primary", key=f"retrain {line}"):
            _ask(line, mode, why)
            st.rerun()


def _ask(line: str, mode: str, why: str) -> None:
    """File the request; the page says so only if that returned."""
    here, at = sources(), time.time()
    if not why.strip():
        say(_FEEDBACK, False, f"Nothing was asked for: {NO_REASON}")
        return
    try:
        config, wish = line_config(here.lines, line), Wish(mode, why=why)
        asked = request_retrain(here.ledger, person(), here.registry, config, wish, line=line, at=at)
    except DriftlineError as error:
        say(_FEEDBACK, False, f"Nothing was asked for: {error}")
        return
    say(_FEEDBACK, True, f"A new model is asked for: {asked.mode}, from {window_in_words(asked)}.")


def _cancel(line: str, request_id: str) -> None:
    try:
        cancel_request(
            sources().ledger, person(), line=line, request_id=request_id, why="on the dashboard", at=time.time()
        )
    except DriftlineError as error:
        say(_FEEDBACK, False, f"Nothing was given up: {error}")
        return
    say(_FEEDBACK, True, "The request is given up.")
