"""The commands on folders, as a user types them: train, predict, blind, evaluate, models, doctor."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.images import Image, encode_png
from detectors.registry import Registry
from detectors.store import FolderStore
from orchestration.cli import driftline
from orchestration.console import run
from tests.servers import s3_bucket
from tests.streams.scoring_line import texture

SMALL = ("--image-size", "64", "--bank", "300")


def scratched(seed: int) -> Image:
    image = texture(seed).copy()
    image[40:44, 10:80] = 255
    return image


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    """A folder in MVTec layout: 16 to fit on, 6 good and 6 scratched to judge, masks for the scratches."""
    root = tmp_path / "set"
    mask = np.zeros((96, 96, 3), np.uint8)
    mask[40:44, 10:80] = 255
    images = {
        **{f"train/good/{n}.png": texture(n) for n in range(16)},
        **{f"test/good/{n}.png": texture(50 + n) for n in range(6)},
        **{f"test/scratch/{n}.png": scratched(80 + n) for n in range(6)},
        **{f"ground_truth/scratch/{n}_mask.png": mask for n in range(6)},
    }
    for name, image in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encode_png(image))
    return root


def answer(capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 0) -> Any:
    assert run(driftline, [*map(str, arguments), "--json"]) == status
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("server", [None, "versitygw", "minio"])
def test_a_line_is_trained_predicted_promoted_and_rolled_back(
    mvtec: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    server: str | None,
) -> None:
    if server is not None:
        monkeypatch.setenv("DRIFTLINE_STORE", s3_bucket(server))
    first = answer(capsys, "train", mvtec / "train" / "good", "--line", "press-4/door", *SMALL)
    screening = first.pop("screening")
    assert first == {"line": "press-4/door", "version": 1, "champion": 1}
    assert (screening["images"], screening["intruders"], screening["without"]) == (16, [], None)
    second = answer(
        capsys, "train", mvtec / "train" / "good", "--line", "press-4/door", *SMALL, "--detector", "patchcluster"
    )
    assert (second["version"], second["champion"]) == (2, 1), "a line in service keeps its champion"
    scores = answer(capsys, "predict", "press-4/door@champion", mvtec / "test", "--heatmaps", tmp_path / "maps")[
        "images"
    ]
    by_kind = {kind: [each["score"] for each in scores if f"/{kind}/" in each["path"]] for kind in ("good", "scratch")}
    assert min(by_kind["scratch"]) > max(by_kind["good"])
    assert all(each["flagged"] for each in scores if "/scratch/" in each["path"])
    assert len(list((tmp_path / "maps").iterdir())) >= 6
    assert answer(capsys, "models", "promote", "press-4/door@2", "--why", "test")["version"] == 2
    assert answer(capsys, "models", "rollback", "press-4/door", "--why", "test")["version"] == 1
    assert answer(capsys, "models", "show", "press-4/door@2")["manifest"]["detector"] == "patchcluster"
    assert run(driftline, ["models", "show", "press-4/door@1"]) == 0
    assert "drift watch: 26 signals, reference of 16 images, thresholds stored" in capsys.readouterr().out
    assert run(driftline, ["models", "show", "press-4/door@2", "--card"]) == 0
    card = capsys.readouterr().out
    for told in ("learnt from 16 images", "no gate compared it with another version", "after version 1 (manual)"):
        assert told in card
    assert answer(capsys, "models", "verify", "press-4/door@1")["problems"] == []
    assert answer(capsys, "models", "list")["lines"][0]["champion"] == 1


def test_verify_and_doctor_find_a_tampered_model(mvtec: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "train", mvtec / "train" / "good", "--line", "door", *SMALL)
    assert all(each["well"] for each in answer(capsys, "doctor")["findings"])
    tensors = next(home.rglob("model.safetensors"))
    tensors.chmod(0o644)
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x00\x01")
    assert answer(capsys, "models", "verify", "door@1", status=1)["problems"]
    findings = {each["part"]: each for each in answer(capsys, "doctor", status=1)["findings"]}
    assert not findings["model door@1"]["well"]
    assert "roll back" in findings["model door@1"]["words"]


def test_blind_ranks_the_scratched_parts_first(mvtec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number in range(20):
        (folder / f"good-{number}.png").write_bytes(encode_png(texture(300 + number)))
    for number in range(2):
        (folder / f"bad-{number}.png").write_bytes(encode_png(scratched(400 + number)))
    (folder / "broken.png").write_bytes(b"no image")
    ranking = answer(capsys, "blind", folder, *SMALL)
    assert [Path(each["path"]).name[:3] for each in ranking["images"][:2]] == ["bad", "bad"]
    assert len(ranking["images"]) == 22
    assert list(ranking["unreadable"]) == [str(folder / "broken.png")]


@pytest.mark.parametrize("detector", ["patchcore", "padim", "dfkde", "patchcluster"])
def test_evaluate_gives_every_figure_of_the_contract(
    mvtec: Path, detector: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "evaluate", mvtec, "--detector", detector, *SMALL)
    names = (
        "detector backbone image_size bank_rows image_auroc pixel_auroc aupro aupr f1_max threshold false_alarm_rate recall "
        "fit_s ms_per_image images intervals"
    )
    pixels = {"pixel_threshold", "pixel_false_alarm_rate", "pixel_recall"}
    more = {"runtime", "recall_at_rate", "kinds", "unreadable", "notes", "for_recall"}
    assert set(found) == set(names.split()) | pixels | more
    assert found["pixel_false_alarm_rate"] < 0.1
    assert found["pixel_recall"] > 0.5
    assert found["image_auroc"] == 1.0
    assert found["pixel_auroc"] > 0.9
    assert 0.5 < found["aupro"] <= 1.0
    assert found["bank_rows"] == 0 if detector in ("padim", "dfkde") else 250 < found["bank_rows"] <= 300
    assert found["recall_at_rate"] == 1.0
    assert found["kinds"]["scratch"]["image_auroc"] == 1.0
    assert found["images"] == 12


def test_the_report_of_an_evaluation_shows_figures_and_pictures(
    mvtec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (mvtec / "test" / "good" / "<broken>.png").write_bytes(b"no image")
    found = answer(capsys, "evaluate", mvtec, "--report", tmp_path / "report.html", *SMALL)
    page = (tmp_path / "report.html").read_text()
    assert len(found["unreadable"]) == 1
    assert "image AUROC" in page
    assert page.count("<svg") == 2
    assert (
        page.count("data:image/jpeg;base64,") == 2 * found["images"]
    )  # all of them: fewer than the worst of each kind
    assert "http" not in page
    assert "<broken>" not in page


def test_eight_bits_serve_a_folder_from_fit_to_prediction(
    mvtec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "evaluate", mvtec, "--runtime", "openvino-int8", *SMALL)
    assert found["image_auroc"] == 1.0
    assert found["runtime"] in ("openvino", "openvino-int8")
    assert found["notes"][0].startswith("8 bits are ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--device", "cuda"), "CUDA devices are to be had; use cpu"),
        (("--memory", str(2**29), "--detector", "dfkde", "--image-size", "1024"), "this fit needs at least"),
        (("--device", "cuda", "--runtime", "openvino"), "OpenVINO runs on the processor"),
    ],
)
def test_what_this_machine_cannot_do_is_said(
    mvtec: Path, options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(driftline, ["evaluate", str(mvtec), *options]) == 2
    assert words in capsys.readouterr().err


def test_a_threshold_for_a_stated_recall(mvtec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "evaluate", mvtec, "--recall", "0.8", "--report", tmp_path / "report.html", *SMALL)
    made = found["for_recall"]
    assert (made["recall"], made["images"]) == (0.8, 6)
    assert made["low"] < 0.8 < made["high"]
    assert "threshold for a recall of 80.0%" in (tmp_path / "report.html").read_text()
    assert run(driftline, ["evaluate", str(mvtec), "--recall", "0.99", *SMALL]) == 2
    assert "6 defects, a threshold for a recall of 0.99 needs 99" in capsys.readouterr().err


def test_training_lists_what_looks_like_an_intruder(
    mvtec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    intruder = mvtec / "train" / "good" / "scratched.png"
    intruder.write_bytes(encode_png(scratched(90)))
    found = answer(capsys, "train", intruder.parent, "--line", "door", "--report", tmp_path / "look.html", *SMALL)
    screening = found["screening"]
    assert [each["path"] for each in screening["intruders"]] == [str(intruder)]
    assert screening["intruders"][0]["score"] > 1.1
    assert screening["without"]["threshold"] < screening["threshold"]
    assert screening["without"]["flagged"] == 1
    page = (tmp_path / "look.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert "flags 1 of them" in page
    kept = answer(capsys, "models", "show", "door@1")["manifest"]["intruders"]
    assert list(kept.values()) == [screening["intruders"][0]["score"]]


def test_a_sweep_marks_what_nothing_beats(mvtec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = answer(
        capsys, "sweep", mvtec, "--vary", "layers=block2,block2+block4", "--vary", "seed=0,1",
        "--report", tmp_path / "sweep.html", "--image-size", "64", "--bank", "100",
    )["points"]  # fmt: skip
    assert {each["setting"]["layers"] for each in points} == {"block2", "block2,block4"}
    assert any(each["front"] for each in points)
    assert all(0.5 < each["image_auroc"] <= 1 and each["memory_bytes"] > 10**8 for each in points)
    assert (tmp_path / "sweep.html").read_text().count("<circle") == 2
    assert run(driftline, ["sweep", str(mvtec), "--vary", "colour=red"]) == 2
    assert "write NAME=VALUE,VALUE with a name of detector, backbone" in capsys.readouterr().err
    assert run(driftline, ["sweep", str(mvtec), "--vary", "layers=block99"]) == 2
    assert "choose, each once, from block0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("detector", "images"),
    [("patchcore", 80), ("padim", 300), ("dfkde", 300), ("patchcluster", 300)],
)
def test_a_fit_stops_at_ctrl_c_within_seconds_and_leaves_nothing(
    mvtec: Path, home: Path, detector: str, images: int
) -> None:
    """As a user presses it: the command in a process of its own, with work for five times as long as it is given."""
    folder = mvtec / "train" / "good"
    for number in range(16, images):
        (folder / f"{number}.png").write_bytes(encode_png(texture(number)))
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestration", "train", str(folder), "--line", "door", "--detector", detector,
         "--bank", "20000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not any((home / "objects").rglob("*.png")) and time.monotonic() < until:  # it has begun to read
        time.sleep(0.05)
    time.sleep(4.0)
    pressed = time.monotonic()
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    taken = time.monotonic() - pressed
    assert not printed, "it was done before Ctrl-C was pressed"
    assert process.returncode == 130, errors
    assert errors.strip().splitlines()[-1] == "driftline: interrupted"
    assert taken < 4.0  # a second where nothing else runs, of the twenty and more that the fit has left
    assert Registry(FolderStore(home / "objects")).lines() == []
    assert not list(home.rglob("*.tmp"))
