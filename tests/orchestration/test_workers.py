"""A worker whose configuration is broken while it runs: it goes on, loses nothing, and says so."""

import logging
import threading
from pathlib import Path

import pytest

from orchestration.workers import watch
from streams.bus import publish
from streams.buses import open_bus
from streams.settings import Settings
from tests.orchestration.test_kills import until
from tests.streams.test_ledger import verdict


def test_a_watcher_goes_on_with_the_last_good_configuration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    settings = Settings.from_environ({"DRIFTLINE_HOME": str(tmp_path)})
    described = tmp_path / "driftline.toml"
    described.write_text("[lines.tiles]\nauto = false\n")
    bus, stop = open_bus(settings.bus), threading.Event()
    producer = bus.producer()
    watcher = threading.Thread(target=watch, args=(settings, stop))
    watcher.start()
    try:
        for number, text in enumerate(["[lines.tiles]\nauto = false\n", "[lines.tiles]\nautoo = true\n", "[lines"]):
            described.write_text(text)
            publish(producer, verdict(f"i{number}", at=float(number)), source="/test", at=0.0)
            producer.flush()
            until(lambda: bus.lag("watcher", ("verdicts",)) == 0, within_s=60.0)
    finally:
        stop.set()
        watcher.join(timeout=60)
    assert bus.lag("nobody", ("dead-letters",)) == 0
    assert "did you mean 'auto'?" in caplog.text
    assert "the last good configuration stays in force" in caplog.text
