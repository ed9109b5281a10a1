"""Checks every part of this installation and says what is wrong and how to mend it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from detectors.errors import DriftlineError
from detectors.registry import Registry
from detectors.store import open_store
from streams import buses
from streams.ledger import Ledger
from streams.ledger_engine import shown
from streams.lines_in_force import LinesInForce
from streams.newest_first import BACKLOG_GROUP
from streams.settings import Settings, load_lines
from streams.topics import BACKLOG, TOPICS

LEAST_FREE_BYTES = 2 * 2**30


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one part; `words` name the cure where it is not well."""

    part: str
    well: bool
    words: str


def examine(settings: Settings) -> tuple[Finding, ...]:
    """A finding for every part; the parts are opened, nothing is changed but what opening makes."""
    parts: dict[str, Callable[[Settings], str]] = {
        "disk": _disk,
        "configuration": _configuration,
        "object store": _store,
        "bus": _bus,
        "ledger": _ledger,
        "backbone": _backbone,
    }
    return (*(_finding(part, look, settings) for part, look in parts.items()), *_models(settings))


def _finding(part: str, look: Callable[[Settings], str], settings: Settings) -> Finding:
    try:
        return Finding(part=part, well=True, words=look(settings))
    except DriftlineError as error:
        return Finding(part=part, well=False, words=str(error))


def _disk(settings: Settings) -> str:
    folder = next(each for each in (settings.home, *settings.home.parents) if each.exists())
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        raise DriftlineError(
            f"{free / 2**30:.1f} GB free at {folder}, at least 2 GB are wise; free some or set DRIFTLINE_HOME"
        )
    return f"{free / 2**30:.0f} GB free at {folder}"


def _configuration(settings: Settings) -> str:
    fault = LinesInForce(settings.home).fault
    if fault is not None:
        raise DriftlineError(fault)
    lines = load_lines(settings.home)
    missing = [config.weights for config in lines.values() if config.weights and not Path(config.weights).is_file()]
    if missing:
        raise DriftlineError(
            f"driftline.toml names the weights file {missing[0]}, which is not there; correct the path"
        )
    return f"{len(lines)} lines described in {settings.home / 'driftline.toml'}"


def _store(settings: Settings) -> str:
    return f"{settings.store}: {len(Registry(open_store(settings.store)).lines())} lines with models"


def _bus(settings: Settings) -> str:
    bus = buses.open_bus(settings.bus)
    lag = bus.lag("scorer", ("images",)) + bus.lag(BACKLOG_GROUP, (BACKLOG,))
    return f"{buses.shown(settings.bus)}: {len(TOPICS)} topics, {lag} images wait for a scorer"


def _ledger(settings: Settings) -> str:
    return f"{shown(settings.ledger)}: {len(Ledger.open(settings.ledger).lines())} lines"


def _backbone(settings: Settings) -> str:
    # Imported here to keep torch out of the other commands.
    from detectors.features import load_extractor

    return f"efficientnet_lite0 gives {load_extractor('efficientnet_lite0').dimensions} features a patch"


def _models(settings: Settings) -> Iterator[Finding]:
    """Every champion's files against its manifest."""
    registry = Registry(open_store(settings.store))
    for line in registry.lines():
        champion = registry.pointers(line).champion
        if champion is None:
            continue
        problems = registry.verify(line, champion)
        words = "; ".join(problems) + f"; roll back with `driftline models rollback {line}`" if problems else "verified"
        yield Finding(part=f"model {line}@{champion}", well=not problems, words=words)
