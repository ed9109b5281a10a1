"""How commands speak: status, one-line errors, one JSON document."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from orchestration.cli import driftline
from orchestration.console import Answer, Console, command, run


def group() -> click.Group:
    return click.Group("test")


def test_json_is_the_only_thing_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    commands = group()

    @command(commands, "driftline act")
    def act(console: Console) -> Answer:
        """Act."""
        console.say("working")
        return Answer({"done": 3}, "three done", 1)

    assert run(commands, ["act", "--json"]) == 1
    output = capsys.readouterr()
    assert json.loads(output.out) == {"done": 3}
    assert "working" in output.err


def test_progress_passes_every_item_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(Console(json=False).progress(range(5), "counting")) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "nothing", "image.jpg"], "nothing"),
        (["evaluate", "nowhere"], "nowhere"),
        (["blind", "nowhere"], "nowhere"),
        (["blind", "nowhere", "--runtime", "openvino"], "nowhere is no folder"),
        (["blind", "nowhere", "--runtime", "onnx"], "onnx"),
        (["drift", "backtest", "--line", "x"], "line 'x' is not known"),
        (["drift", "backtest", "--line", "x", "--expected-run-length", "0"], "must be 1 image or more"),
        (["drift", "backtest", "--line", "x", "--since", "yesterday"], "write a date such as"),
        (["drift", "backtest", "--line", "x", "--plot", "x.pdf"], "written as .html, .svg, .png"),
        (["drift", "backtest", "--line", "x", "--plot", "nowhere/x.png"], "there is no folder nowhere"),
        (["drift", "backtest", "--line", "x", "--images", "0"], "0 is not in the range"),
        (["users", "add", "ana", "--role", "reviewer"], "not yet"),
        (["dead-letters", "redrive", "images/0/1"], "no dead letter 'images/0/1'"),
        (["dead-letters", "redrive"], "give one of the two"),
        (["dead-letters", "redrive", "images/0/1", "--all"], "give one of the two"),
        (["dead-letters", "redrive", "images/0/1", "--error", "ImageError"], "without --all"),
        (["dead-letters", "redrive", "a/0/1", "a/0/2", "--value", "x"], "name that one"),
        (["dead-letters", "redrive", "images/0/1", "--value", "nowhere.jpg"], "nowhere.jpg: No such file"),
        (["retrain", "--line", "nobody"], "no line 'nobody'; no line has sent an image yet"),
        (["models", "show", "nobody@champion"], "nobody"),
        (["replay", "nowhere.toml"], "nowhere.toml"),
        (["no-such-command"], "no-such-command"),
        (["score", "--no-such-option"], "no-such-option"),
    ],
)
def test_wrong_use_is_status_two_and_one_line(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert run(driftline, arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_an_unknown_variable_names_the_nearest_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DRIFTLINE_HOEM", str(tmp_path))
    assert run(driftline, ["models", "list"]) == 2
    assert "DRIFTLINE_HOME" in capsys.readouterr().err


def leaves(commands: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name, each in commands.commands.items():
        found += leaves(each, (*path, name)) if isinstance(each, click.Group) else [((*path, name), each)]
    return found


def test_every_command_has_json_and_ends_its_help_with_an_example() -> None:
    for path, each in leaves(driftline):
        assert any(parameter.name == "as_json" for parameter in each.params), path
        assert each.epilog is not None, path
        assert each.epilog.strip().splitlines()[-1].strip().startswith("driftline " + " ".join(path)), path


def test_the_contracts_commands_are_all_there() -> None:
    contract = {
        "demo", "up", "replay", "camera watch", "camera send", "score", "watch", "record", "retrain", "train", "blind", "evaluate",
        "predict", "models list", "models show", "models promote", "models approve", "models reject",
        "models rollback", "models verify", "drift backtest", "users add",
        "dead-letters list", "dead-letters show", "dead-letters redrive", "doctor",
    }  # fmt: skip
    beside = {"sweep", "requests list", "requests cancel", "lineage", "models threshold"}
    assert {" ".join(path) for path, _ in leaves(driftline)} == contract | beside


def test_python_minus_m_orchestration_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "orchestration", "--version"], capture_output=True, text=True, check=True
    )
    assert "driftline" in done.stdout
