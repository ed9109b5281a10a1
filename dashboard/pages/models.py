"""The versions of a line: what each learnt from, what the gates said, and which one serves."""

import time

import streamlit as st

from dashboard.choosing import chosen_line
from dashboard.events import CAUSE_IN_WORDS
from dashboard.feedback import NO_REASON, say, show_said
from dashboard.frame import show
from dashboard.operating_point import threshold_controls
from dashboard.queries import Colour
from dashboard.sources import person, sources, thumbnail, viewer_zone
from dashboard.trial_view import trial
from dashboard.version_story import affected_warning, lineage_controls
from dashboard.versions import VersionCard, VersionShelf, shelf
from dashboard.words import clock, figure, plain, share, short
from detectors.errors import DriftlineError
from detectors.manifest import Manifest
from streams.actions import promote, rollback

MARK_COLOURS: dict[str, Colour] = {
    "champion": "green", "challenger": "blue", "previous": "gray", "rolled back": "red",
}  # fmt: skip
MARK_SYMBOLS = {
    "champion": "military_tech", "challenger": "compare_arrows", "previous": "history", "rolled back": "undo",
}  # fmt: skip
INTRUDERS_SHOWN = 6
_FEEDBACK = "models feedback"


def page() -> None:
    """Title and picker, what the last action did, a card a version."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header("Models", anchor=False, width="content")
        line = chosen_line()
    if line is None:
        return
    show_said(_FEEDBACK)
    here = sources()
    versions = shelf(here.registry, here.ledger, line)
    if not versions.cards:
        st.info(
            "No version yet. The first one is made by itself once enough images are collected,",
            icon=":material/hourglass_top:",
        )
        st.text("or make one now from a folder of normal images:")
        st.code(f"driftline train FOLDER --line {short(line)}", language="bash")
    for card in versions.cards:
        _version(line, card, versions)


def _version(line: str, card: VersionCard, versions: VersionShelf) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(f"Version {card.number}", anchor=False, width="content")
            for mark in card.marks:
                st.badge(mark, icon=f":material/{MARK_SYMBOLS[mark]}:", color=MARK_COLOURS[mark])
            st.space("stretch")
            _actions(line, card, versions)
        if card.refused is not None:
            st.error(
                f"The scorer refused to load this version: {plain(short(card.refused, 400))}", icon=":material/gpp_bad:"
            )
        if card.manifest is None:
            st.error(f"Its manifest cannot be read: {plain(short(card.fault, 400))}", icon=":material/broken_image:")
        else:
            affected_warning(card)
            trial(line, card.number, _tell)
            _figures(card, card.manifest)
            _gates(card)
            threshold_controls(line, card)
            lineage_controls(line, card)


def _figures(card: VersionCard, manifest: Manifest) -> None:
    threshold = manifest.threshold
    in_force = card.operating_point.threshold if card.operating_point else threshold.value
    with st.container(horizontal=True):
        st.metric(
            "learnt from",
            f"{len(manifest.training_keys):,} images",
            f"{len(manifest.left_out)} left out",
            delta_color="off",
            delta_arrow="off",
        )
        st.metric("threshold", figure(in_force), _revision(card), delta_color="off", delta_arrow="off")
        st.metric(
            "flags of normal parts",
            share(threshold.false_alarm_rate),
            f"95 %: {share(threshold.low)} to {share(threshold.high)}",
            delta_color="off",
            delta_arrow="off",
            help=f"The share of normal parts it may flag, from {threshold.images} images ({plain(threshold.method)}).",
        )
        st.metric(
            "made",
            plain(clock(manifest.created_at, viewer_zone(), today=time.time())),
            _parent(manifest),
            delta_color="off",
            delta_arrow="off",
        )
    cause = CAUSE_IN_WORDS.get(manifest.cause, manifest.cause)
    features = f"{manifest.features.backbone} at {manifest.features.image_size} px"
    st.caption(f"{plain(manifest.detector)} on {plain(features)} · {plain(manifest.mode)} · cause: {plain(cause)}")
    for note in manifest.notes:
        st.caption(plain(short(note, 300)))
    if manifest.intruders:
        _intruders(manifest)
    if manifest.left_out:
        _left_out(manifest)


def _intruders(manifest: Manifest) -> None:
    """Training images that look bad, greatest first: a person decides whether they are."""
    with st.expander(f"Training images that look like intruders ({len(manifest.intruders)})"):
        st.caption("If they are bad, take them out of the folder and train again.")
        some = list(manifest.intruders.items())[:INTRUDERS_SHOWN]
        for column, (key, times) in zip(st.columns(INTRUDERS_SHOWN), some, strict=False):
            with column:
                picture = thumbnail(key)
                if picture.jpeg is None:
                    st.warning(plain(picture.words), icon=":material/broken_image:")
                else:
                    st.image(picture.jpeg, width="stretch")
                st.caption(f"{times:.2f} x the limit  \n{plain(short(key.rsplit('/', 1)[-1], 32))}")


def _left_out(manifest: Manifest) -> None:
    with st.expander(f"Left out of the training set ({len(manifest.left_out)})"):
        st.dataframe(
            {"image": list(manifest.left_out), "why": list(manifest.left_out.values())},
            hide_index=True,
            height=220,
            width="stretch",
        )


def _gates(card: VersionCard) -> None:
    if not card.gates:
        st.caption("No gates report: this version was not made by a request.")
        return
    for gate in card.gates:
        symbol, colour = ("check_circle", "green") if gate.passed else ("cancel", "red")
        words = "passed" if gate.passed else "FAILED"
        st.markdown(
            f":{colour}[:material/{symbol}: {words}] **{plain(gate.name.replace('_', ' '))}**"
            f"  {plain(short(gate.words, 300))}"
        )


def _actions(line: str, card: VersionCard, versions: VersionShelf) -> None:
    """The champion can be rolled back, every other version promoted; each with a reason."""
    if "champion" in card.marks:
        if versions.previous is not None:
            _ask(line, card.number, None, f"Roll back to {versions.previous}")
    elif card.manifest is not None:
        _ask(line, card.number, card.number, "Promote")


def _ask(line: str, number: int, promoted: int | None, label: str) -> None:
    """Where a person changes the champion. Its keys say what it does, so that a click on a page out of date does nothing."""
    name = f"{label} {line} {number}"
    with st.popover(label, icon=":material/undo:" if promoted is None else ":material/upgrade:", key=f"ask {name}"):
        with st.form(f"form {name}", border=False):
            why = st.text_input("Reason, for the audit trail", max_chars=500, key=f"why {name}")
            sure = st.form_submit_button(label, type="primary", key=f"do {name}")
        if sure:
            _change(line, promoted, why)
            st.rerun()


def _change(line: str, promoted: int | None, why: str) -> None:
    here, by, at = sources(), person(), time.time()
    if not why.strip():
        _tell(False, f"Nothing was changed: {NO_REASON}")
        return
    try:
        if promoted is None:
            done = rollback(here.ledger, by, here.registry, line=line, why=why, at=at)
        else:
            done = promote(here.ledger, by, here.registry, line=line, version=promoted, why=why, at=at)
    except DriftlineError as error:
        _tell(False, f"Nothing was changed: {error}")
        return
    _tell(True, f"Version {done.version} is the champion now; scorers follow within seconds.")


def _tell(good: bool, words: str) -> None:
    say(_FEEDBACK, good, words)


def _revision(card: VersionCard) -> str:
    point = card.operating_point
    return (
        "as calibrated"
        if point is None or point.revision == 1
        else f"revision {point.revision} by {plain(short(point.by, 30))}"
    )


def _parent(manifest: Manifest) -> str:
    return "the first" if manifest.parent is None else f"after version {manifest.parent}"


if __name__ == "__main__":
    show(page, __file__)
