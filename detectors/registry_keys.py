"""Where the registry keeps things in an object store, under `models/<line>/`:

versions/<n>/claim.json                  the number is taken (a publisher that died leaves only this)
versions/<n>/<file>, manifest.json       the artefact; complete once the manifest is there, immutable for ever
requests/<digest>.json                   which version a request became: decides between repeated runs
pointers.json                            champion, challenger, previous: changed in one atomic write
operating-points/<n>/<revision>.json     thresholds set after the fit; revision 1 is the manifest's own

Beside them, `cards/<line>/<n>.md`: what a version says of itself to people, written once.
"""

import hashlib

from detectors.encoding import encode_name

MANIFEST = "manifest.json"
CLAIM = "claim.json"


def versions_folder(line: str) -> str:
    """Prefix of all versions of a line.

    >>> versions_folder("press-4/door")
    'models/press-4%2Fdoor/versions/'
    """
    return f"models/{encode_name(line)}/versions/"


def version_folder(line: str, version: int) -> str:
    """Prefix of the files of a version."""
    return f"{versions_folder(line)}{version}/"


def points_folder(line: str, version: int) -> str:
    """Prefix of the operating points of a version."""
    return f"models/{encode_name(line)}/operating-points/{version}/"


def card_key(line: str, version: int) -> str:
    """Key of the model card of a version.

    >>> card_key("press-4/door", 3)
    'cards/press-4%2Fdoor/3.md'
    """
    return f"cards/{encode_name(line)}/{version}.md"


def pointers_key(line: str) -> str:
    """Key of the pointers of a line."""
    return f"models/{encode_name(line)}/pointers.json"


def request_key(line: str, request_id: str) -> str:
    """Key of what became of a request; its id may be any text."""
    return f"models/{encode_name(line)}/requests/{hashlib.sha256(request_id.encode()).hexdigest()}.json"


def number(key: str) -> int:
    """The version of a key under `versions/`; 0 where somebody put another thing there."""
    part = key.split("/")[3]
    return int(part) if part.isascii() and part.isdigit() else 0


def is_manifest(key: str) -> bool:
    """Whether the key is the manifest of a version."""
    parts = key.split("/")
    return len(parts) == 5 and parts[2] == "versions" and parts[4] == MANIFEST and number(key) > 0
