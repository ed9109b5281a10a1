"""A line's name as one safe path part, and back. Names are encoded, never trusted, where they become a path or a key.

A name is 1 to 64 letters and digits of any script, `.`, `_`, `-`, and `/` between parts. The marks that many scripts
write their vowels with count as letters where they follow one. Of the ways to write one text only the composed one
(Unicode NFC) is taken, so that two names that look the same are the same.
"""

import re
import unicodedata

from detectors.errors import InvalidInput

NAME_LIMIT = 64
PART_LIMIT_BYTES = 255
"""Longest file name of the usual file systems."""

_PUNCTUATION = "._-"
_ESCAPES = re.compile(r"%(2E|2F)")


def check_line_name(name: str) -> None:
    """Raise InvalidInput unless `name` may name a line.

    >>> check_line_name("press-4/door")
    >>> check_line_name("../etc")
    Traceback (most recent call last):
    detectors.errors.InvalidInput: line name '../etc' has the part '..'; write letters and digits between the slashes
    """
    if not 1 <= len(name) <= NAME_LIMIT:
        raise InvalidInput(f"line name {name[:80]!r} has {len(name)} characters; use 1 to {NAME_LIMIT}")
    for part in name.split("/"):
        if not part.strip("."):
            raise InvalidInput(
                f"line name {name!r} has the part {part!r}; write letters and digits between the slashes"
            )
        _check_characters(name, part)
    if unicodedata.normalize("NFC", name) != name:
        raise InvalidInput(
            f"line name {name!r} is not composed Unicode; write it as {unicodedata.normalize('NFC', name)!r}"
        )
    if (size := len(_escaped(name).encode())) > PART_LIMIT_BYTES:
        raise InvalidInput(
            f"line name {name!r} takes {size} bytes, the limit is {PART_LIMIT_BYTES}; use fewer characters"
        )


def encode_name(line: str) -> str:
    """One path part for a line's name: `/` and a leading `.` become `%2F` and `%2E`. Raises InvalidInput for bad ones.

    >>> encode_name("press-4/door")
    'press-4%2Fdoor'
    """
    check_line_name(line)
    return _escaped(line)


def decode_name(part: str) -> str:
    """The name that `encode_name` made `part` of; raises InvalidInput for a part it never makes.

    >>> decode_name("press-4%2Fdoor")
    'press-4/door'
    """
    name = _ESCAPES.sub(lambda found: chr(int(found[1], 16)), part)
    if encode_name(name) != part:
        raise InvalidInput(f"{part!r} is not an encoded line name; encode_name({name!r}) is {encode_name(name)!r}")
    return name


def _escaped(name: str) -> str:
    escaped = name.replace("/", "%2F")
    return "%2E" + escaped[1:] if escaped.startswith(".") else escaped


def _check_characters(name: str, part: str) -> None:
    for before, character in zip(" " + part, part, strict=False):
        if not (character in _PUNCTUATION or _is_letter_or_digit(character) or _is_mark_after(before, character)):
            raise InvalidInput(
                f"line name {name!r} has the character {character!r}; "
                f"use letters, digits, '.', '_', '-', and '/' between parts"
            )


def _is_letter_or_digit(character: str) -> bool:
    category = unicodedata.category(character)
    return category.startswith("L") or category == "Nd"


def _is_mark_after(before: str, character: str) -> bool:
    """Vowel signs and the like (Mn, Mc), on a letter or another mark; a lone one would hide in the text before it."""
    return unicodedata.category(character) in ("Mn", "Mc") and unicodedata.category(before)[0] in "LM"
