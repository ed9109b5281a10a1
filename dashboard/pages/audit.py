"""Who changed what when, the configuration in force, and the dead letters."""

import time
from collections.abc import Mapping
from datetime import datetime
from functools import partial

import streamlit as st

from dashboard.auditing import (
    MOST_EXPORTED,
    Setting,
    action_in_words,
    changes_of_configuration,
    defaults_in_words,
    exact,
    exported,
    settings_in_force,
    span_of,
)
from dashboard.feedback import say, show_said
from dashboard.frame import show
from dashboard.letters import LetterGroup, LetterView, grouped, put_back, what_it_was, with_fate
from dashboard.sources import (
    configuration_file,
    letter,
    letter_picture,
    person,
    sources,
    viewer_zone,
)
from dashboard.words import plain, short
from detectors.errors import DriftlineError
from streams.ledger import AuditEntry, AuditNames, AuditWish
from streams.redriving import count_letters, latest_letters

ENTRIES_SHOWN = 50
LETTERS_SHOWN = 50
CHANGES, CONFIGURATION, LETTERS = "Who did what", "Configuration", "Dead letters"
_PLACE = "audit place"
_SHOWN = "letters shown"
_FEEDBACK = "letters feedback"


def page() -> None:
    """Title, which of the three, and that."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header("Audit", anchor=False, width="content")
        section = st.segmented_control(
            "Section",
            (CHANGES, CONFIGURATION, LETTERS),
            default=CHANGES,
            required=True,
            key="section",
            bind="query-params",
            label_visibility="collapsed",
        )
    {CHANGES: _changes, CONFIGURATION: _configuration, LETTERS: _letters}[section or CHANGES]()


def _changes() -> None:
    """The audit trail: filters, a page of it, and all of it as a file."""
    ledger = sources().ledger
    wish = _wish(ledger.audit_names())
    before = _turned(wish)
    found = ledger.audit(wish, before=before[-1] if before else None, limit=ENTRIES_SHOWN + 1)
    if not found:
        _nothing_done(wish)
        return
    shown = found[:ENTRIES_SHOWN]
    _trail(shown)
    with st.container(horizontal=True):
        turn = partial(st.button, on_click=_turn)
        turn("Newer", icon=":material/arrow_back:", key="newer", disabled=not before, args=(wish, before[:-1]))
        more, older = len(found) > ENTRIES_SHOWN, [*before, shown[-1].number]
        turn("Older", icon=":material/arrow_forward:", key="older", disabled=not more, args=(wish, older))
        st.space("stretch")
        _export(wish)


def _wish(names: AuditNames) -> AuditWish:
    with st.container(horizontal=True):
        line = _choice("Line", names.lines)
        who = _choice("Person", names.people)
        action = _choice("Action", names.actions, words={each: action_in_words(each) for each in names.actions})
        days = st.date_input("Days", value=[], key="days", format="YYYY-MM-DD", width=260)
    first, last = (*days, None, None)[:2] if isinstance(days, tuple) else (days, days)
    since, until = span_of(first, last, viewer_zone())
    return AuditWish(line=line, who=who, action=action, since=since, until=until)


def _choice(label: str, names: tuple[str, ...], *, words: Mapping[str, str] | None = None) -> str | None:
    """One of the names or another one that is typed; None for any. The names are options, which Streamlit does not render."""
    chosen = st.selectbox(
        label,
        names,
        index=None,
        placeholder="any",
        format_func=lambda name: (words or {}).get(name, name),
        accept_new_options=words is None,
        key=f"audit {label}",
        width=240,
    )
    return None if chosen is None else str(chosen)


def _turned(wish: AuditWish) -> list[int]:
    """Before which numbers the pages began that were turned to; another wish begins at the newest again."""
    asked, before = st.session_state.get(_PLACE, (wish, ()))
    return list(before) if asked == wish else []


def _turn(wish: AuditWish, before: list[int]) -> None:
    st.session_state[_PLACE] = (wish, before)


def _trail(entries: list[AuditEntry]) -> None:
    zone = viewer_zone()
    st.table(
        {
            f"when ({plain(str(zone))})": [plain(exact(entry.at, zone)) for entry in entries],
            "who": [plain(short(f"{entry.who} ({entry.role})", 60)) for entry in entries],
            "did what": [plain(action_in_words(entry.action)) for entry in entries],
            "line": [plain(short(entry.line, 64)) for entry in entries],
            "detail": [plain(short(entry.detail, 300)) for entry in entries],
        },
        border="horizontal",
        hide_index=True,
    )


def _export(wish: AuditWish) -> None:
    zone = viewer_zone()
    st.download_button(
        "All of these as CSV",
        data=partial(exported, sources().ledger, wish, zone),
        file_name=f"driftline-audit-{datetime.now(zone):%Y-%m-%d}.csv",
        mime="text/csv",
        icon=":material/download:",
        on_click="ignore",
        help=f"Whole details and exact times, the latest {MOST_EXPORTED:,} entries that the filters let through. "
        "For older ones choose other days.",
    )


def _nothing_done(wish: AuditWish) -> None:
    if wish != AuditWish():
        st.info(
            "Nobody did anything like that. Take a filter away, or choose other days.", icon=":material/filter_alt:"
        )
        return
    st.info(
        "Nobody has done anything yet. Whatever a person or Driftline itself decides is written down here: a review, "
        "a promotion, a threshold, a change of the configuration.",
        icon=":material/history_edu:",
    )


def _configuration() -> None:
    """What differs from the defaults, by whom, and how to change it."""
    here = sources()
    found = settings_in_force(here.lines, changes_of_configuration(here.ledger))
    if here.in_force.fault is not None:
        st.warning("What follows is the last good configuration: it stays in force.", icon=":material/history:")
    if found:
        _settings(found)
    else:
        st.info("Every line runs with the defaults: nothing else is described.", icon=":material/tune:")
    others = sorted({*here.ledger.line_names()} - {setting.line for setting in found})
    if found and others:
        st.caption("With the defaults alone: " + plain(short(", ".join(others), 600)))
    _how_to_change()


def _settings(found: list[Setting]) -> None:
    st.table(
        {
            "line": [plain(setting.line) for setting in found],
            "key": [plain(setting.key) for setting in found],
            "in force": [plain(short(setting.value, 200)) for setting in found],
            "default": [plain(setting.default) for setting in found],
            "changed last by": [_changed_by(setting) for setting in found],
        },
        border="horizontal",
        hide_index=True,
    )


def _changed_by(setting: Setting) -> str:
    if setting.by is None:
        return "not noted yet: the recorder does, seconds after a change"
    return plain(f"{short(setting.by.who, 60)}, {exact(setting.by.at, viewer_zone())}")


def _how_to_change() -> None:
    st.text("This page changes nothing. To change a line, edit this file; it counts within seconds of being saved:")
    st.code(str(configuration_file()), language=None)
    with st.expander("Every key and its default"):
        st.text("For example:")
        st.code('[lines."press-4/door"]\nfalse_alarm_rate = 0.02\npromotion = "approval"', language="toml")
        defaults = defaults_in_words()
        st.table(
            {"key": [plain(key) for key in defaults], "default": [plain(each) for each in defaults.values()]},
            border="horizontal",
            hide_index=True,
        )


def _letters() -> None:
    """What the last key did, then the latest dead letters by class of error."""
    show_said(_FEEDBACK)
    ledger = sources().ledger
    wanted = int(st.session_state.get(_SHOWN, LETTERS_SHOWN))
    places = latest_letters(ledger, wanted)
    if not places:
        st.success(
            "No dead letter: every message that came could be processed. Nothing is to be done.",
            icon=":material/check_circle:",
        )
        return
    for group in grouped([with_fate(letter(each.line, each.identity), each.back) for each in places]):
        _group(group)
    count = count_letters(ledger)
    if count > len(places):
        st.caption(f"The latest {len(places):,} of {count:,} dead letters.")
        st.button("Show older ones", icon=":material/expand_more:", key="older letters", on_click=_show_more)


def _group(group: LetterGroup) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(plain(short(group.error, 60)), anchor=False, width="content")
            st.badge(f"{len(group.open):,} open", color="orange" if group.open else "gray")
            st.caption(f"{len(group.letters):,} shown", width="content")
            st.space("stretch")
            if len(group.open) > 1:
                _put_group_back(group)
        for each in group.letters:
            _letter(each)


def _put_group_back(group: LetterGroup) -> None:
    """Asked again with their number; exactly the letters that were on the page go back."""
    count, newest = len(group.open), group.open[0].identity
    with st.popover(f"Put {count:,} back", icon=":material/replay:", key=f"ask {group.error} {count} {newest}"):
        st.text(
            f"{count:,} messages go back onto their topics as they came. What is still wrong with them comes back "
            f"here as a new dead letter."
        )
        st.button(
            f"Yes, put all {count:,} back",
            type="primary",
            key=f"put back {group.error} {count} {newest}",
            on_click=_put_back,
            args=(tuple(each.identity for each in group.open),),
        )


def _letter(view: LetterView) -> None:
    """One line a letter; what it was is read when it is unfolded."""
    state = "open" if view.back is None else "put back"
    title = f"{view.identity} · {view.line} · {exact(view.at, viewer_zone())} · {state} · {short(view.reason, 100)}"
    icon = ":material/mail:" if view.back is None else ":material/replay:"
    with st.expander(plain(title), icon=icon, on_change="rerun", key=f"letter {view.line} {view.identity}") as unfolded:
        if unfolded.open:
            _whole(view)


def _whole(view: LetterView) -> None:
    st.text(f"{view.error}: {view.reason}")
    topic, partition, offset = view.identity.rsplit("/", 2)
    came = f"From topic {topic}, partition {partition}, offset {offset}; set aside at {exact(view.at, viewer_zone())}."
    st.text(f"{came} {what_it_was(view)}")
    if view.is_text or not _picture(view):
        st.code(view.beginning or "(nothing)", language=None, wrap_lines=True)
    if view.headers:
        st.caption("Headers")
        st.code("\n".join(view.headers), language=None, wrap_lines=True)
    if view.back is None:
        key = f"put back {view.line} {view.identity}"
        st.button("Put back", icon=":material/replay:", key=key, on_click=_put_back, args=((view.identity,),))
    else:
        st.text(f"Put back by {view.back.by} at {exact(view.back.at, viewer_zone())}.")


def _picture(view: LetterView) -> bool:
    """The original as a picture; where it is none that is said, and False."""
    picture = letter_picture(view.line, view.identity)
    if picture.jpeg is None:
        st.caption(plain(short(picture.words, 300)))
        return False
    st.image(picture.jpeg, width=320)
    return True


def _put_back(identities: tuple[str, ...]) -> None:
    try:
        done = put_back(sources().ledger, person(), identities, at=time.time())
    except DriftlineError as error:
        say(_FEEDBACK, False, f"Nothing was put back: {error}")
        return
    say(_FEEDBACK, not done.kept and done.ended is None, done.words)


def _show_more() -> None:
    st.session_state[_SHOWN] = int(st.session_state.get(_SHOWN, LETTERS_SHOWN)) + LETTERS_SHOWN


if __name__ == "__main__":
    show(page, __file__)
