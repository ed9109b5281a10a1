"""Several processes that do the same thing in the same moment."""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[2]
START = """
print("ready", flush=True)
sys.stdin.readline()
"""


def together(prepare: str, act: str, arguments: Sequence[Sequence[str]]) -> list[str]:
    """What each process printed. All have run `prepare` before the first runs `act`; one that fails fails the caller."""
    script = f"import sys\n{prepare}{START}{act}"
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", script, *each],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=ROOT,
                )
            )
            for each in arguments
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        said = [process.communicate(timeout=120)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * len(processes)
    return said
