"""How a command speaks: one answer (text, or one JSON document), errors in one line, the exit status.

Status: 0 done; 1 it ran and the answer is no; 2 wrong use or bad input; 130 interrupted.
"""

import functools
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import TypeVar

import click
import msgspec
from rich.console import Console as RichConsole
from rich.progress import Progress as RichProgress
from rich.progress import TaskID

from detectors.errors import DriftlineError

PLAIN_LINE_EVERY_S = 10.0
DONE, NO, WRONG, INTERRUPTED = 0, 1, 2, 130

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What a command found: `data` for machines (anything msgspec encodes), `text` for people."""

    data: object
    text: str = ""
    status: int = DONE


class Console:
    """Where a command may speak while it works: standard output, or standard error when that is kept for JSON."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._bar: RichProgress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._said = time.monotonic()

    def say(self, text: str) -> None:
        """One line for the person watching."""
        click.echo(text, err=self._json)

    def give(self, answer: Answer) -> None:
        """The answer itself."""
        if self._json:
            click.echo(msgspec.json.format(msgspec.json.encode(answer.data), indent=1).decode())
        elif answer.text:
            click.echo(answer.text)

    def progress(self, items: Iterable[T], what: str) -> Iterator[T]:
        """The items one by one, with a bar and the time left on a terminal, a plain line every ten seconds elsewhere."""
        total = len(items) if isinstance(items, Sized) else None
        if sys.stderr.isatty():
            with RichProgress(console=RichConsole(stderr=True)) as bar:
                yield from bar.track(items, total=total, description=what)
            return
        said = time.monotonic()
        for done, item in enumerate(items):
            if time.monotonic() - said >= PLAIN_LINE_EVERY_S:
                said = time.monotonic()
                click.echo(f"{what}: {done} of {total if total is not None else '?'}", err=True)
            yield item

    def told(self, what: str, done: int, total: int) -> None:
        """As `progress`, for work that says itself how far it is."""
        if not sys.stderr.isatty():
            if time.monotonic() - self._said >= PLAIN_LINE_EVERY_S:
                self._said = time.monotonic()
                click.echo(f"{what}: {done} of {total}", err=True)
            return
        if self._bar is None:
            self._bar = RichProgress(console=RichConsole(stderr=True))
            self._bar.start()
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(self._tasks[what], completed=done, total=total)

    def close(self) -> None:
        """Take the bars away; harmless where there are none."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def command(
    group: click.Group, example: str, *, name: str | None = None
) -> Callable[[Callable[..., Answer]], click.Command]:
    """Register a function as a command of `group`: adds `--json` and an example at the end of its help.

    The function gets a `console` and returns an `Answer`.
    """

    def register(function: Callable[..., Answer]) -> click.Command:
        @functools.wraps(function)
        def run(*, as_json: bool, **arguments: object) -> int:
            console = Console(json=as_json)
            try:
                answer = function(console=console, **arguments)
            finally:
                console.close()
            console.give(answer)
            return answer.status

        with_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")(run)
        return group.command(name=name, epilog=f"\b\nExample:\n  {example}")(with_json)

    return register


def run(group: click.Group, arguments: list[str] | None = None) -> int:
    """Run a command line; the exit status. Errors made on purpose are one line on standard error, `--debug` shows where."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    debug = "--debug" in arguments
    try:
        status = group.main([a for a in arguments if a != "--debug"], prog_name="driftline", standalone_mode=False)
    except (DriftlineError, click.ClickException) as error:
        if debug:
            traceback.print_exc()
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        click.echo(f"driftline: {' '.join(text.split())}", err=True)
        return WRONG
    except (KeyboardInterrupt, click.Abort):
        click.echo("driftline: interrupted", err=True)
        return INTERRUPTED
    return status if isinstance(status, int) else DONE


def _interrupt(_signal: int, _frame: object) -> None:
    """SIGTERM ends a command as Ctrl-C does: everything it started is stopped in order."""
    raise KeyboardInterrupt
