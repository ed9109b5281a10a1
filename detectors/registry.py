"""Versions of a line's model, and which of them serves. Light: imports no torch.

`registry_keys` says where everything lies.
"""

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

import msgspec

from detectors.encoding import decode_name
from detectors.errors import ArtifactError, Conflict, InvalidInput, NotFound
from detectors.manifest import Manifest, read_manifest
from detectors.objects import ObjectStore
from detectors.registry_keys import (
    CLAIM,
    MANIFEST,
    is_manifest,
    number,
    pointers_key,
    points_folder,
    request_key,
    version_folder,
    versions_folder,
)

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TRIES = 100
T = TypeVar("T")


class Pointers(msgspec.Struct, frozen=True, kw_only=True):
    """Which versions of a line are in use. `sequence` counts promotions and rollbacks; None and 0 before the first."""

    champion: int | None = None
    challenger: int | None = None
    previous: int | None = None
    sequence: int = 0


class OperatingPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The threshold in force for a version: scores above it are flagged. `at`: since when, seconds since the epoch; `preview`: what it
    would have flagged on the day before it was set, in words (empty for the calibrated one).
    """

    threshold: float
    revision: int
    by: str
    why: str
    at: float
    preview: str = ""


class _RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    manifest: bytes


class Registry:
    """The model registry of an object store.

    >>> import tempfile
    >>> from detectors.store import open_store
    >>> registry = Registry(open_store(tempfile.mkdtemp()))
    >>> registry.lines(), registry.pointers("tiles").champion
    ([], None)
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def publish(self, line: str, files: Mapping[str, bytes]) -> int:
        """Keep an artefact (its files with `manifest.json`) as the line's next version and return its number.

        A request becomes one version however often it is published, also by runs at the same time and after a crash
        anywhere: the first whose files are all there wins, the others get its number. Raises ArtifactError if manifest
        and files do not agree.
        """
        manifest = _checked(line, files)
        if (version := self._finished(line, manifest.request_id)) is not None:
            return version
        version = self._claim(line)
        for name in manifest.files:
            self._store.put(f"{version_folder(line, version)}{name}", files[name])
        if manifest.request_id is not None:
            return self._decide(line, manifest.request_id, _RequestRecord(version=version, manifest=files[MANIFEST]))
        self._store.put(f"{version_folder(line, version)}{MANIFEST}", files[MANIFEST])
        return version

    def version_of(self, line: str, request_id: str) -> int | None:
        """The version that a request became, None where it became none."""
        return self._finished(line, request_id)

    def lines(self) -> list[str]:
        """The lines that have a complete version, sorted."""
        parts = {key.split("/")[1] for key in self._store.keys("models/") if is_manifest(key)}
        return sorted(decode_name(part) for part in parts)

    def versions(self, line: str) -> list[int]:
        """The complete versions of a line, oldest first."""
        return sorted(number(key) for key in self._store.keys(versions_folder(line)) if is_manifest(key))

    def manifest(self, line: str, version: int) -> Manifest:
        """What a version says about itself; raises NotFound, or ArtifactError if it cannot be read."""
        self._check_complete(line, version)
        return read_manifest(self._store.get(f"{version_folder(line, version)}{MANIFEST}"))

    def files(self, line: str, version: int) -> dict[str, bytes]:
        """The files of a version, each with the digest its manifest states; else ArtifactError."""
        manifest, found = self.manifest(line, version), self._found(line, version)
        found = {name: data for name, data in found.items() if name in (MANIFEST, *manifest.files)}
        if problems := _problems(line, found):
            raise ArtifactError(f"{line}@{version}: {'; '.join(problems)}; roll back, or publish it again")
        return found

    def verify(self, line: str, version: int) -> list[str]:
        """What is wrong with a version's files, in words; empty if nothing. Raises NotFound for no such version."""
        return _problems(line, self._found(line, version))

    def pointers(self, line: str) -> Pointers:
        """Which versions of the line are in use now."""
        return self._pointers(line)[0]

    def promote(
        self,
        line: str,
        version: int,
        *,
        expected_sequence: int | None = None,
        as_challenger: bool = False,
        beside: bool = False,
    ) -> Pointers:
        """Make `version` the champion, in one atomic write; what was champion becomes `previous`.

        `beside`: it becomes the challenger too, and goes on scoring beside its successor. Nothing happens where `version` is
        champion already. Raises NotFound for a version that is not complete, and Conflict where `expected_sequence` is given and
        somebody promoted or rolled back since, and, `as_challenger`, where it is not the challenger (any more).
        """
        self._check_complete(line, version)

        def change(now: Pointers) -> Pointers:
            if now.champion == version:
                return now
            _check_sequence(line, now, expected_sequence)
            if as_challenger and now.challenger != version:
                raise Conflict(
                    f"{line}@{version} is not the challenger any more, {now.challenger or 'nobody'} is; look again, or promote it by hand"
                )
            after = _succeeded(now, version)
            return msgspec.structs.replace(after, challenger=now.champion) if beside else after

        return self._change(line, change)

    def rollback(self, line: str, *, expected_sequence: int | None = None) -> Pointers:
        """Exchange champion and previous; raises NotFound where there is no previous, Conflict as `promote` does."""

        def change(now: Pointers) -> Pointers:
            _check_sequence(line, now, expected_sequence)
            return _succeeded(now, self._named(line, "previous", now.previous))

        return self._change(line, change)

    def set_challenger(self, line: str, version: int | None) -> Pointers:
        """Let `version` score beside the champion (None: nobody). Raises InvalidInput for the champion itself."""
        if version is not None:
            self._check_complete(line, version)

        def change(now: Pointers) -> Pointers:
            if version is not None and version == now.champion:
                raise InvalidInput(f"{line}@{version} is the champion; a challenger is another version")
            return msgspec.structs.replace(now, challenger=version)

        return self._change(line, change)

    def clear_challenger(self, line: str, version: int) -> Pointers:
        """Let `version` no longer score beside the champion; another challenger that took its place stays."""

        def change(now: Pointers) -> Pointers:
            return msgspec.structs.replace(now, challenger=None) if now.challenger == version else now

        return self._change(line, change)

    def resolve(self, reference: str) -> tuple[str, int]:
        """Line and version of `L@3`, `L@champion`, `L@challenger` or `L@previous`; raises InvalidInput or NotFound."""
        line, at, which = reference.rpartition("@")
        if not at:
            raise InvalidInput(f"{reference!r} names no version; write L@champion or L@3")
        if which in ("champion", "challenger", "previous"):
            version = self._named(line, which, getattr(self.pointers(line), which))
        elif re.fullmatch(r"[0-9]{1,9}", which):
            version = int(which)
            self._check_complete(line, version)
        else:
            raise InvalidInput(f"{which!r} is no version; write a number, champion, challenger or previous")
        return line, version

    def operating_point(self, line: str, version: int) -> OperatingPoint:
        """The threshold in force for a version: the last one set, at first the one calibrated in its fit."""
        keys = self._points(line, version)
        return self._point(line, version, keys[-1]) if keys else self._calibrated(line, version)

    def operating_points(self, line: str, version: int) -> list[OperatingPoint]:
        """Every threshold the version has had, oldest first: the one calibrated in its fit, then each that was set."""
        return [
            self._calibrated(line, version),
            *(self._point(line, version, key) for key in self._points(line, version)),
        ]

    def set_operating_point(
        self, line: str, version: int, *, threshold: float, by: str, why: str, at: float, preview: str = ""
    ) -> OperatingPoint:
        """Put another threshold in force, as the version's next revision.

        Raises Conflict where somebody set one meanwhile, InvalidInput for a threshold that no score can meet.
        """
        check_threshold(threshold)
        revision = self.operating_point(line, version).revision + 1
        point = OperatingPoint(threshold=threshold, revision=revision, by=by, why=why, at=at, preview=preview)
        key = f"{points_folder(line, version)}{revision}.json"
        self._store.swap(key, msgspec.json.encode(point), expected=None)
        return point

    def _points(self, line: str, version: int) -> list[str]:
        """Keys of the revisions that were set, oldest first."""
        folder = points_folder(line, version)
        return sorted(self._store.keys(folder), key=lambda key: int(key.removeprefix(folder).removesuffix(".json")))

    def _point(self, line: str, version: int, key: str) -> OperatingPoint:
        return _decoded(self._store.get(key), OperatingPoint, f"{line}@{version}")

    def _calibrated(self, line: str, version: int) -> OperatingPoint:
        manifest = self.manifest(line, version)
        return OperatingPoint(
            threshold=manifest.threshold.value,
            revision=1,
            by="driftline",
            why=f"calibrated for {manifest.threshold.false_alarm_rate:g} false alarms",
            at=manifest.created_at,
        )

    def _finished(self, line: str, request_id: str | None) -> int | None:
        """The version a request became, made complete if its publisher died before the manifest."""
        revision = None if request_id is None else self._store.read(request_key(line, request_id))
        if revision is None:
            return None
        record = _decoded(revision.data, _RequestRecord, f"the record of request {request_id}")
        self._store.put(f"{version_folder(line, record.version)}{MANIFEST}", record.manifest)
        return record.version

    def _claim(self, line: str) -> int:
        """Take the next number: that of one publisher only, for ever."""
        taken = [number(key) for key in self._store.keys(versions_folder(line))]
        version = max(taken, default=0) + 1
        while True:
            try:
                self._store.swap(f"{version_folder(line, version)}{CLAIM}", b"{}", expected=None)
                return version
            except Conflict:
                version += 1

    def _decide(self, line: str, request_id: str, record: _RequestRecord) -> int:
        """Be the version of the request unless another run was first; the winner's manifest is in place after."""
        with suppress(Conflict):
            self._store.swap(request_key(line, request_id), msgspec.json.encode(record), expected=None)
        version = self._finished(line, request_id)
        if version is None:
            raise NotFound(f"the record of request {request_id} of line {line} vanished; restore the store")
        return version

    def _found(self, line: str, version: int) -> dict[str, bytes]:
        self._check_complete(line, version)
        folder = version_folder(line, version)
        keys = [key for key in self._store.keys(folder) if key != folder + CLAIM]
        return {key.removeprefix(folder): self._store.get(key) for key in keys}

    def _check_complete(self, line: str, version: int) -> None:
        if not self._store.exists(f"{version_folder(line, version)}{MANIFEST}"):
            raise NotFound(f"no version {line}@{version}; there are {self.versions(line) or 'none'}")

    def _named(self, line: str, which: str, version: int | None) -> int:
        if version is None:
            raise NotFound(
                f"line {line!r} has no {which} version; `driftline models list --line {line}` shows what there is"
            )
        self._check_complete(line, version)
        return version

    def _pointers(self, line: str) -> tuple[Pointers, str | None]:
        revision = self._store.read(pointers_key(line))
        if revision is None:
            return Pointers(), None
        return _decoded(revision.data, Pointers, f"the pointers of {line}"), revision.etag

    def _change(self, line: str, change: Callable[[Pointers], Pointers]) -> Pointers:
        """Apply `change` to the pointers as they are when it is written."""
        for _ in range(_TRIES):
            now, etag = self._pointers(line)
            if (wanted := change(now)) == now:
                return now
            try:
                self._store.swap(pointers_key(line), msgspec.json.encode(wanted), expected=etag)
            except Conflict:
                continue
            return wanted
        raise Conflict(
            f"the pointers of line {line!r} changed {_TRIES} times meanwhile; find out who promotes so often"
        )


