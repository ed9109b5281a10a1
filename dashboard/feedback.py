"""What the last action of a page did, said once where the page wants it: kept over the rerun that follows an action."""

import streamlit as st

from dashboard.words import plain

NO_REASON = "give a reason, it goes into the audit trail."


def say(place: str, good: bool, words: str) -> None:
    """Keep for `place` (a name of its own in the session) whether something was done, and in words what or why not."""
    st.session_state[place] = (good, words)


def show_said(place: str, *, done: str = "", failed: str = "") -> None:
    """Show what was said for `place` since the last time, after one of the two beginnings; nothing where nothing was."""
    good, words = st.session_state.pop(place, (True, ""))
    if words and good:
        st.success(f"{done}{plain(words)}", icon=":material/task_alt:")
    elif words:
        st.error(f"{failed}{plain(words)}", icon=":material/error:")
