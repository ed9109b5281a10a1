"""Flagged images one at a time: why it was flagged, and what a person says of it. One key an image."""

import time

import streamlit as st

from dashboard.choosing import chosen_line
from dashboard.desk import ReviewDesk, Reviewed, review_desk, reviewed
from dashboard.frame import show
from dashboard.pictures import Shown
from dashboard.queries import Colour
from dashboard.sources import crop, framed, in_words, person, sources, thumbnail, viewer_zone
from dashboard.words import clock, figure, plain, short
from detectors.errors import DriftlineError
from streams.actions import review
from streams.messages import Verdict

ANSWERS = (("defect", "D"), ("normal", "N"), ("unsure", "U"))
COLOURS: dict[str, Colour] = {"defect": "red", "normal": "green", "unsure": "gray"}
PAGE_ROWS = 24


def page() -> None:
    """Title and picker, what was saved last, the image, the list of what has been reviewed."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header("Review", anchor=False, width="content")
        line = chosen_line()
    if line is None:
        return
    _outcome(line)
    desk = review_desk(sources().ledger, line, chosen=_chosen(line), skipped=_skipped(line))
    if desk.verdict is None:
        _all_done(line)
    else:
        _image(line, desk, desk.verdict)
    _reviewed(line)


def _outcome(line: str) -> None:
    """What became of the last key: saved (said only once it is in the ledger), or why not."""
    saved, fault = st.session_state.get(f"saved {line}"), st.session_state.pop(f"fault {line}", None)
    if fault is not None:
        st.error(f"Not saved: {plain(fault)}", icon=":material/error:")
    elif saved is not None:
        image_id, says = saved
        with st.container(horizontal=True, vertical_alignment="center"):
            st.success(
                f"Saved: {plain(short(image_id, 60))} is {_in_a_sentence(says)}.",
                icon=":material/task_alt:",
                width="stretch",
            )
            st.button(
                "Undo", shortcut="Z", icon=":material/undo:", on_click=_look_again, args=(line, image_id), key="undo"
            )


def _image(line: str, desk: ReviewDesk, verdict: Verdict) -> None:
    pictures, panel = st.columns([9, 5], gap="medium")
    with pictures:
        _pictures(verdict)
    with panel:
        _why(desk, verdict)
        _answers(line, verdict)
        _neighbour(verdict)
    if desk.following is not None:
        framed(desk.following.image_key, desk.following.nearest.box if desk.following.nearest else None)


def _pictures(verdict: Verdict) -> None:
    part, heat = st.columns(2)
    with part:
        _picture(
            framed(verdict.image_key, verdict.nearest.box if verdict.nearest else None),
            "the part, its worst place framed",
        )
    with heat:
        if verdict.heatmap_key is None:
            st.info("No heatmap was kept for this image.", icon=":material/image_not_supported:")
        else:
            _picture(thumbnail(verdict.heatmap_key, side_px=720), "how unlike normal parts it looks")
    when = plain(clock(verdict.judged_at, viewer_zone(), today=time.time()))
    st.caption(f"{plain(short(verdict.image_id))} · judged {when} by version {verdict.version}")


def _why(desk: ReviewDesk, verdict: Verdict) -> None:
    waiting = f"{desk.waiting}{'+' if desk.more else ''} waiting" if desk.waiting else "none waiting"
    times = (
        f"{verdict.score / verdict.threshold:.2f} x threshold {figure(verdict.threshold)}"
        if verdict.threshold > 0
        else ""
    )
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        st.metric(
            "score",
            figure(verdict.score),
            times,
            delta_color="red" if verdict.flagged else "green",
            delta_arrow="off",
            width="content",
        )
        st.badge(waiting, color="gray")
    if desk.said is not None:
        times = f", reviewed {desk.said.times} times" if desk.said.times > 1 else ""
        st.caption(f":material/history: {plain(short(desk.said.by, 30))} said {plain(desk.said.says)}{times}")


def _answers(line: str, verdict: Verdict) -> None:
    image_id = verdict.image_id
    for column, (says, key) in zip(st.columns(len(ANSWERS), gap="small"), ANSWERS, strict=True):
        column.button(
            says.capitalize(),
            shortcut=key,
            key=f"{says} {line} {image_id}",
            on_click=_say,
            args=(line, image_id, says),
            width="stretch",
        )
    st.text_input(
        "Note", key=_note_key(line, image_id), max_chars=1000, placeholder="Note (optional), Enter, then the key"
    )
    st.button(
        "Skip",
        shortcut="Right",
        icon=":material/skip_next:",
        on_click=_skip,
        args=(line, image_id),
        width="stretch",
        key="skip",
    )


def _neighbour(verdict: Verdict) -> None:
    """The patch that made the score, beside the most similar one of all normal parts the model learnt from."""
    nearest = verdict.nearest
    if nearest is None:
        st.caption("This model keeps no training patches to compare with.")
        return
    here, normal = st.columns(2)
    with here:
        _picture(crop(verdict.image_key, nearest.box), "this part")
    with normal:
        _picture(crop(nearest.training_image_key, nearest.training_box), "nearest normal")


def _picture(shown: Shown, caption: str) -> None:
    if shown.jpeg is None:
        st.warning(plain(shown.words), icon=":material/broken_image:")
    else:
        st.image(shown.jpeg, caption=caption, width="stretch")


def _all_done(line: str) -> None:
    st.success("Nothing is waiting for review on this line.", icon=":material/task_alt:")
    if _skipped(line):
        st.button(f"Show the {len(_skipped(line))} skipped again", on_click=_unskip, args=(line,), key="unskip")


def _reviewed(line: str) -> None:
    with in_words():
        rows = reviewed(sources().ledger, line)
        with st.expander(f"Reviewed ({len(rows)})", key="reviewed", icon=":material/history:"):
            if not rows:
                st.caption("What you say of images is listed here.")
            pages = max(1, -(-len(rows) // PAGE_ROWS))
            number = int(st.number_input("Page", 1, pages, key=f"page {line}", width=140)) if pages > 1 else 1
            for row in rows[(number - 1) * PAGE_ROWS : number * PAGE_ROWS]:
                _row(line, row)


def _row(line: str, row: Reviewed) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(plain(row.says), color=COLOURS.get(row.says, "gray"))
        st.text(short(row.image_id, 60), width=420)
        st.text(f"{clock(row.at, viewer_zone(), today=time.time())}  {short(row.by, 30)}", width=220)
        st.text(short(row.note, 200), width="stretch")
        st.button("Again", key=f"again {line} {row.image_id}", on_click=_look_again, args=(line, row.image_id))


def _say(line: str, image_id: str, says: str) -> None:
    """Write what the person says into the ledger; the page says so only if that returned."""
    note = st.session_state.get(_note_key(line, image_id), "")
    try:
        review(sources().ledger, person(), line=line, image_id=image_id, says=says, note=note, at=time.time())
    except DriftlineError as error:
        st.session_state[f"fault {line}"] = str(error)
        return
    st.session_state[f"saved {line}"] = (image_id, says)
    st.session_state[f"chosen {line}"] = None


def _look_again(line: str, image_id: str) -> None:
    """Undo is another review: the image comes back, and what is said then counts."""
    st.session_state[f"chosen {line}"] = image_id
    st.session_state[f"saved {line}"] = None


def _skip(line: str, image_id: str) -> None:
    st.session_state[f"skipped {line}"] = (*_skipped(line), image_id)
    st.session_state[f"chosen {line}"] = None


def _unskip(line: str) -> None:
    st.session_state[f"skipped {line}"] = ()


def _chosen(line: str) -> str | None:
    chosen: str | None = st.session_state.get(f"chosen {line}")
    return chosen


def _skipped(line: str) -> tuple[str, ...]:
    skipped: tuple[str, ...] = st.session_state.get(f"skipped {line}", ())
    return skipped


def _note_key(line: str, image_id: str) -> str:
    return f"note {line} {image_id}"


def _in_a_sentence(says: str) -> str:
    return "a defect" if says == "defect" else says


if __name__ == "__main__":
    show(page, __file__)
