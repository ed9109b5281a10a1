"""Heatmaps for people: where a model saw what it flagged, kept in the object store."""

import hashlib

from detectors.encoding import encode_name
from detectors.images import Image, encode_jpeg
from detectors.model import ImageScore, heatmap
from detectors.objects import ObjectStore
from streams.loaded import Serving
from streams.messages import LineImage


def keep_heatmap(store: ObjectStore, image: LineImage, serving: Serving, pixels: Image, score: ImageScore) -> str:
    """Keep what `serving` made of an image, and give its key; the same image, version and threshold have the same key."""
    name = hashlib.sha256(f"{image.image_id}@{serving.version}#{serving.operating_point.revision}".encode()).hexdigest()
    key = f"heatmaps/{encode_name(image.line)}/{serving.version}/{name}.jpg"
    if not store.exists(key):
        store.put(key, encode_jpeg(heatmap(pixels, score.map_HW, serving.operating_point.threshold)))
    return key
