"""Every line as a card."""

import time

import streamlit as st

from dashboard.choosing import nothing_yet
from dashboard.frame import show
from dashboard.queries import LineCard, cards, kind_in_words
from dashboard.sources import in_words, sources
from dashboard.words import ago, plain, share, short

COLUMNS = 3


def page() -> None:
    """Title, then the cards, looked at again every two seconds."""
    st.header("Lines", anchor=False)
    _cards()


@st.fragment(run_every=2)
def _cards() -> None:
    with in_words():
        here = sources()
        found = cards(here.ledger, here.lines, now=time.time())
        if not found:
            nothing_yet()
        for start in range(0, len(found), COLUMNS):
            for column, card in zip(st.columns(COLUMNS), found[start : start + COLUMNS], strict=False):
                with column:
                    _card(card)


def _card(card: LineCard) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.subheader(plain(card.line), anchor=False, width="content")
            st.badge(card.state.word, icon=f":material/{card.state.symbol}:", color=card.state.colour)
        if card.progress is None:
            _figures(card)
        else:
            _progress(*card.progress)
        _notices(card)
        _links(card.line)


def _figures(card: LineCard) -> None:
    with st.container(horizontal=True):
        st.metric("images a minute", f"{card.images_per_min:.0f}")
        over = card.flag_rate is not None and card.flag_rate > 3 * card.target_rate
        st.metric(
            "flagged",
            share(card.flag_rate),
            f"target {share(card.target_rate)}",
            delta_color="red" if over else "off",
            delta_arrow="off",
            help="Share of the latest images that were flagged, against the share of good parts a threshold may flag.",
        )
        st.metric("version", "–" if card.version is None else str(card.version))


def _progress(collected: int, needed: int) -> None:
    st.progress(
        min(1.0, collected / max(1, needed)), text=f"collected {collected} of {needed} images for the first model"
    )
    if collected >= needed:
        st.caption("Enough for a first model; it is made now.")
    else:
        st.caption("Nothing is flagged yet. The first model is made from these images; then each of them is judged.")


def _notices(card: LineCard) -> None:
    if card.trouble is not None:
        st.error(
            f"A version was refused, the one before stays in service: {plain(short(card.trouble, 300))}",
            icon=":material/gpp_bad:",
        )
    if card.incident is not None:
        words = kind_in_words(card.incident)
        st.warning(f"Open incident: {plain(words)}", icon=":material/trending_up:")
    if card.waits is not None:
        st.info(
            f"A new model is asked for; the request {plain(short(card.waits, 300))}", icon=":material/hourglass_top:"
        )
    late = f" · {card.overdue:,} after the deadline" if card.overdue else ""
    last = f" · last {ago(card.seen_s)}" if card.seen_s is not None else ""
    st.caption(f"{card.judged:,} images judged{late}{last}")


def _links(line: str) -> None:
    with st.container(horizontal=True):
        for file, label, icon in (
            ("live", "Live", "monitoring"),
            ("drift", "Drift", "troubleshoot"),
            ("review", "Review", "rate_review"),
            ("models", "Models", "inventory_2"),
        ):
            st.page_link(f"pages/{file}.py", label=label, icon=f":material/{icon}:", query_params={"line": line})


if __name__ == "__main__":
    show(page, __file__)
