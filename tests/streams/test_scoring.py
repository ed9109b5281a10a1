"""The scorer with a real model on the embedded bus: bad input, hot swap, broken artefacts, lines without a model."""

import io
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image as Pillow

from detectors.encoding import encode_name
from detectors.extractors import ExtractorCache
from detectors.images import encode_jpeg, encode_png
from streams.messages import Collected, DeadLetter, Message, ModelAlert, ModelServing, Verdict, decode
from streams.scoring import ScoreHandler
from streams.serving import ServingModels
from streams.topics import topic
from streams.worker import Worker
from tests.streams.scoring_line import LINE, ScoringLine, texture

T = TypeVar("T", bound=Message)


class Scorer:
    """A scorer and what it says, stepped by the test."""

    def __init__(self, line: ScoringLine) -> None:
        self.line = line
        self.models = ServingModels(line.registry, ExtractorCache(), now=time.time)
        handler = ScoreHandler(line.store, self.models, now=time.time)
        self.worker = Worker(
            line.bus.consumer("scorer", ["images"]), line.bus.producer(), handler, source="/test/scorer"
        )
        self._reader = line.bus.consumer("reader", ["verdicts", "collected", "dead-letters", "servings", "alerts"])

    def until(self, done: Callable[[list[Message]], bool], *, within_s: float = 60.0) -> list[Message]:
        """Step until what was said since the last call satisfies `done`."""
        said: list[Message] = []
        deadline = time.monotonic() + within_s
        while not done(said):
            assert time.monotonic() < deadline, said
            self.worker.step()
            records = self._reader.poll(max_records=100, timeout_s=0.05)
            said += [decode(record.value, topic(record.topic).carries) for record in records]
            self._reader.commit({(record.topic, record.partition): record.offset + 1 for record in records})
        return said


def of(kind: type[T], said: list[Message]) -> list[T]:
    return [message for message in said if isinstance(message, kind)]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The objects of an installation with one published version, to be copied."""
    home = tmp_path_factory.mktemp("fitted")
    ScoringLine.at(home).publish()
    return home


@pytest.fixture
def line(fitted: Path, tmp_path: Path) -> ScoringLine:
    shutil.copytree(fitted / "objects", tmp_path / "objects")
    return ScoringLine.at(tmp_path)


@pytest.fixture
def scorer(line: ScoringLine) -> Iterator[Scorer]:
    made = Scorer(line)
    yield made
    made.models.close()


def saved(image: Pillow.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def huge_png(side: int) -> bytes:
    """A PNG whose header says `side` x `side` pixels and whose data is a few bytes: decoding it must never begin."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def turned() -> Pillow.Exif:
    """EXIF data that says: turn this by a quarter."""
    exif = Pillow.Exif()
    exif[274] = 6
    return exif


PART = Pillow.fromarray(texture(1))

DEAD = {
    "truncated": encode_jpeg(texture(1))[:900],
    "no image": b"this is no image at all",
    "zero bytes": b"",
    "12,000 x 12,000": huge_png(12_000),
}
SCORED = {
    "1x1": saved(Pillow.new("RGB", (1, 1), (9, 9, 9)), "PNG"),
    "cmyk": saved(PART.convert("CMYK"), "JPEG"),
    "16 bit": saved(Pillow.fromarray(texture(1)[..., 0].astype(np.uint16) * 257), "PNG"),
    "grey with alpha": saved(PART.convert("LA"), "PNG"),
    "exif rotated": saved(PART, "JPEG", exif=turned()),
    "constant": encode_png(np.full((64, 64, 3), 128, np.uint8)),
}


