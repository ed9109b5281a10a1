"""What challengers would have said, and which images a request's training set was made of."""

from alembic.operations import Operations
from sqlalchemy import Boolean, Column, Float, Integer, LargeBinary, Text

revision = "0005"
down_revision = "0004"

KEY = Text().with_variant(Text(collation="C"), "postgresql")


def upgrade(op: Operations) -> None:
    """Two tables more."""
    op.create_table(
        "shadows",
        Column("line", KEY, primary_key=True),
        Column("version", Integer, primary_key=True),
        Column("image_id", KEY, primary_key=True),
        Column("flagged", Boolean, nullable=False),
        Column("champion", Integer, nullable=False),
        Column("champion_flagged", Boolean, nullable=False),
        Column("judged_at", Float, nullable=False),
        Column("body", LargeBinary, nullable=False),
    )
    op.create_index("shadows_by_time", "shadows", ["line", "version", "judged_at"])
    op.create_table(
        "training_images",
        Column("line", KEY, primary_key=True),
        Column("request_id", KEY, primary_key=True),
        Column("image_key", KEY, primary_key=True),
        Column("role", Text, nullable=False),
        Column("why", Text, nullable=False),
    )
    op.create_index("training_images_by_image", "training_images", ["line", "image_key"])
