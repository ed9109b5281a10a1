"""Who changed `driftline.toml` and when: every change of it becomes an entry of the audit, once, whoever looks and however often."""

import logging
from pathlib import Path

from detectors.errors import InvalidInput
from streams.ledger import Ledger
from streams.ledger_configuration import described
from streams.lines_in_force import SETTLED_S, Signature, signature
from streams.settings import lines_file, load_lines

_log = logging.getLogger(__name__)


class ConfigurationAudit:
    """Compares the configuration with the one the ledger has noted last, whenever the file has changed; made for the recorder, which
    always runs.

    Who: the owner of the file (the system keeps no better name); when: its time of change. Of a file that was taken away, the owner of
    its folder, and now. A file with a mistake is passed over: what was in force before stays noted, as it stays in force.
    """

    def __init__(self, home: Path, ledger: Ledger) -> None:
        self._path = lines_file(home)
        self._ledger = ledger
        self._seen: Signature | str = "never looked"
        self._since = 0.0
        self._done: Signature | str = "never noted"

    def look(self, now: float) -> None:
        """Note what has changed; costs one question about the file where nothing has. Raises Unavailable where the ledger is away."""
        seen = signature(self._path.parent)
        if seen != self._seen:
            self._seen, self._since = seen, now
        elif seen != self._done and not 0 <= now - self._since < SETTLED_S:
            self._note(now)
            self._done = seen

    def _note(self, now: float) -> None:
        try:
            lines = {line: described(config) for line, config in load_lines(self._path.parent).items()}
            who, at = _origin(self._path, now)
        except (InvalidInput, OSError) as error:
            _log.warning("the configuration is not noted in the audit until it can be read: %s", error)
            return
        count = self._ledger.note_configuration(lines, who=who, at=at)
        if count:
            _log.info("%d changes of %s by %s noted", count, self._path, who)


def _origin(path: Path, now: float) -> tuple[str, float]:
    """Who changed the file, and when."""
    return (_owner(path), path.stat().st_mtime) if path.exists() else (_owner(path.parent), now)


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return str(path.stat().st_uid)
