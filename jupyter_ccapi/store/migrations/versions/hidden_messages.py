"""Messages can be hidden: those after the one up to which a transcript is shown."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; nothing is hidden yet."""
    op.add_column("transcripts", sa.Column("shown_upto", sa.BigInteger))
