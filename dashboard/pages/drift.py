"""What changed on a line: each incident with its evidence, before and after, what was decided, and what a person says of it."""

import time

import streamlit as st

from dashboard import asking, charts
from dashboard.around import signal_around
from dashboard.choosing import chosen_line
from dashboard.decisions import decided
from dashboard.drift_map import FURTHER, NEARER, DriftMap, limit_of, looked_at
from dashboard.feedback import NO_REASON, say, show_said
from dashboard.frame import show
from dashboard.incidents import (
    SHAPES,
    IncidentCard,
    answers_to,
    drift_map_of,
    incident_card,
    kind_look,
    on_the_line,
    state_look,
)
from dashboard.pictures import Shown
from dashboard.signals import name_of, quantity, unit_of
from dashboard.sources import framed, in_words, person, sources, viewer_zone, with_drift_map
from dashboard.words import ago, certainty, clock, plain, short
from detectors.errors import DriftlineError
from streams import actions
from streams.incidents import ACKNOWLEDGED, EXPECTED, IGNORED
from streams.messages import DriftIncident, Verdict
from streams.settings import line_config

ANSWERS = (
    (ACKNOWLEDGED, "Acknowledge", "visibility"),
    (EXPECTED, "It is the new normal, learn it", "school"),
    (IGNORED, "Explained, do not learn", "block"),
)
NOT_IN_LEDGER = "This image is not in the ledger."
SAID = {
    ACKNOWLEDGED: "has seen it",
    EXPECTED: "it is the new normal, learn it",
    IGNORED: "explained, do not learn",
}


