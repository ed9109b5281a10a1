"""The frame around the pages: title, navigation, and the way in through an address.

Streamlit takes a folder `pages` for pages of its own until `st.navigation` was called once in the server. A link
that is the first thing a fresh server is asked for would run a page bare: `show` leads it through the frame instead.
"""

from collections.abc import Callable
from pathlib import Path

import streamlit as st
from streamlit.navigation.page import Page

from dashboard.sources import in_words, sources
from dashboard.words import plain, short

PAGES = {
    "lines": ("Lines", ":material/grid_view:"),
    "live": ("Live", ":material/monitoring:"),
    "drift": ("Drift", ":material/troubleshoot:"),
    "review": ("Review", ":material/rate_review:"),
    "models": ("Models", ":material/inventory_2:"),
    "search": ("Search", ":material/search:"),
    "audit": ("Audit", ":material/history_edu:"),
}
_FRAMED = "inside the frame"


def framed_page() -> Page:
    """Set up title and navigation and return the page that the address asks for."""
    st.set_page_config(page_title="Driftline", page_icon=":material/conveyor_belt:", layout="wide")
    st.session_state[_FRAMED] = True
    return st.navigation(list(_pages().values()), position="top")


def show(page: Callable[[], None], file: str) -> None:
    """Draw `page`, which lives in `file`; what goes wrong on purpose is said in words."""
    if _FRAMED in st.session_state:
        with in_words():
            _warn_of_mistakes()
            page()
        return
    pages = _pages()
    st.navigation(list(pages.values()), position="hidden")
    st.switch_page(pages[Path(file).stem], query_params=dict(st.query_params))


def _warn_of_mistakes() -> None:
    """What is wrong with the configuration, above every page."""
    fault = sources().in_force.fault
    if fault is not None:
        st.warning(plain(short(fault, 600)), icon=":material/edit_off:")


def _pages() -> dict[str, Page]:
    return {
        name: st.Page(f"pages/{name}.py", title=title, icon=icon, default=name == "lines")
        for name, (title, icon) in PAGES.items()
    }
