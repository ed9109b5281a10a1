"""All that is known of one image: its pictures, what people said, what names it, who learnt it."""

from collections.abc import Iterator

import streamlit as st

from dashboard.pictures import Shown
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


def image_story(line: str, image_id: str) -> None:
    """Draw the story; raises NotFound where nothing is known of the image."""
    here = sources()
    lineage = image_lineage(here.ledger, here.registry, line, image_id)
    st.text(f"{short(line)}  ·  {short(image_id)}")
    verdict = lineage.image.verdict
    if verdict is None:
        _not_judged(lineage)
    else:
        _judged(verdict)
    st.markdown("\n".join(f"- {plain(short(each, IN_WORDS))}" for each in _facts(lineage)))
    with st.expander("Everything, as `driftline` tells it", icon=":material/account_tree:"):
        st.markdown("\n".join(f"- {plain(short(each, IN_WORDS))}" for each in image_words(lineage)))


def _judged(verdict: Verdict) -> None:
    times = f"{verdict.score / verdict.threshold:.2f} x threshold" if verdict.threshold > 0 else ""
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.badge("flagged" if verdict.flagged else "not flagged", color="red" if verdict.flagged else "green")
        st.text(f"score {figure(verdict.score)}, threshold {figure(verdict.threshold)}  {times}", width="content")
        st.text(f"version {verdict.version}", width="content")
        st.text(_when(verdict.judged_at), width="content")
    part, heat = st.columns(2)
    with part:
        box = verdict.nearest.box if verdict.nearest else None
        _picture(framed(verdict.image_key, box), "the part, its worst place framed" if box else "the part")
    with heat:
        if verdict.heatmap_key is None:
            st.info("Heatmaps are kept of flagged images; none was of this one.", icon=":material/image_not_supported:")
        else:
            _picture(thumbnail(verdict.heatmap_key, side_px=720), "how unlike normal parts it looks")
    if verdict.nearest is not None:
        _nearest(verdict)


def _nearest(verdict: Verdict) -> None:
    nearest = verdict.nearest
    if nearest is None:
        return
    here, normal, _ = st.columns([1, 1, 2])
    with here:
        _picture(crop(verdict.image_key, nearest.box), "its worst place")
    with normal:
        _picture(crop(nearest.training_image_key, nearest.training_box), "nearest normal")


def _not_judged(lineage: ImageLineage) -> None:
    if lineage.image.collected is None:
        st.warning("It was not judged: it could not be processed.", icon=":material/mark_email_unread:")
        return
    st.info("It was not judged yet: it was collected for the line's first model.", icon=":material/hourglass_top:")
    _picture(framed(lineage.image_key, None), "the part")


def _facts(lineage: ImageLineage) -> Iterator[str]:
    """What is known beside the verdict, a sentence each, in the viewer's time."""
    image = lineage.image
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


def _when(at: float) -> str:
    return clock(at, viewer_zone(), today=0.0)


def _picture(shown: Shown, caption: str) -> None:
    if shown.jpeg is None:
        st.warning(plain(shown.words), icon=":material/broken_image:")
    else:
        st.image(shown.jpeg, caption=caption, width="stretch")
