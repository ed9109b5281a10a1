"""Commands about dead letters: what could not be processed, why, and another try."""

import time
from pathlib import Path

import click
import msgspec

from detectors.errors import InvalidInput
from orchestration.cli_lines import local_actor
from orchestration.console import DONE, NO, Answer, Console, command
from orchestration.options import settings
from streams.actions import redrive
from streams.ledger import Ledger
from streams.messages import Redrive
from streams.redriving import letter_of, open_letters, redrive_of, told


def register(driftline: click.Group) -> None:
    """Put these commands under `driftline`."""
    driftline.add_command(dead_letters)


@click.group(name="dead-letters")
def dead_letters() -> None:
    """What could not be processed, why, and another try."""


@command(dead_letters, "driftline dead-letters list", name="list")
@click.option("--limit", type=click.IntRange(1), default=100)
def dead_letters_list(console: Console, limit: int) -> Answer:
    """The latest dead letters."""
    ledger = Ledger.open(settings().ledger)
    rows = [
        {
            "id": each.identity,
            "line": each.line,
            "error": each.error,
            "reason": each.reason,
            **_state(redrive_of(ledger, each)),
        }
        for each in ledger.dead_letters(limit)
    ]
    text = "\n".join(f"{row['id']}  {row['line']}  {row['state']}  {row['error']}: {row['reason']}" for row in rows)
    return Answer({"dead_letters": rows}, text or "no dead letters")


@command(dead_letters, "driftline dead-letters show images/3/17", name="show")
@click.argument("identity")
def dead_letters_show(console: Console, identity: str) -> Answer:
    """One dead letter whole."""
    ledger = Ledger.open(settings().ledger)
    letter = letter_of(ledger, identity)
    back = redrive_of(ledger, letter)
    headers = "\n".join(f"  {name}: {value!r}" for name, value in letter.headers)
    text = f"{letter.identity}\nline: {letter.line}\n{letter.error}: {letter.reason}\nheaders:\n{headers}"
    size = len(letter.original) if letter.cut_from_bytes is None else letter.cut_from_bytes
    return Answer(msgspec.to_builtins(letter) | _state(back), f"{text}\nbytes: {size}\nstate: {told(back)}")


@command(dead_letters, "driftline dead-letters redrive images/3/17 --value mended.jpg", name="redrive")
@click.argument("identities", nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="Every one that is open.")
@click.option("--error", help="With --all: only those of this error, such as ImageError.")
@click.option("--value", type=click.Path(path_type=Path), help="A file with a repaired body, for a single one.")
def dead_letters_redrive(
    console: Console, identities: tuple[str, ...], every: bool, error: str | None, value: Path | None
) -> Answer:
    """Put messages back onto the topics they came from, each once. The recorder sends them."""
    _check_usage(identities, every=every, error=error, value=value)
    ledger = Ledger.open(settings().ledger)
    if every:
        return _all_back(ledger, error)
    repaired = None if value is None else _read(value)
    back = redrive(ledger, local_actor(), tuple(dict.fromkeys(identities)), repaired=repaired, at=time.time())
    return _answer([each.identity for each in back], {})


def _all_back(ledger: Ledger, error: str | None) -> Answer:
    """What cannot go back as it is stays, and is said."""
    back: list[str] = []
    kept: dict[str, str] = {}
    for letter in open_letters(ledger, error=error):
        try:
            redrive(ledger, local_actor(), (letter.identity,), at=time.time())
            back.append(letter.identity)
        except InvalidInput as refusal:
            kept[letter.identity] = str(refusal)
    return _answer(back, kept)


def _answer(back: list[str], kept: dict[str, str]) -> Answer:
    lines = [f"{len(back)} messages go back as soon as `driftline record` (part of `driftline up`) runs"]
    lines += [f"kept: {identity}: {reason}" for identity, reason in kept.items()]
    return Answer({"redriven": back, "kept": kept}, "\n".join(lines), NO if kept else DONE)


def _check_usage(identities: tuple[str, ...], *, every: bool, error: str | None, value: Path | None) -> None:
    if bool(identities) == every:
        raise InvalidInput(
            f"{len(identities)} dead letters named, --all {'' if every else 'not '}given; give one of the two"
        )
    if error is not None and not every:
        raise InvalidInput(f"--error {error} without --all; it chooses among all of them")
    if value is not None and len(identities) != 1:
        raise InvalidInput(f"--value {value} for {len(identities)} dead letters; it is the body of one: name that one")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"--value {path}: {error.strerror}; give a file with the repaired body") from error


def _state(back: Redrive | None) -> dict[str, object]:
    if back is None:
        return {"state": "open"}
    return {"state": "redriven", "redriven_by": back.by, "redriven_at": back.at}
