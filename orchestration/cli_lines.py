"""Commands about lines: images into them, and what later releases bring."""

import getpass
import threading
from pathlib import Path

import click

from detectors.errors import NotYet
from detectors.store import open_store
from orchestration.console import Answer, Console, command
from orchestration.options import settings
from orchestration.workers import stop_on_signals
from streams.actions import Actor
from streams.buses import open_bus
from streams.camera import Camera, FolderWatch, SentFiles


def register(driftline: click.Group) -> None:
    """Put these commands under `driftline`."""
    for each in (camera, users):
        driftline.add_command(each)


def local_actor() -> Actor:
    """Whoever types at this machine: on the embedded default a single local user needs no account."""
    return Actor(name=getpass.getuser(), role="administrator")


@click.group()
def camera() -> None:
    """Images into a line."""


@command(camera, "driftline camera send part-1.jpg part-2.jpg --line press-4/door", name="send")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--line", required=True)
def camera_send(console: Console, files: tuple[Path, ...], line: str) -> Answer:
    """Send these files into the line."""
    sent = _camera(line).send_files(files)
    return Answer({"sent": [image.image_id for image in sent]}, f"{len(sent)} images sent to {line}")


@command(camera, "driftline camera watch /var/camera --line press-4/door", name="watch")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--line", required=True)
def camera_watch(console: Console, folder: Path, line: str) -> Answer:
    """Send every file that appears in a folder, each once, until Ctrl-C."""
    console.say(f"watching {folder} for {line}; Ctrl-C ends")
    stop = threading.Event()
    stop_on_signals(stop)
    FolderWatch(_camera(line), folder, sent=SentFiles(settings().home / "camera.sqlite")).run(stop=stop)
    return Answer({"watched": str(folder)})


def _camera(line: str) -> Camera:
    here = settings()
    return Camera(open_store(here.store), open_bus(here.bus).producer(), line=line, source="/driftline/camera")


@click.group()
def users() -> None:
    """Accounts of the dashboard."""


@command(users, "driftline users add ana --role reviewer", name="add")
@click.argument("name")
@click.option("--role", required=True)
def users_add(console: Console, name: str, role: str) -> Answer:
    """Make an account (a later release)."""
    raise NotYet(f"account {name!r}: not yet; the dashboard listens on this machine only and needs none")
