"""Make the virtual environment with everything pinned. Run by `make`; says in one line what a machine lacks.

Uses the standard library only: nothing is installed yet when this runs.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

NEEDED_GB = 9
OLDEST = (3, 11)
UV = "uv==0.13.9"


def lacking(folder: Path) -> str | None:
    """What this machine lacks, in one line with the cure; None if nothing."""
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        return f"python {found} is too old, 3.11 or newer is needed: install it and run `make PYTHON=python3.11 ...`"
    if any(importlib.util.find_spec(module) is None for module in ("venv", "ensurepip")):
        return "python's venv module is missing: on Debian and Ubuntu run `apt-get install python3-venv`"
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < NEEDED_GB and not (folder / ".venv" / ".installed").exists():
        return f"{free_gb:.1f} GB free in {folder}, {NEEDED_GB} GB are needed (torch is large): free some or move the folder"
    return None


def install(venv: Path) -> None:
    """Make `venv` and put the pinned requirements and this project into it."""
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", UV], check=True)
    uv = [venv / "bin" / "uv", "pip", "install", "--quiet", "--python", python]
    subprocess.run([*uv, "-r", "requirements/dev.txt"], check=True)
    subprocess.run([*uv, "--no-deps", "-e", "."], check=True)


def main(venv: Path) -> int:
    """Install into `venv`; the exit status of the command."""
    here = Path(__file__).resolve().parent
    missing = lacking(here)
    if missing is None:
        print(f"installing into {venv} (about a minute, torch is large) ...", flush=True)
        try:
            install(venv)
        except subprocess.CalledProcessError as error:
            missing = f"`{' '.join(map(str, error.cmd[:4]))} ...` failed (above): is the package registry within reach?"
    if missing is not None:
        print(f"driftline cannot be installed: {missing}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
