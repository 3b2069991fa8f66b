"""What outlives a process: conversations, sessions, responses, keys, and who may go on with what.

Everything is in one database: a SQLite file that several processes may use at once, or PostgreSQL,
which several machines may. ``Store`` is the door. Importing this costs next to nothing, making a
``Store`` too; SQLAlchemy is imported and the database opened when something is first asked for.
"""

from .errors import (
    InvalidKeyName,
    KeyNameTaken,
    LeaseTimeout,
    NoSuchConversation,
    NoSuchKey,
    NoSuchMessage,
    NoSuchResponse,
    NotFound,
    StoreError,
    StoreUnavailable,
)
from .leases import Lease
from .sessions import StoredSession
from .store import Store
from .values import Conversation, Key, Page, Response, StoredMessage

__all__ = [
    "Conversation",
    "InvalidKeyName",
    "Key",
    "KeyNameTaken",
    "Lease",
    "LeaseTimeout",
    "NoSuchConversation",
    "NoSuchKey",
    "NoSuchMessage",
    "NoSuchResponse",
    "NotFound",
    "Page",
    "Response",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "StoredMessage",
    "StoredSession",
]
