"""`driftline demo --headless`: the loop closes on the rendered line. The whole installation as processes."""

import subprocess
import sys
from pathlib import Path

import pytest

LIMIT_S = 600


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 30)
def test_the_loop_closes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "orchestration", "demo", "--headless", "--home", str(tmp_path / "home")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "http://127.0.0.1:" in done.stdout.splitlines()[0] + done.stdout.splitlines()[1] + done.stdout.splitlines()[2]
    )
    assert "0 lost, 0 judged twice" in done.stdout
    assert "The loop closed." in done.stdout
