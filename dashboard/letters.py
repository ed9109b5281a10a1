"""Dead letters for a page: what could not be processed, why, what it was, and putting it back. Nothing here knows Streamlit."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, replace

from detectors.errors import InvalidInput, NotFound, Unavailable
from streams.actions import Actor, redrive
from streams.ledger import Ledger
from streams.messages import DeadLetter, Redrive

BEGINNING_CHARACTERS = 1500
BEGINNING_BYTES = 64
SHOWN_HEADERS = 20
_GOES = "as soon as the recorder runs, which is part of driftline up"


@dataclass(frozen=True)
class LetterView:
    """A dead letter without the bytes of its original. `size_bytes`: of the original, of which `kept_bytes` are kept; `text`: its
    beginning where it is text; `beginning`: that, or the first bytes in hexadecimal; `back`: who put it back (None: it is open).
    """

    identity: str
    line: str
    at: float
    error: str
    reason: str
    size_bytes: int
    kept_bytes: int
    is_text: bool
    beginning: str
    headers: tuple[str, ...]
    back: Redrive | None = None


@dataclass(frozen=True)
class LetterGroup:
    """The letters of one class of error, newest first."""

    error: str
    letters: tuple[LetterView, ...]

    @property
    def open(self) -> tuple[LetterView, ...]:
        """Those that nobody put back."""
        return tuple(each for each in self.letters if each.back is None)


@dataclass(frozen=True)
class PutBack:
    """What became of an attempt to put letters back: those that go, those that stay and why, and why it ended early (None: it did not)."""

    back: tuple[str, ...]
    kept: dict[str, str]
    ended: str | None = None

    @property
    def words(self) -> str:
        """What happened, in sentences."""
        said = [_sent(len(self.back))] if self.back or not (self.kept or self.ended) else []
        said += [f"{identity} stays: {why}." for identity, why in list(self.kept.items())[:5]]
        if len(self.kept) > 5:
            said.append(f"{len(self.kept) - 5} others stay too; each says why when it is put back alone.")
        if self.ended is not None:
            said.append(f"The ledger went out of reach before the rest; try again: {self.ended}.")
        return " ".join(said)


def letter_view(letter: DeadLetter) -> LetterView:
    """What a page shows of a letter."""
    text = _text(letter.original)
    return LetterView(
        identity=letter.identity,
        line=letter.line,
        at=letter.at,
        error=letter.error,
        reason=letter.reason,
        size_bytes=len(letter.original) if letter.cut_from_bytes is None else letter.cut_from_bytes,
        kept_bytes=len(letter.original),
        is_text=text is not None,
        beginning=letter.original[:BEGINNING_BYTES].hex(" ") if text is None else text,
        headers=tuple(f"{visible(name)}: {visible(value.decode(errors='replace'))}" for name, value in letter.headers)[
            :SHOWN_HEADERS
        ],
    )


def grouped(letters: Sequence[LetterView]) -> list[LetterGroup]:
    """The letters by class of error, those with the newest letter first."""
    groups: dict[str, list[LetterView]] = {}
    for letter in letters:
        groups.setdefault(letter.error, []).append(letter)
    return [LetterGroup(error, tuple(members)) for error, members in groups.items()]


def with_fate(view: LetterView, back: Redrive | None) -> LetterView:
    """The letter, and who put it back."""
    return replace(view, back=back)


def put_back(ledger: Ledger, actor: Actor, identities: Sequence[str], *, at: float) -> PutBack:
    """Put letters back one by one: what cannot go back as it is stays, and does not keep the others. Raises NotAllowed."""
    back: list[str] = []
    kept: dict[str, str] = {}
    for identity in identities:
        try:
            redrive(ledger, actor, (identity,), at=at)
            back.append(identity)
        except (InvalidInput, NotFound) as refusal:
            kept[identity] = str(refusal)
        except Unavailable as error:
            return PutBack(tuple(back), kept, str(error))
    return PutBack(tuple(back), kept)


def what_it_was(view: LetterView) -> str:
    """The original in a sentence: its size, how much of it is kept, and what follows.

    >>> what_it_was(letter_view(DeadLetter(line="tiles", source_topic="images", source_partition=3, source_offset=17, error="E",
    ...     reason="", original=b"no picture", headers=(), key=None, at=1.0)))
    'The original: text of 10 bytes.'
    """
    if not view.size_bytes:
        return "The original: an empty message."
    kept = "" if view.kept_bytes == view.size_bytes else f", of which the first {view.kept_bytes:,} are kept"
    return f"The original: {'text' if view.is_text else 'data'} of {view.size_bytes:,} bytes{kept}."


def visible(text: str) -> str:
    """`text` with a dot for each character that would not be seen or would turn others around.

    >>> visible("a\\x00b\\u202ec")
    'a·b·c'
    """
    return "".join(each if each.isprintable() or each in "\n\t" else "·" for each in text)


def _text(data: bytes) -> str | None:
    """The beginning of what is text; None for what is not. The last character may be cut in two."""
    some = data[: 4 * BEGINNING_CHARACTERS]
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(some)
    except UnicodeDecodeError:
        return None
    if any(ord(each) < 32 and each not in "\n\r\t" for each in text):
        return None
    return visible(text[:BEGINNING_CHARACTERS].replace("\r\n", "\n"))


def _sent(count: int) -> str:
    if count == 1:
        return f"1 message goes back {_GOES}."
    return f"{count:,} messages go back {_GOES}."
