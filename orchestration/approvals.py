"""What a person says at the command line of a version that waits for people. Light: imports no torch."""

import time

import msgspec

from detectors.registry import Registry
from detectors.store import open_store
from streams.actions import Actor, approve, reject
from streams.ledger import Ledger
from streams.settings import Settings, line_config, load_lines


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What a person said of a version that waited, and which version is champion now."""

    line: str
    version: int
    approved: bool
    champion: int | None


def decide_about(settings: Settings, actor: Actor, line: str, version: int, *, approves: bool, why: str) -> Decided:
    """Approve or reject a version that waits for people, through the audited actions."""
    ledger, registry = Ledger.open(settings.ledger), Registry(open_store(settings.store))
    config, at = line_config(load_lines(settings.home), line), time.time()
    if approves:
        approve(ledger, actor, registry, line=line, version=version, why=why, config=config, at=at)
    else:
        reject(ledger, actor, registry, line=line, version=version, why=why, at=at)
    return Decided(line=line, version=version, approved=approves, champion=registry.pointers(line).champion)
