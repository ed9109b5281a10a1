"""The dashboard in headless Chromium: every page opened and photographed, a review done by keyboard alone."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, sync_playwright

from dashboard.frame import PAGES
from tests.dashboard import installation as given
from tests.dashboard.drifted import tell_of_drift
from tests.dashboard.installation import LINE, Installation

CHROMIUM = Path("/usr/bin/chromium")
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 90.0
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: apt-get install chromium turns this on"),
]


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    made = given.installation(tmp_path / "home")
    given.tell_the_story(made, now=time.time(), parts=7)
    return made


@pytest.fixture
def address(here: Installation, tmp_path: Path) -> Iterator[str]:
    with served(here, log=tmp_path / "streamlit.log") as address:
        yield address


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        opened = browser.new_page(viewport={"width": 1280, "height": 800})
        opened.set_default_timeout(1000 * PATIENCE_S)
        yield opened
        browser.close()


def test_every_page_opens_without_an_error(address: str, page: Page, tmp_path: Path) -> None:
    folder = Path(os.environ.get("DRIFTLINE_HOME", tmp_path)) / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    shown = {"": "images judged", "live": "Version 2 judges the line", "drift": "No change of this line is open"}
    shown |= {
        "review": "waiting",
        "models": "Version 2",
        "search": "newest first",
        "audit": "Nobody has done anything yet",
    }
    for path, words in shown.items():
        page.goto(f"{address}/{path}?line={quote(LINE, safe='')}")
        page.get_by_text(words).first.wait_for()
        quiet(page)
        page.screenshot(path=folder / f"{path or 'lines'}.png", full_page=True)
        assert page.get_by_test_id("stException").count() == 0
        assert (folder / f"{path or 'lines'}.png").stat().st_size > 10_000
    page.goto(f"{address}/live?line={quote(LINE, safe='')}")
    page.get_by_test_id("stVegaLiteChart").locator("canvas, svg").nth(1).wait_for()


def test_what_changed_is_told_with_pictures_and_a_chart(tmp_path: Path, page: Page) -> None:
    here = given.installation(tmp_path / "home")
    tell_of_drift(here, now=time.time())
    folder = Path(os.environ.get("DRIFTLINE_HOME", tmp_path)) / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    with served(here, log=tmp_path / "streamlit.log") as address:
        page.goto(f"{address}/drift?line={quote(LINE, safe='')}")
        page.get_by_text("top left").wait_for()
        page.get_by_test_id("stVegaLiteChart").locator("canvas, svg").nth(2).wait_for()
        quiet(page)
        assert page.get_by_test_id("stImage").count() == 6
        page.get_by_text("The line has changed · brightness · closed").click()
        page.get_by_text("A new model was made and put into service (version 2)").wait_for()
        page.get_by_test_id("stVegaLiteChart").locator("canvas, svg").nth(3).wait_for()
        quiet(page)
        assert page.get_by_test_id("stImage").count() == 8
        assert page.get_by_test_id("stException").count() == 0
        page.screenshot(path=folder / "drift-told.png", full_page=True)


def test_a_version_on_trial_is_looked_at_approved_and_rolled_back(tmp_path: Path, page: Page) -> None:
    here = given.installation(tmp_path / "home")
    given.try_out(here, now=time.time())
    folder = Path(os.environ.get("DRIFTLINE_HOME", tmp_path)) / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    with served(here, log=tmp_path / "streamlit.log") as address:
        page.goto(f"{address}/models?line={quote(LINE, safe='')}")
        page.get_by_text("Waits for a person").wait_for()
        page.get_by_test_id("stImage").nth(5).wait_for()  # three images on which they disagree, each with its heatmap
        quiet(page)
        page.screenshot(path=folder / "models-trial.png", full_page=True)
        decide(page, "Approve", "finds the dents")
        page.get_by_text("Version 3 is the champion now").wait_for()
        assert here.registry.pointers(LINE).champion == 3
        quiet(page)
        decide(page, "Roll back to 2", "flags good parts")
        page.get_by_text("Version 2 is the champion now").wait_for()
        page.get_by_text("rolled back").first.wait_for()
        quiet(page)
        page.screenshot(path=folder / "models-rolled-back.png", full_page=True)
    assert here.registry.pointers(LINE).champion == 2
    assert [entry.action for entry in here.ledger.audit(limit=3)] == ["rollback", "promote", "approve"]


def test_the_audit_is_read_and_a_group_of_dead_letters_put_back(tmp_path: Path, page: Page) -> None:
    here = given.installation(tmp_path / "home")
    given.tell_of_people(here, now=time.time())
    folder = Path(os.environ.get("DRIFTLINE_HOME", tmp_path)) / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    with served(here, log=tmp_path / "streamlit.log") as address:
        page.goto(f"{address}/audit")
        page.get_by_text("set a threshold").first.wait_for()
        quiet(page)
        page.screenshot(path=folder / "audit.png", full_page=True)
        with page.expect_download() as coming:
            page.get_by_role("button", name="All of these as CSV").click()
        assert "'=1+1" in coming.value.path().read_text("utf-8-sig")
        page.get_by_role("radio", name="Configuration").click()
        page.get_by_text("changed last by").wait_for()
        quiet(page)
        page.screenshot(path=folder / "audit-configuration.png", full_page=True)
        page.get_by_role("radio", name="Dead letters").click()
        page.get_by_text("images/3/1 ").click()
        page.get_by_test_id("stImage").wait_for()
        page.get_by_text("images/3/2 ").click()
        page.get_by_text("<b>no picture</b>").wait_for()
        quiet(page)
        page.screenshot(path=folder / "audit-letters.png", full_page=True)
        page.get_by_role("button", name="Put 2 back").click()
        page.get_by_role("button", name="Yes, put all 2 back").click()
        page.get_by_text("2 messages go back as soon as the recorder runs").wait_for()
        quiet(page)
        page.screenshot(path=folder / "audit-put-back.png", full_page=True)
        assert page.get_by_test_id("stException").count() == 0
    assert [entry.action for entry in here.ledger.audit(limit=2)] == ["redrive", "redrive"]


def decide(page: Page, label: str, why: str) -> None:
    """Open what a button asks, give the reason, and press it."""
    page.get_by_role("button", name=label).first.click()
    page.get_by_label("Reason, for the audit trail").last.fill(why)
    page.get_by_test_id("stFormSubmitButton").get_by_role("button", name=label).last.click()


def test_an_image_is_found_and_its_story_told_and_taken_away(
    here: Installation, address: str, page: Page, tmp_path: Path
) -> None:
    folder = Path(os.environ.get("DRIFTLINE_HOME", tmp_path)) / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    newest = here.ledger.flagged(LINE, limit=1)[0]
    here.ledger.record([given.said(LINE, newest.image_id, "defect", at=time.time())])
    page.goto(f"{address}/search?line={quote(LINE, safe='')}")
    page.get_by_label("Image id, or how it begins").fill(newest.image_id)
    page.get_by_label("Image id, or how it begins").press("Enter")
    page.get_by_text("1 image, judged").wait_for()
    quiet(page)
    page.get_by_role("button", name="Story").click()
    page.get_by_role("dialog").get_by_text("ana said defect").wait_for()
    quiet(page)
    assert page.get_by_role("dialog").get_by_test_id("stImage").count() == 4
    page.screenshot(path=folder / "search-story.png", full_page=True)
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    page.get_by_text("Take it away").click()
    page.get_by_role("button", name="Make zip").click()
    page.get_by_text("That is all of them.").wait_for()
    quiet(page)
    page.screenshot(path=folder / "search-taken.png", full_page=True)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download driftline-images.zip").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert f"test/defect/0000-{newest.image_id}.png" in archive.namelist()
    assert page.get_by_test_id("stException").count() == 0


def test_a_review_by_keyboard_is_in_the_ledger(here: Installation, address: str, page: Page) -> None:
    newest, following = here.ledger.flagged(LINE, limit=2)
    page.goto(f"{address}/review?line={quote(LINE, safe='')}")
    page.get_by_role("button", name="Defect").wait_for()
    quiet(page)
    assert page.get_by_text(newest.image_id).count() > 0
    assert page.get_by_test_id("stTopNavLink").count() == len(PAGES), (
        "a link to a page of a fresh server comes without the frame"
    )
    page.keyboard.press("d")
    page.get_by_text("Saved:").wait_for()
    (review,) = here.ledger.reviews(LINE)
    assert (review.image_id, review.says) == (newest.image_id, "defect")
    quiet(page)
    page.keyboard.press("n")
    page.get_by_text(f"{following.image_id} is normal").wait_for()
    assert {each.image_id: each.says for each in here.ledger.reviews(LINE)} == {
        newest.image_id: "defect",
        following.image_id: "normal",
    }


def quiet(page: Page) -> None:
    """Wait until Streamlit has drawn everything: nothing runs, no widget or picture is still loading."""
    page.wait_for_function("document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'")
    page.wait_for_function("document.querySelector('[data-testid=stSkeleton]') === null")
    page.wait_for_function("[...document.images].every(image => image.complete)")


@contextmanager
def served(here: Installation, *, log: Path) -> Iterator[str]:
    """The dashboard over this installation on a free port of the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "dashboard" / "app.py")]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port), "--server.headless", "true"]
    command += ["--browser.gatherUsageStats", "false", "--server.fileWatcherType", "none"]
    environ = {**os.environ, **here.environ, "PYTHONPATH": str(ROOT)}
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env=environ, cwd=ROOT) as server:
        try:
            _wait_healthy(f"http://127.0.0.1:{port}/_stcore/health", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait_healthy(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the dashboard did not start: {log.read_text()}")