def page() -> None:
    """Title and picker, the incidents that go on, those that are over."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header("Drift", anchor=False, width="content")
        line = chosen_line()
    if line is None:
        return
    asking.section(line)
    going_on, past = on_the_line(sources().ledger, line)
    if not going_on:
        words = "No change of this line is open." if past else "This line has not changed since it has a model."
        st.success(words, icon=":material/check_circle:")
    _follow(line, _stand(line))
    for incident in going_on:
        with st.container(border=True):
            _headline(incident)
            _incident(incident)
    if past:
        st.subheader("Over", anchor=False)
    for incident in past:
        _past(incident)


@st.fragment(run_every=5)
def _follow(line: str, shown: list[str]) -> None:
    """Look every five seconds; where something else happened than is shown, the page begins again."""
    with in_words():
        if _stand(line) != shown:
            st.rerun()


def _stand(line: str) -> list[str]:
    """Which incidents there are, how they are, and what has been said of those that go on."""
    ledger = sources().ledger
    going_on, past = on_the_line(ledger, line)
    said = [answer.identity for incident in going_on for answer in answers_to(ledger, incident)]
    return [*(incident.identity for incident in going_on + past), *said]


def _past(incident: DriftIncident) -> None:
    """One line a past incident; what is in it is read when it is unfolded."""
    look, when = kind_look(incident.kind), clock(incident.at, viewer_zone(), today=time.time())
    title = f"{plain(look.word)} · {plain(name_of(incident.signal))} · closed {plain(when)}"
    with st.expander(
        title, icon=f":material/{look.symbol}:", on_change="rerun", key=f"past {incident.incident_id}"
    ) as unfolded:
        if unfolded.open:
            _headline(incident)
            _incident(incident)


def _headline(incident: DriftIncident) -> None:
    kind, state = kind_look(incident.kind), state_look(incident.state)
    when = plain(clock(incident.at, viewer_zone(), today=time.time()))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(f":{kind.colour}[:material/{kind.symbol}:] {plain(kind.word)}", anchor=False, width="content")
        st.badge(plain(state.word), icon=f":material/{state.symbol}:", color=state.colour)
        since = f"{'since ' if incident.state != 'closed' else ''}{when}, {ago(time.time() - incident.at)}"
        st.caption(f"{since}{': ' if incident.reason else ''}{plain(short(incident.reason, 200))}", width="content")


def _incident(incident: DriftIncident) -> None:
    here = sources()
    card = incident_card(here.ledger, incident)
    words, pictures = st.columns([5, 6], gap="medium")
    with words:
        _figures(incident)
        _why(card)
        _decision(incident)
        _links(incident.line)
        _answers(card)
    with pictures:
        _pair(card)
        _chart(card)


def _figures(incident: DriftIncident) -> None:
    signal = incident.signal
    unit = f", {unit_of(signal)}" if unit_of(signal) == "grey levels" else ""
    with st.container(horizontal=True):
        st.metric(
            plain(name_of(signal) + unit),
            f"{quantity(signal, incident.reference)} → {quantity(signal, incident.observed)}",
            f"{incident.effect:+.1f} robust sd",
            delta_color="off",
            help="From the median of the model's own normal images to what it is since the change.",
        )
        st.metric("how sure", certainty(incident.confidence), width="content")


def _why(card: IncidentCard) -> None:
    """The sentences: why, where, since when, and what false alarms were promised."""
    incident = card.incident
    for sentence in incident.evidence:
        st.markdown(f":material/troubleshoot: Why: {plain(short(sentence, 300))}")
    if incident.place:
        st.markdown(f":material/location_on: Where in the image: **{plain(short(incident.place, 60))}**.")
    how = f"It came {SHAPES[incident.shape]}. " if incident.shape in SHAPES else ""
    since, alarm = _named(incident.since_image_id, card.since), _named(incident.alarm_image_id, card.alarm)
    model = f"{incident.after_images:,} images of version {incident.version}"
    st.markdown(f":material/schedule: {how}Since image {since}; noticed at image {alarm}, after {model}.")
    if incident.run_length is not None:
        promise = f"at most one false alarm in {incident.run_length:,} images"
        st.markdown(f":material/verified: Promised: {promise} (test: {plain(short(incident.test, 40))}).")


@st.fragment(run_every=5)
def _decision(incident: DriftIncident) -> None:
    """What was decided; while it waits for images, these are counted."""
    here = sources()
    with in_words():
        words = decided(here.ledger, incident_card(here.ledger, incident), line_config(here.lines, incident.line))
        st.info(plain(words), icon=":material/gavel:")


def _links(line: str) -> None:
    with st.container(horizontal=True):
        st.page_link(
            "pages/review.py", label="Flagged parts", icon=":material/rate_review:", query_params={"line": line}
        )
        st.page_link("pages/models.py", label="Models", icon=":material/inventory_2:", query_params={"line": line})


def _pair(card: IncidentCard) -> None:
    """The image before the change and one after it, side by side, the drift map over the second."""
    incident = card.incident
    before, after = st.columns(2, gap="small")
    with before:
        if incident.before_image_id is None:
            st.info("Which image was the last one before it is not known.", icon=":material/image_not_supported:")
        else:
            _picture(_as_it_was(card.before), f"before: {short(incident.before_image_id, 40)}")
    with after:
        image_id, shown = _after(card)
        _picture(shown, f"after: {short(image_id, 40)}")
    where = drift_map_of(incident)
    if where is None:
        st.caption("Where in the image it changed is not known: this incident has no drift map.")
    else:
        _legend(limit_of(where))


def _after(card: IncidentCard) -> tuple[str, Shown]:
    """The alarm image; the first one after the change where that picture is gone."""
    incident, where = card.incident, drift_map_of(card.incident)
    alarm, since = _with_map(card.alarm, where), _with_map(card.since, where)
    if alarm.jpeg is None and since.jpeg is not None:
        return incident.since_image_id, since
    return incident.alarm_image_id, alarm


def _as_it_was(verdict: Verdict | None) -> Shown:
    return Shown(None, NOT_IN_LEDGER) if verdict is None else framed(verdict.image_key, None)


def _with_map(verdict: Verdict | None, where: DriftMap | None) -> Shown:
    if verdict is None or where is None:
        return _as_it_was(verdict)
    return with_drift_map(verdict.image_key, where, looked_at(sources().registry, verdict.line, verdict.version))


def _picture(shown: Shown, caption: str) -> None:
    if shown.jpeg is None:
        st.warning(plain(f"{caption}. {shown.words}"), icon=":material/broken_image:")
    else:
        st.image(shown.jpeg, caption=plain(caption), width="stretch")


def _legend(limit: float) -> None:
    """What the colours of a drift map mean; they are the same on either theme."""
    nearer, further = (f"rgb{colour}" for colour in (NEARER, FURTHER))
    st.html(
        '<div style="display:flex;align-items:center;gap:0.6rem;font-size:0.85rem;opacity:0.8">'
        f"<span>nearer to normal, −{limit:.2g} sd</span>"
        f'<span style="flex:1;height:0.7rem;border-radius:3px;background:linear-gradient(90deg,{nearer},'
        f'transparent,{further})"></span><span>+{limit:.2g} sd, less like normal</span></div>'
    )


def _chart(card: IncidentCard) -> None:
    here, signal = sources(), card.incident.signal
    around = signal_around(here.ledger, here.registry, card)
    if around.points.empty:
        st.caption("There is no chart: no verdict around this change says what the signal was.")
        return
    unit = "robust sd" if around.in_deviations else unit_of(signal)
    level = 0.0 if around.in_deviations else card.incident.reference
    st.caption(f"{plain(name_of(signal).capitalize())}, image by image around the change")
    chart = charts.signal_chart(around.points, around.marks, unit=unit, level=level)
    st.altair_chart(chart, width="stretch", key=f"chart {card.incident.incident_id}")


def _answers(card: IncidentCard) -> None:
    """What people said, what the last key did, and the keys while the incident goes on."""
    icons = {says: symbol for says, _, symbol in ANSWERS}
    for answer in card.answers:
        when = plain(clock(answer.at, viewer_zone(), today=time.time()))
        said = f"{short(answer.by, 40)}: {SAID.get(answer.says, answer.says)}{'. ' if answer.note else ''}{answer.note}"
        st.markdown(f":material/{icons.get(answer.says, 'chat')}: **{when}** {plain(short(said, 400))}")
    show_said(_place(card.incident), done="Saved: ", failed="Not saved: ")
    if card.is_open:
        _ask(card.incident)


def _ask(incident: DriftIncident) -> None:
    with st.form(f"answer {incident.incident_id}", border=False):
        st.text_input(
            "What do you say of it?",
            key=_note_key(incident),
            max_chars=1000,
            placeholder="Reason, for the audit trail: new material from Monday",
        )
        with st.container(horizontal=True):
            for says, label, symbol in ANSWERS:
                st.form_submit_button(
                    label,
                    icon=f":material/{symbol}:",
                    key=f"{says} {incident.incident_id}",
                    on_click=_answer,
                    args=(incident, says),
                )


def _answer(incident: DriftIncident, says: str) -> None:
    """Write what the person says into the ledger; the page says so only if that returned."""
    note = st.session_state.get(_note_key(incident), "")
    if says != ACKNOWLEDGED and not note.strip():
        say(_place(incident), False, NO_REASON)
        return
    ledger, at = sources().ledger, time.time()
    try:
        actions.answer_incident(
            ledger, person(), line=incident.line, incident_id=incident.incident_id, says=says, note=note, at=at
        )
    except DriftlineError as error:
        say(_place(incident), False, str(error))
        return
    st.session_state[_note_key(incident)] = ""
    say(_place(incident), True, f"{SAID[says]}.")


def _place(incident: DriftIncident) -> str:
    """Where the session keeps what came of an answer."""
    return f"feedback {incident.incident_id}"


def _named(image_id: str, verdict: Verdict | None) -> str:
    """An image by its name and, where it is in the ledger, its time."""
    when = "" if verdict is None else f" ({clock(verdict.judged_at, viewer_zone(), today=time.time())})"
    return plain(f"{short(image_id, 40)}{when}")


def _note_key(incident: DriftIncident) -> str:
    return f"note {incident.incident_id}"


if __name__ == "__main__":
    show(page, __file__)
