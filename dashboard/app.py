"""The dashboard, `streamlit run dashboard/app.py`: five pages over the installation that the environment names."""

import streamlit as st

from dashboard.frame import framed_page
from dashboard.sources import Sources, in_words, sources
from dashboard.words import plain, short


def main() -> None:
    """The frame around every page."""
    page = framed_page()
    with in_words():
        warn_of_mistakes(sources())
        page.run()


def warn_of_mistakes(here: Sources) -> None:
    """What is wrong with the configuration, above every page."""
    fault = here.in_force.fault
    if fault is not None:
        st.warning(plain(short(fault, 600)), icon=":material/edit_off:")


if __name__ == "__main__":
    main()
