"""The tables. Importing this imports SQLAlchemy.

A change here needs a step in ``migrations/versions`` that makes it in a database that exists. All
times are Unix seconds, ``transcripts.modified_ms`` alone is milliseconds, as the SDK wants it.
"""

from dataclasses import dataclass

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

#: The newest step in ``migrations/versions``, so that opening a database that is up to date needs
#: no Alembic.
HEAD = "0003"

# SQLite gives rows a number by itself in a column of exactly the type INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")
# JSON also where a plain text would do: it can hold U+0000, which PostgreSQL's texts cannot.
_Json = JSON(none_as_null=True)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_conversations = Table(
    "conversations",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False, index=True),
    Column("title", _Json),
    Column("metadata", _Json, nullable=False),
    Column("settings", _Json, nullable=False),
    # With the owner as project key: the transcript that has the messages.
    Column("session_id", String, nullable=False, unique=True),
    Index(None, "owner", "created_at", "id"),
)

_transcripts = Table(
    "transcripts",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("project_key", String, nullable=False),
    Column("session_id", String, nullable=False),
    Column("subpath", String, nullable=False),  # empty: the main transcript
    Column("next_seq", BigInteger, nullable=False),
    Column("modified_ms", BigInteger, nullable=False),
    Column("last_uuid", String),  # of the last entry that has one: the next goes on from there
    # The entries after this one are hidden, and deleted by the next one that is added; none with
    # NULL.
    Column("shown_upto", BigInteger),
    UniqueConstraint("project_key", "session_id", "subpath"),
)

_entries = Table(
    "entries",
    metadata,
    Column(
        "transcript_id",
        BigInteger,
        ForeignKey("transcripts.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("uuid", String),
    Column("entry", _Json, nullable=False),
    UniqueConstraint("transcript_id", "uuid"),
)

_responses = Table(
    "responses",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("created_at", Double, nullable=False, index=True),
    Column("parent_id", String),
    Column("conversation_id", String),
    Column("body", _Json, nullable=False),
    Column("input_items", _Json, nullable=False),
    Column("messages", _Json, nullable=False),
)

_response_items = Table(
    "response_items",
    metadata,
    Column(
        "response_id",
        String,
        ForeignKey("responses.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("item_id", String, primary_key=True, index=True),
)

_keys = Table(
    "keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("name", String, nullable=False),
    Column("prefix", String, nullable=False),
    Column("digest", String, nullable=False, unique=True),
    Column("models", _Json),
    Column("budget_usd", Double),
    Column("spent_usd", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("last_used_at", Double),
    Index(
        "uq_keys_owner_name_valid",
        "owner",
        "name",
        unique=True,
        sqlite_where=text("revoked_at IS NULL"),
        postgresql_where=text("revoked_at IS NULL"),
    ),
)

_tickets = Table(
    "tickets",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("conversation_id", String, nullable=False),
    Column("holder", String, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index(None, "conversation_id", "id"),
    sqlite_autoincrement=True,  # no number comes twice, or one could take another's for its own
)

_sessions = Table(
    "sessions",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("settings", _Json, nullable=False),
    Column("last_event_id", BigInteger, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("mark", String, nullable=False),
    Index(None, "owner", "created_at", "id"),
)

_session_events = Table(
    "session_events",
    metadata,
    Column(
        "session_id",
        String,
        ForeignKey("sessions.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("event_id", BigInteger, primary_key=True, autoincrement=False),
    # JSON in UTF-8. Bytes, so that what was told once is told again as it was, and is not parsed
    # in between.
    Column("body", LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables by name."""

    conversations: Table
    transcripts: Table
    entries: Table
    responses: Table
    response_items: Table
    keys: Table
    tickets: Table
    sessions: Table
    session_events: Table


TABLES = Tables(
    conversations=_conversations,
    transcripts=_transcripts,
    entries=_entries,
    responses=_responses,
    response_items=_response_items,
    keys=_keys,
    tickets=_tickets,
    sessions=_sessions,
    session_events=_session_events,
)
