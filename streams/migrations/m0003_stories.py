"""Events that tell of one image are found by it, open incidents by their state."""

import base64
import json

from alembic.operations import Operations
from sqlalchemy import Column, Text, text

revision = "0003"
down_revision = "0002"

KEY = Text().with_variant(Text(collation="C"), "postgresql")
LONGEST_INDEXED = 1000
PAGE = 100
LETTERS = text(
    "SELECT identity, body FROM events WHERE kind = 'dead-letters' AND identity > :after ORDER BY identity LIMIT :page"
)
NAME = text("UPDATE events SET image_id = :image_id WHERE kind = 'dead-letters' AND identity = :identity")


def upgrade(op: Operations) -> None:
    """Name the images of what is there."""
    op.add_column("events", Column("image_id", KEY))
    op.execute("UPDATE events SET image_id = subject WHERE kind = 'reviews'")
    _name_images_of_dead_letters(op)
    op.create_index("events_of_image", "events", ["line", "image_id"])
    op.create_index("incidents_by_state", "incidents", ["state", "line", "at"])


def _name_images_of_dead_letters(op: Operations) -> None:
    """A page at a time: each holds what was sent, up to whole images."""
    connection, after = op.get_bind(), ""
    while page := connection.execute(LETTERS, {"after": after, "page": PAGE}).all():
        for row in page:
            connection.execute(NAME, {"identity": row.identity, "image_id": _image_of(json.loads(row.body))})
        after = page[-1].identity


def _image_of(letter: dict[str, object]) -> str | None:
    """The id its sender gave it, else its place in the log."""
    headers = letter["headers"]
    assert isinstance(headers, list)
    given = next((base64.b64decode(value).decode(errors="replace") for name, value in headers if name == "ce_id"), None)
    place = f"{letter['source_topic']}-{letter['source_partition']}-{letter['source_offset']}"
    name = place if given is None else given
    return name if len(name) <= LONGEST_INDEXED and "\0" not in name else None
