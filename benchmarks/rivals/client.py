"""anomalib 2.7 from here: its process, its virtual environment, and a memory bank for it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from detectors.coreset import greedy_k_center

HERE = Path(__file__).parent
VENV = HERE.parents[1] / ".bench" / "anomalib"
ERRORS = VENV / "errors.log"
WEIGHTS = "resnet18_imagenet1k_v1_conv1-layer3.pth"
BANK = 4000


class Rival:
    """anomalib in its own process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, do: str, **given: Any) -> dict[str, Any]:
        """The answer to one request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **given}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line.startswith("{"):
            raise SystemExit(f"anomalib ended while it should {do}: status {self._process.wait()}; its words: {ERRORS}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def anomalib() -> Iterator[Rival]:
    """anomalib 2.7, installed first where it is not."""
    python = VENV / "bin" / "python"
    if not (VENV / ".installed").exists():
        uv = Path(sys.executable).parent / "uv"
        subprocess.run([uv, "venv", "-q", "--clear", VENV], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", python, "anomalib==2.7.0"], check=True)
        (VENV / ".installed").touch()
    with ERRORS.open("w") as errors:
        process = subprocess.Popen(
            [python, "-W", "ignore", HERE / "anomalib_server.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    try:
        yield Rival(process)
    finally:
        process.kill()


def give_bank(rival: Rival) -> None:
    """Its memory bank: the greedy coreset of its own features, picked by us, because its own picking of 4,000 rows ends
    in 24 GB of temporaries (`coreset` shows that the cover radius is the same).
    """
    with tempfile.TemporaryDirectory() as folder:
        features, picked = f"{folder}/features.npy", f"{folder}/picked.npy"
        rival.ask("embeddings", file=features)
        np.save(picked, greedy_k_center(np.load(features), BANK, seed=0))
        rival.ask("bank", file=picked)
