"""Where a version comes from, on the models page: what people call defects among what it learnt, its lineage, its card to take away."""

import streamlit as st

from dashboard.sources import in_words, sources
from dashboard.versions import VersionCard
from dashboard.words import plain, short
from detectors.encoding import encode_name
from streams.lineage import version_story
from streams.lineage_words import version_words

DEFECTS_NAMED = 5


def affected_warning(card: VersionCard) -> None:
    """A warning where training images of the version stand as defects now."""
    if not card.affected:
        return
    named = ", ".join(plain(short(each.image_id, 40)) for each in card.affected[:DEFECTS_NAMED])
    more = f" and {len(card.affected) - DEFECTS_NAMED} more" if len(card.affected) > DEFECTS_NAMED else ""
    st.warning(
        f"{len(card.affected)} of its training images stand as defects now: {named}{more}. Train again: they stay out.",
        icon=":material/warning:",
    )


def lineage_controls(line: str, card: VersionCard) -> None:
    """A switch, and behind it the story of the version, as the commands and Dagster's page tell it, and its card."""
    if not st.toggle("Lineage", key=f"lineage {line} {card.number}"):
        return
    with in_words(), st.container(border=True):
        # Imported here: the drift watch's arithmetic takes half a second that the page need not wait for.
        from streams.model_card import kept_card

        here = sources()
        story = version_story(here.ledger, here.registry, line, card.number)
        st.markdown("\n".join(f"- {plain(each)}" for each in version_words(story)))
        st.download_button(
            "Model card",
            kept_card(here.store, story),
            file_name=f"{encode_name(line)}-{card.number}.md",
            mime="text/markdown",
            icon=":material/download:",
            key=f"card {line} {card.number}",
        )
