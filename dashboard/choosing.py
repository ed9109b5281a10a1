"""Which line a page is about: chosen once, kept in the address (`?line=...`) so that a link to a line works."""

import streamlit as st

from dashboard.queries import line_names
from dashboard.sources import sources

PARAMETER = "line"
_REMEMBERED = "line remembered"
_PICKER = "line picker"
_SEARCHED = "line searched"


def chosen_line() -> str | None:
    """A picker over the lines, and the line it is on; None, with what to do next said, where there is none yet."""
    names = line_names(sources().ledger)
    if not names:
        nothing_yet()
        return None
    wanted = st.query_params.get(PARAMETER) or st.session_state.get(_REMEMBERED)
    if wanted not in names:
        if wanted is not None:
            st.warning(
                "There is no line of the name in the address; showing another one.", icon=":material/search_off:"
            )
        wanted = names[0]
    st.session_state[_PICKER] = wanted
    st.selectbox("Line", names, key=_PICKER, on_change=_picked, label_visibility="collapsed", width=320)
    st.session_state[_REMEMBERED] = wanted
    st.query_params[PARAMETER] = wanted
    return str(wanted)


def chosen_lines() -> tuple[str, ...] | None:
    """A picker over the lines and all of them together: the line it is on, or none named; None where there is no line yet."""
    names = line_names(sources().ledger)
    if not names:
        nothing_yet()
        return None
    if st.session_state.get(_SEARCHED) not in ("", *names):
        wanted = st.query_params.get(PARAMETER) or st.session_state.get(_REMEMBERED) or ""
        if wanted not in ("", *names):
            st.warning("There is no line of the name in the address; showing all.", icon=":material/search_off:")
            wanted = ""
        st.session_state[_SEARCHED] = wanted
    picked = str(
        st.selectbox("Line", ["", *names], key=_SEARCHED, format_func=_or_all, label_visibility="collapsed", width=320)
    )
    if not picked:
        st.query_params.pop(PARAMETER, None)
        return ()
    st.query_params[PARAMETER] = st.session_state[_REMEMBERED] = picked
    return (picked,)


def nothing_yet() -> None:
    """The page of an installation no camera has sent anything to."""
    st.info("No line has sent an image yet.", icon=":material/photo_camera:")
    st.text("Send some and they appear here within seconds:")
    st.code("driftline camera send part-1.jpg part-2.jpg --line press-4", language="bash")
    st.text("or watch the whole story on a rendered line:")
    st.code("driftline demo", language="bash")


def _picked() -> None:
    st.query_params[PARAMETER] = st.session_state[_PICKER]


def _or_all(line: str) -> str:
    return line or "All lines"
