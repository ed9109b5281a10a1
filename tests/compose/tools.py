"""The programs that check a deployment, where this machine has them."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "compose"


def program(name: str, package: str) -> str:
    """A program's path; skips the test where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name}: `apt-get install {package}` brings it")
    return path


@cache
def compose_command() -> tuple[str, ...] | None:
    """How compose is called here, as docker's plugin or as a program of its own; None where it is not there."""
    for command in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(command[0]) and subprocess.run((*command, "version"), capture_output=True).returncode == 0:
            return command
    return None


def composed(environment: Path) -> subprocess.CompletedProcess[str]:
    """`compose config` with the variables of a file and no others; skips the test where there is no compose."""
    command = compose_command()
    if command is None:
        pytest.skip("no docker compose: `apt-get install docker-compose` brings it")
    place = ("--env-file", environment, "-f", COMPOSE / "compose.yaml")
    bare = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    return subprocess.run((*command, *place, "config"), env=bare, capture_output=True, text=True)
