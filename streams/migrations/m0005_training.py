"""What challengers would have said, which images a request's training set was made of, and scores in the index of a version's verdicts: so
that what another threshold would have flagged is read in that index alone.
"""

from alembic.operations import Operations
from sqlalchemy import Boolean, Column, Float, Integer, LargeBinary, Text

revision = "0005"
down_revision = "0004"

KEY = Text().with_variant(Text(collation="C"), "postgresql")
VACUUM_SOON = "autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000"


def upgrade(op: Operations) -> None:
    """Two tables more, one index wider."""
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
    op.drop_index("verdicts_by_version", "verdicts")
    op.create_index("verdicts_by_version", "verdicts", ["line", "version", "judged_at", "score", "flagged"])
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE verdicts SET ({VACUUM_SOON})")