def test_bad_images_become_dead_letters_and_the_others_verdicts(line: ScoringLine, scorer: Scorer) -> None:
    camera = line.camera()
    for name, data in {**DEAD, **SCORED}.items():
        camera.send(data, image_id=name, suffix="png")
        camera.send(encode_png(texture(2)), image_id=f"after {name}", suffix="png")
    camera.flush()
    total = 2 * (len(DEAD) + len(SCORED))
    said = scorer.until(lambda all_said: len(of(Verdict, all_said)) + len(of(DeadLetter, all_said)) == total)
    dead = {dict(letter.headers)["ce_id"].decode(): letter for letter in of(DeadLetter, said)}
    assert set(dead) == set(DEAD)
    assert "12000" in dead["12,000 x 12,000"].reason
    assert "at most" in dead["12,000 x 12,000"].reason
    verdicts = {verdict.image_id: verdict for verdict in of(Verdict, said)}
    assert set(verdicts) == set(SCORED) | {f"after {name}" for name in (*DEAD, *SCORED)}
    assert len({verdicts[f"after {name}"].score for name in (*DEAD, *SCORED)}) == 1, "no image changes another's score"
    assert verdicts["16 bit"].score == pytest.approx(verdicts["grey with alpha"].score, rel=1e-3), (
        "the same part, coded otherwise"
    )


def test_a_line_without_a_model_is_collected_and_judged_once_it_has_one(tmp_path: Path, fitted: Path) -> None:
    line = ScoringLine.at(tmp_path)
    scorer = Scorer(line)
    ids = line.send(3)
    said = scorer.until(lambda all_said: len(of(Collected, all_said)) == 3)
    assert [each.image.image_id for each in of(Collected, said)] == ids
    shutil.copytree(fitted / "objects", tmp_path / "objects", dirs_exist_ok=True)
    line.send(1, first=10)
    said = scorer.until(lambda all_said: bool(of(Verdict, all_said)))
    assert of(Verdict, said)[0].version == 1
    assert of(ModelServing, said)[0].version == 1
    scorer.models.close()


def test_a_new_champion_is_swapped_in_between_images(line: ScoringLine, scorer: Scorer) -> None:
    line.send(2)
    scorer.until(lambda all_said: len(of(Verdict, all_said)) == 2)
    assert line.publish(seed=1) == 2
    said = scorer.until(lambda all_said: bool(of(ModelServing, all_said)))
    assert [(each.version, each.previous) for each in of(ModelServing, said)] == [(2, 1)]
    line.send(2, first=2)
    said = scorer.until(lambda all_said: len(of(Verdict, all_said)) == 2)
    assert {verdict.version for verdict in of(Verdict, said)} == {2}


