"""How a version on trial looks on the models page: its numbers, the pictures on which it and the champion disagree, approve and reject."""

import time
from collections.abc import Callable

import streamlit as st

from dashboard.feedback import NO_REASON
from dashboard.sources import person, sources, thumbnail
from dashboard.trials import TrialCard, disagreement_in_words, trial_card
from dashboard.words import plain, share, short
from detectors.errors import DriftlineError
from streams.actions import approve, reject
from streams.settings import line_config

PICTURES_A_ROW = 4
PICTURE_PX = 240

Feedback = Callable[[bool, str], None]


def trial(line: str, version: int, feedback: Feedback) -> None:
    """What there is to say of `version` of a line, if it is on trial; `feedback` hears what a button did."""
    here = sources()
    card = trial_card(here.ledger, here.registry, line, line_config(here.lines, line))
    if card is None or card.version != version:
        return
    with st.container(border=True):
        title = "Waits for a person" if card.is_waiting else "Scores beside the champion"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{title}**", width="content")
            st.space("stretch")
            _ask(line, card, "Approve", feedback)
            _ask(line, card, "Reject", feedback)
        st.caption(plain(card.words))
        for each in card.approvals:
            st.caption(plain(f"approved by {short(each.by, 40)}: {short(each.why, 200)}"))
        _numbers(card)
        _disagreements(card)


def _numbers(card: TrialCard) -> None:
    if not card.scored:
        return
    with st.container(horizontal=True):
        st.metric("images both scored", f"{card.scored:,}")
        st.metric(f"version {card.version} flags", share(card.flagged / card.scored))
        st.metric(f"version {card.champion} flags", share(card.champion_flagged / card.scored))
        st.metric("they disagree on", f"{card.apart:,}")


def _disagreements(card: TrialCard) -> None:
    """The image, and the challenger's heatmap over it, wherever only one of the two flags."""
    if not card.disagreements:
        return
    st.caption(f"The latest of the {card.apart} images on which they disagree; below each, the challenger's heatmap.")
    for start in range(0, len(card.disagreements), PICTURES_A_ROW):
        row = card.disagreements[start : start + PICTURES_A_ROW]
        for column, shadow in zip(st.columns(PICTURES_A_ROW), row, strict=False):
            with column:
                for key in (shadow.image_key, shadow.heatmap_key):
                    if key is not None:
                        _picture(key)
                st.caption(f"{plain(short(shadow.image_id, 40))}  \n{plain(disagreement_in_words(shadow))}")


def _picture(key: str) -> None:
    picture = thumbnail(key, PICTURE_PX)
    if picture.jpeg is None:
        st.warning(plain(picture.words), icon=":material/broken_image:")
    else:
        st.image(picture.jpeg, width="stretch")


def _ask(line: str, card: TrialCard, label: str, feedback: Feedback) -> None:
    symbol = ":material/thumb_up:" if label == "Approve" else ":material/thumb_down:"
    with st.popover(label, icon=symbol, key=f"ask {label} {line} {card.version}"):
        with st.form(f"form {label} {line} {card.version}", border=False):
            why = st.text_input("Reason, for the audit trail", max_chars=500, key=f"why {label} {line} {card.version}")
            sure = st.form_submit_button(label, type="primary", key=f"do {label} {line} {card.version}")
        if sure:
            feedback(*_decide(line, card.version, label, why))
            st.rerun()


def _decide(line: str, version: int, label: str, why: str) -> tuple[bool, str]:
    """Whether it was done, and what to say of it."""
    here, by, at = sources(), person(), time.time()
    if not why.strip():
        return False, f"Nothing was changed: {NO_REASON}"
    try:
        if label == "Reject":
            reject(here.ledger, by, here.registry, line=line, version=version, why=why, at=at)
            return True, f"Version {version} is rejected and scores no more."
        config = line_config(here.lines, line)
        approve(here.ledger, by, here.registry, line=line, version=version, why=why, config=config, at=at)
    except DriftlineError as error:
        return False, f"Nothing was changed: {error}"
    if here.registry.pointers(line).champion == version:
        return True, f"Version {version} is the champion now; scorers follow within seconds."
    return True, f"Version {version} is approved by {by.name}; another person has to approve it too."
