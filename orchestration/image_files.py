"""Folders of images on this machine: which files they are, which can be read, and how they come into the store."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

from detectors.errors import ImageError, InvalidInput
from detectors.images import Image, decode
from detectors.objects import ObjectStore, image_key

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})


class ImageFiles(Sequence[Image]):
    """Files that can be read as images, each decoded anew when asked for: a folder may be larger than memory."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> "ImageFiles": ...
    def __getitem__(self, index: int | slice) -> "Image | ImageFiles":
        if isinstance(index, slice):
            return ImageFiles(self.paths[index])
        return decode(self.paths[index].read_bytes())


def image_files(folder: Path) -> list[Path]:
    """The image files under a folder, in order of name; raises InvalidInput where there is none."""
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is no folder; name one with images")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise InvalidInput(f"no images in {folder} ({', '.join(sorted(SUFFIXES))}); name a folder with some")
    return found


def readable(paths: Iterable[Path]) -> tuple[ImageFiles, dict[str, str]]:
    """Those of the files that can be decoded, and for each other the reason."""
    good: list[Path] = []
    unreadable: dict[str, str] = {}
    for path in paths:
        try:
            decode(path.read_bytes())
        except (ImageError, OSError) as error:
            unreadable[str(path)] = str(error)
        else:
            good.append(path)
    return ImageFiles(good), unreadable


def kept(store: ObjectStore, line: str, path: Path) -> str:
    """The key of an image file that is now in the store, so that verdicts can show the normal patch they were compared with."""
    data = path.read_bytes()
    key = image_key(
        line, hashlib.sha256(data).hexdigest(), at=path.stat().st_mtime, suffix=path.suffix.lower().lstrip(".")
    )
    store.put(key, data)
    return key
