"""All that is known of one image: its pictures, what people said, what names it, who learnt it."""

from collections.abc import Iterator
from typing import Literal

import streamlit as st

from dashboard.pictures import LARGE_PX, Shown
from dashboard.queries import kind_in_words
from dashboard.sources import crop, framed, sources, thumbnail, viewer_zone
from dashboard.words import clock, figure, plain, short
from streams.lineage import ImageLineage, image_lineage
from streams.lineage_words import image_words
from streams.messages import Verdict

LEARNT = {
    "fit": "learnt it as a normal part",
    "held_out": "was judged with it, held out",
    "left_out": "left it out",
}
IN_WORDS = 400
CROP_PX = 200


def image_story(line: str, image_id: str) -> None:
    """Draw the story; raises NotFound where nothing is known of the image."""
    here = sources()
    lineage = image_lineage(here.ledger, here.registry, line, image_id)
    st.text(f"{short(line)}  ·  {short(image_id)}")
    verdict = lineage.image.verdict
    pictures, facts = st.columns([8, 5], gap="medium")
    with pictures:
        if verdict is None:
            _not_judged(lineage)
        else:
            _judged(verdict)
    with facts:
        st.markdown("\n".join(f"- {plain(short(each, IN_WORDS))}" for each in _facts(lineage)))
    with st.expander("Everything, as the command line tells it (times in UTC)", icon=":material/account_tree:"):
        st.markdown("\n".join(f"- {plain(short(each, IN_WORDS))}" for each in image_words(lineage)))


def _judged(verdict: Verdict) -> None:
    """The part and its heatmap, beneath them its worst place and the nearest normal patch."""
    nearest = verdict.nearest
    part, heat = st.columns(2, gap="small")
    with part:
        box = None if nearest is None else nearest.box
        _picture(framed(verdict.image_key, box), "the part" if box is None else "the part, its worst place framed")
        if nearest is not None:
            _picture(crop(verdict.image_key, nearest.box), "its worst place", width=CROP_PX)
    with heat:
        if verdict.heatmap_key is None:
            st.info("Heatmaps are kept of flagged images; none was of this one.", icon=":material/image_not_supported:")
        else:
            _picture(thumbnail(verdict.heatmap_key, side_px=LARGE_PX), "how unlike normal parts it looks")
        if nearest is not None:
            _picture(crop(nearest.training_image_key, nearest.training_box), "nearest normal", width=CROP_PX)


def _not_judged(lineage: ImageLineage) -> None:
    if lineage.image.collected is None:
        st.warning("It was not judged: it could not be processed.", icon=":material/mark_email_unread:")
        return
    st.info("It was not judged yet: it was collected for the line's first model.", icon=":material/hourglass_top:")
    _picture(framed(lineage.image_key, None), "the part")


def _facts(lineage: ImageLineage) -> Iterator[str]:
    """What is known beside the verdict, a sentence each, in the viewer's time."""
    image = lineage.image
    if image.verdict is not None:
        yield from _said_by_the_model(image.verdict)
    if image.collected is not None and image.verdict is not None:
        yield f"Collected {_when(image.collected.collected_at)}, before the line had a model"
    for review in image.reviews:
        note = f": {review.note}" if review.note else ""
        yield f"{review.by} said {review.says}, {_when(review.at)}{note}"
    if not image.reviews and image.verdict is not None:
        yield "Nobody has reviewed it yet"
    for incident in image.incidents:
        role = "The alarm was raised at it" if incident.alarm_image_id == image.image_id else "The change began with it"
        yield f"{role}: {kind_in_words(incident.kind)} ({incident.signal}), now {incident.state}"
    for row in lineage.learnt_by:
        who = (
            f"Version {row.version}" if row.version is not None else f"Request {row.request_id}, without a version yet,"
        )
        yield f"{who} {LEARNT.get(row.role, row.role)}{f': {row.why}' if row.why else ''}"
    if not lineage.learnt_by:
        yield "No model learnt from it"
    for letter in image.dead_letters:
        yield f"Dead letter {letter.identity}, {_when(letter.at)}: {letter.error}: {letter.reason}"


def _said_by_the_model(verdict: Verdict) -> Iterator[str]:
    times = f"{verdict.score / verdict.threshold:.2f} x " if verdict.threshold > 0 else ""
    yield f"{'Flagged' if verdict.flagged else 'Not flagged'}: score {figure(verdict.score)}, {times}threshold {figure(verdict.threshold)}"
    yield f"Judged by version {verdict.version}, {_when(verdict.judged_at)}"
    if verdict.nearest is None:
        yield "Its nearest normal patch is not known"


def _when(at: float) -> str:
    return clock(at, viewer_zone(), today=0.0)


def _picture(shown: Shown, caption: str, *, width: int | Literal["stretch"] = "stretch") -> None:
    if shown.jpeg is None:
        st.warning(plain(shown.words), icon=":material/broken_image:")
    else:
        st.image(shown.jpeg, caption=caption, width=width)