@pytest.mark.parametrize("fault", ["tampered", "missing"])
def test_a_broken_version_is_refused_with_an_alert_and_the_old_one_stays(
    line: ScoringLine, scorer: Scorer, fault: str
) -> None:
    line.send(1)
    scorer.until(lambda all_said: len(of(Verdict, all_said)) == 1)
    line.publish(seed=1)
    tensors = line.home / "objects" / "models" / encode_name(LINE) / "versions" / "2" / "model.safetensors"
    if fault == "tampered":
        data = bytearray(tensors.read_bytes())
        data[len(data) // 2] ^= 1
        tensors.chmod(0o644)
        tensors.write_bytes(bytes(data))
    else:
        tensors.unlink()
    (alert,) = of(ModelAlert, scorer.until(lambda all_said: bool(of(ModelAlert, all_said))))
    assert (alert.version, alert.serving) == (2, 1)
    line.send(1, first=1)
    (verdict,) = of(Verdict, scorer.until(lambda all_said: bool(of(Verdict, all_said))))
    assert verdict.version == 1


def test_pixels_of_another_digest_and_pixels_that_are_gone_are_dead_letters(line: ScoringLine, scorer: Scorer) -> None:
    camera = line.camera()
    changed = camera.send(encode_png(texture(3)), image_id="changed", suffix="png")
    gone = camera.send(encode_png(texture(4)), image_id="gone", suffix="png")
    camera.flush()
    path = line.home / "objects" / changed.key
    path.chmod(0o644)
    path.write_bytes(encode_png(texture(5)))
    (line.home / "objects" / gone.key).unlink()
    said = scorer.until(lambda all_said: len(of(DeadLetter, all_said)) == 2)
    words = sorted(letter.reason for letter in of(DeadLetter, said))
    assert "the message says" in words[0]
    assert "not in the store" in words[1]


def test_bare_images_of_foreign_cameras_are_checked_in(line: ScoringLine, scorer: Scorer) -> None:
    producer = line.bus.producer()
    producer.send("images", key=LINE.encode(), value=encode_png(texture(6)))
    producer.send("images", key=b"\xff\xfe", value=encode_png(texture(6)))
    producer.send("images", key=LINE.encode(), value=b"hello")
    producer.send("images", key=LINE.encode(), value=b"{}", headers=(("ce_type", b"foreign.Type"),))
    producer.flush()
    said = scorer.until(lambda all_said: len(of(DeadLetter, all_said)) == 3 and bool(of(Verdict, all_said)))
    (verdict,) = of(Verdict, said)
    assert verdict.image_id.startswith("images-")
    assert line.store.get(verdict.image_key) == encode_png(texture(6))


def test_a_flagged_image_keeps_a_heatmap_and_shows_its_nearest_normal(line: ScoringLine, scorer: Scorer) -> None:
    image = texture(7)
    image[30:60, 30:60] = 255
    camera = line.camera()
    camera.send(encode_png(image), image_id="bad", suffix="png")
    camera.flush()
    (verdict,) = of(Verdict, scorer.until(lambda all_said: bool(of(Verdict, all_said))))
    assert verdict.flagged
    assert verdict.heatmap_key is not None
    assert line.store.get(verdict.heatmap_key).startswith(b"\xff\xd8")
    assert verdict.nearest is not None
    assert verdict.nearest.training_image_key.startswith("k")
    left, top, right, bottom = verdict.nearest.box
    assert left < 60 / 96
    assert right > 30 / 96
    assert top < 60 / 96
    assert bottom > 30 / 96


def test_bad_messages_are_dead_letters_with_a_reason_and_good_ones_of_foreigners_verdicts(
    line: ScoringLine, scorer: Scorer
) -> None:
    producer = line.bus.producer()
    stamp = (("ce_specversion", b"1.0"), ("ce_type", b"driftline.Image"), ("content-type", b"image/png"))
    for number, (headers, value) in enumerate(
        [
            ((*stamp, ("ce_id", b"foreign-1")), encode_png(texture(8))),
            ((*stamp, ("ce_id", b"\xff")), encode_png(texture(8))),
            ((("ce_specversion", b"0.3"), *stamp[1:]), encode_png(texture(8))),
            ((*stamp, ("ce_dataref", b"s3://elsewhere/a.png")), b""),
            ((*stamp, ("ce_subject", b"other")), encode_png(texture(8))),
        ]
    ):
        producer.send("images", key=LINE.encode(), value=value, headers=(*headers, ("n", str(number).encode())))
    producer.flush()
    said = scorer.until(lambda all_said: len(of(DeadLetter, all_said)) == 4 and bool(of(Verdict, all_said)))
    assert [verdict.image_id for verdict in of(Verdict, said)] == ["foreign-1"]
    assert {letter.error for letter in of(DeadLetter, said)} == {"InvalidInput"}
    assert all(letter.original or b"s3://" in dict(letter.headers)["ce_dataref"] for letter in of(DeadLetter, said))


def test_a_claim_that_cannot_be_kept_is_a_dead_letter_also_before_there_is_a_model(tmp_path: Path) -> None:
    line = ScoringLine.at(tmp_path)
    scorer = Scorer(line)
    camera = line.camera()
    gone = camera.send(encode_png(texture(4)), image_id="gone", suffix="png")
    camera.send(encode_png(texture(5)), image_id="there", suffix="png")
    camera.flush()
    (line.home / "objects" / gone.key).unlink()
    said = scorer.until(lambda all_said: bool(of(Collected, all_said)) and bool(of(DeadLetter, all_said)))
    assert [each.image.image_id for each in of(Collected, said)] == ["there"]
    assert "not in the store" in of(DeadLetter, said)[0].reason
    scorer.models.close()
