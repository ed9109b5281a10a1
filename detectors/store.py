"""Opens the object store a URL names. `FolderStore`, the embedded default: a folder, shared by any number of processes on
one machine.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from detectors.errors import Conflict, InvalidInput, NotFound, Unavailable
from detectors.objects import ObjectStore, Revision, check_key

_UNFINISHED = ".unfinished"
_LOCK = ".lock"


class FolderStore:
    """An object store in a folder: one file an object.

    Made for several processes (and threads) at once. Writing goes to a file of its own, which is synchronised to the
    disk and then takes its name in one step. A crash may leave such a file in `.unfinished`, never half an object. Keys
    are paths: there is no object `a/b` beside an object `a`, and no part of a key begins with a dot.

    >>> import tempfile
    >>> store = FolderStore(Path(tempfile.mkdtemp()))
    >>> store.put("images/a.png", b"pixels")
    >>> store.get("images/a.png"), store.keys("images/")
    (b'pixels', ['images/a.png'])
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        with _in_words(root, "open the store"):
            if root.exists() and not root.is_dir():
                raise InvalidInput(f"{root} is a file; an object store needs a folder of its own")
            (root / _UNFINISHED).mkdir(parents=True, exist_ok=True)

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with _in_words(self._root, f"write {key}"):
            if not _is_object(path) and self._created(path, data):
                return
            existing = path.read_bytes()
            _sync_folder(path.parent)
        if existing != data:
            raise Conflict(f"{key} is kept with {len(existing)} other bytes; objects are immutable, use another key")

    def get(self, key: str) -> bytes:
        if (revision := self.read(key)) is None:
            raise NotFound(f"no object {key} in {self._root}; it was never put, or removed by hand")
        return revision.data

    def exists(self, key: str) -> bool:
        path = self._path(key)
        with _in_words(self._root, f"look for {key}"):
            if _is_object(path):
                return True
            self._check_there()
            return False

    def keys(self, prefix: str) -> list[str]:
        folder, _, _ = prefix.rpartition("/")
        top = self._path(folder) if folder else self._root
        with _in_words(self._root, f"list {prefix}"):
            self._check_there()
            return sorted(key for key in self._walk(top) if key.startswith(prefix))

    def read(self, key: str) -> Revision | None:
        path = self._path(key)
        with _in_words(self._root, f"read {key}"):
            try:
                data = path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                self._check_there()
                return None
        return Revision(data, _etag(data))

    def swap(self, key: str, data: bytes, *, expected: str | None) -> str:
        path = self._path(key)
        with _in_words(self._root, f"write {key}"), self._locked():
            current = self.read(key)
            found = None if current is None else current.etag
            if found != expected:
                raise Conflict(f"{key} is at {found}, expected {expected}; read it again and decide anew")
            if expected is not None:
                self._replace(path, data)
            elif not self._created(path, data):
                raise Conflict(f"{key} was put meanwhile; read it again and decide anew")
        return _etag(data)

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._root / key

    def _check_there(self) -> None:
        """Tell an absent object from an absent store (a disk not mounted), which nobody may take for an empty one."""
        if not (self._root / _UNFINISHED).is_dir():
            raise Unavailable(f"the store's folder {self._root} is gone; mount or restore it")

    def _created(self, path: Path, data: bytes) -> bool:
        """Make the object unless there is one; whether it was made."""
        with self._written(data) as unfinished:
            self._make_folders(path.parent)
            try:
                os.link(unfinished, path)
            except FileExistsError:
                return False
        _sync_folder(path.parent)
        return True

    def _replace(self, path: Path, data: bytes) -> None:
        with self._written(data) as unfinished:
            unfinished.replace(path)
        _sync_folder(path.parent)

    @contextmanager
    def _written(self, data: bytes) -> Iterator[Path]:
        """A file of our own with `data`, on the disk for sure; gone at the end if it has not taken another name."""
        self._check_there()
        unfinished = self._root / _UNFINISHED / uuid4().hex
        try:
            with unfinished.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield unfinished
        finally:
            unfinished.unlink(missing_ok=True)

    def _make_folders(self, folder: Path) -> None:
        missing = [each for each in (folder, *folder.parents) if each.is_relative_to(self._root) and not each.is_dir()]
        for each in reversed(missing):
            each.mkdir(exist_ok=True)
            _sync_folder(each.parent)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One swap at a time, over threads and processes; the lock dies with its holder."""
        import fcntl  # Imported here because Windows has none, where everything but swap works.

        self._check_there()
        with (self._root / _LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _walk(self, folder: Path) -> Iterator[str]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from self._walk(Path(entry.path))
            else:
                yield Path(entry.path).relative_to(self._root).as_posix()


def open_store(url: str) -> ObjectStore:
    """The store at `url`: `s3://bucket?endpoint=https://host`, `file:///path`, or a plain path, made where there is none.

    >>> import tempfile
    >>> open_store(tempfile.mkdtemp()).keys("")
    []
    """
    if "://" not in url:
        return FolderStore(Path(url))
    parts = urlsplit(url)
    if parts.scheme == "s3":
        from detectors.s3_store import S3Store  # here: who keeps things in a folder needs no S3

        return S3Store.at(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path:
        raise InvalidInput(
            f"no object store at {url!r}; write s3://bucket?endpoint=https://host, file:///path or a path"
        )
    return FolderStore(Path(unquote(parts.path)))


def _is_object(path: Path) -> bool:
    """As `Path.is_file`, which in some versions of Python says no where it was not allowed to look."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _in_words(root: Path, intent: str) -> Iterator[None]:
    """An OSError as what it means to the caller."""
    try:
        yield
    except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise InvalidInput(
            f"cannot {intent} in {root}: {error.strerror}: one key is a folder of another; rename one"
        ) from error
    except OSError as error:
        raise Unavailable(
            f"cannot {intent} in {root}: {error.strerror or error}; mend its disk, space or permissions"
        ) from error
