"""The first tables: conversations and their transcripts, responses, keys, tickets."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_number = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make them."""
    _create_conversations()
    _create_transcripts()
    _create_responses()
    _create_keys()
    _create_tickets()


def _create_conversations() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("title", sa.JSON),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("session_id", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
        sa.UniqueConstraint("session_id", name="uq_conversations_session_id"),
    )
    op.create_index("ix_conversations_updated_at", "conversations", ["updated_at"])
    op.create_index(
        "ix_conversations_owner_created_at_id", "conversations", ["owner", "created_at", "id"]
    )


def _create_transcripts() -> None:
    op.create_table(
        "transcripts",
        sa.Column("id", _number, autoincrement=True, nullable=False),
        sa.Column("project_key", sa.String, nullable=False),
        sa.Column("session_id", sa.String, nullable=False),
        sa.Column("subpath", sa.String, nullable=False),
        sa.Column("next_seq", sa.BigInteger, nullable=False),
        sa.Column("modified_ms", sa.BigInteger, nullable=False),
        sa.Column("last_uuid", sa.String),
        sa.PrimaryKeyConstraint("id", name="pk_transcripts"),
        sa.UniqueConstraint(
            "project_key",
            "session_id",
            "subpath",
            name="uq_transcripts_project_key_session_id_subpath",
        ),
    )
    op.create_table(
        "entries",
        sa.Column("transcript_id", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("uuid", sa.String),
        sa.Column("entry", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("transcript_id", "seq", name="pk_entries"),
        sa.ForeignKeyConstraint(
            ["transcript_id"],
            ["transcripts.id"],
            name="fk_entries_transcript_id",
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint("transcript_id", "uuid", name="uq_entries_transcript_id_uuid"),
    )


def _create_responses() -> None:
    op.create_table(
        "responses",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("parent_id", sa.String),
        sa.Column("conversation_id", sa.String),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("input_items", sa.JSON, nullable=False),
        sa.Column("messages", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_responses"),
    )
    op.create_index("ix_responses_created_at", "responses", ["created_at"])
    op.create_table(
        "response_items",
        sa.Column("response_id", sa.String, nullable=False),
        sa.Column("item_id", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("response_id", "item_id", name="pk_response_items"),
        sa.ForeignKeyConstraint(
            ["response_id"],
            ["responses.id"],
            name="fk_response_items_response_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_response_items_item_id", "response_items", ["item_id"])


def _create_keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("prefix", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("models", sa.JSON),
        sa.Column("budget_usd", sa.Double),
        sa.Column("spent_usd", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("revoked_at", sa.Double),
        sa.Column("last_used_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.UniqueConstraint("digest", name="uq_keys_digest"),
    )
    op.create_index(
        "uq_keys_owner_name_valid",
        "keys",
        ["owner", "name"],
        unique=True,
        sqlite_where=sa.text("revoked_at IS NULL"),
        postgresql_where=sa.text("revoked_at IS NULL"),
    )


def _create_tickets() -> None:
    op.create_table(
        "tickets",
        sa.Column("id", _number, autoincrement=True, nullable=False),
        sa.Column("conversation_id", sa.String, nullable=False),
        sa.Column("holder", sa.String, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tickets"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tickets_conversation_id_id", "tickets", ["conversation_id", "id"])