def check_threshold(threshold: float) -> None:
    """Raise InvalidInput for a threshold that no score can meet."""
    if not math.isfinite(threshold) or threshold < 0:
        raise InvalidInput(f"threshold {threshold}; scores are distances, give a number of at least 0")


def _checked(line: str, files: Mapping[str, bytes]) -> Manifest:
    if MANIFEST not in files:
        raise InvalidInput(
            f"an artefact without {MANIFEST} ({', '.join(sorted(files))}); detectors.artifact.pack makes one"
        )
    if bad := sorted(name for name in files if not _FILE.fullmatch(name) or name == CLAIM):
        raise InvalidInput(f"an artefact cannot have the file {bad[0]!r}; use letters, digits, '.', '_' and '-'")
    if problems := _problems(line, files):
        raise ArtifactError(f"this artefact cannot be published: {'; '.join(problems)}; pack it again")
    return read_manifest(files[MANIFEST])


def _problems(line: str, files: Mapping[str, bytes]) -> list[str]:
    try:
        manifest = read_manifest(files[MANIFEST])
    except ArtifactError as error:
        return [str(error)]
    problems = [f"it is of line {manifest.line!r}, not {line!r}"] if manifest.line != line else []
    problems += [f"{name} is missing" for name in sorted(manifest.files.keys() - files.keys())]
    problems += [f"{name} is not in the manifest" for name in sorted(files.keys() - manifest.files.keys() - {MANIFEST})]
    for name in sorted(manifest.files.keys() & files.keys()):
        digest = hashlib.sha256(files[name]).hexdigest()
        if digest != manifest.files[name]:
            problems.append(f"{name} has SHA-256 {digest[:12]}..., the manifest says {manifest.files[name][:12]}...")
    return problems


def _succeeded(now: Pointers, version: int) -> Pointers:
    """The pointers once `version` is champion. A challenger that was there to be compared with the champion that goes is none any more."""
    challenger = None if now.challenger in (version, now.previous) else now.challenger
    return Pointers(champion=version, challenger=challenger, previous=now.champion, sequence=now.sequence + 1)


def _check_sequence(line: str, now: Pointers, expected: int | None) -> None:
    if expected is not None and expected != now.sequence:
        raise Conflict(
            f"line {line!r} is at sequence {now.sequence} (champion {now.champion}), expected {expected}; look again"
        )


def _decoded(data: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{what} cannot be read: {error}; restore it from a backup") from error
