"""Keys: secrets by which programs are let in, and what each may use and spend."""

import hashlib
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any

from .database import Database, Transaction
from .errors import InvalidKeyName, KeyNameTaken, NoSuchKey
from .ids import is_id, new_id
from .values import Key

_PREFIX = "sk-ccapi-"
_SHOWN = 12
_NAME = re.compile(r"(?!key_)[A-Za-z0-9][\w.@-]{0,63}", re.ASCII)


class Keys:
    """The keys of all owners. A secret is not kept, only its SHA-256: it is 256 random bits, which
    nobody can guess however fast the hash is, so that a slow one would protect nothing more.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        owner: str,
        name: str,
        *,
        models: Sequence[str] | None = None,
        budget_usd: float | None = None,
        expires_at: float | None = None,
    ) -> tuple[Key, str]:
        """Make a key; returns it and its secret, which cannot be had again.

        Raises ``KeyNameTaken`` where the owner has one with this name that is not revoked, and
        ``InvalidKeyName``.
        """
        if not _NAME.fullmatch(name):
            raise InvalidKeyName(name)
        secret = _PREFIX + secrets.token_urlsafe(32)
        key = Key(
            id=new_id("key"),
            owner=owner,
            name=name,
            prefix=secret[:_SHOWN],
            models=None if models is None else list(models),
            budget_usd=budget_usd,
            spent_usd=0.0,
            created_at=time.time(),
            expires_at=expires_at,
            revoked_at=None,
            last_used_at=None,
        )
        values = {name: getattr(key, name) for name in key.__slots__}
        async with self._database.writing() as transaction:
            new = transaction.insert_new(transaction.tables.keys)
            if not await transaction.run(new.values(digest=_digest(secret), **values)):
                raise KeyNameTaken(name)
        return key, secret

    async def verify(self, secret: str) -> Key | None:
        """The key with this secret; None if there is none. Whether it may still be used is the
        caller's to see (``revoked``, ``expired``, ``exhausted``).

        How long the search takes tells of the digest alone, and nobody can aim at a digest.
        """
        async with self._database.reading() as transaction:
            table = transaction.tables.keys
            digest = _digest(secret)
            row = await transaction.first(table.select().where(table.c.digest == digest))
        return None if row is None else _value(row)

    async def spend(self, key_id: str, usd: float) -> None:
        """Add to what a key has spent and note that it was used now; also when it is revoked."""
        if not is_id(key_id, "key"):
            raise NoSuchKey(key_id)
        async with self._database.writing() as transaction:
            table = transaction.tables.keys
            spent = table.update().where(table.c.id == key_id)
            spent = spent.values(spent_usd=table.c.spent_usd + usd, last_used_at=time.time())
            if not await transaction.run(spent):
                raise NoSuchKey(key_id)

    async def list(self, owner: str | None = None) -> "list[Key]":
        """All keys of an owner, or of all owners, oldest first; also those that were revoked."""
        async with self._database.reading() as transaction:
            table = transaction.tables.keys
            wanted = table.select().order_by(table.c.created_at, table.c.id)
            if owner is not None:
                wanted = wanted.where(table.c.owner == owner)
            return [_value(row) for row in await transaction.all(wanted)]

    async def revoke(self, owner: str, name_or_id: str) -> Key:
        """Take a key back, at once and for good. Raises ``NoSuchKey`` where the owner has no such
        key that is not revoked already.
        """
        async with self._database.writing() as transaction:
            key = await _find_valid(transaction, owner, name_or_id)
            table = transaction.tables.keys
            revoked = table.update().where(table.c.id == key.id).values(revoked_at=time.time())
            await transaction.run(revoked)
            row = await transaction.first(table.select().where(table.c.id == key.id))
        return _value(row)


def _digest(secret: str) -> str:
    # What a client sends can be no proper text; it is then no key of ours either.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


async def _find_valid(transaction: Transaction, owner: str, name_or_id: str) -> Any:
    table = transaction.tables.keys
    named = is_id(name_or_id, "key") or _NAME.fullmatch(name_or_id)
    called = (table.c.name == name_or_id) | (table.c.id == name_or_id)
    own = called & (table.c.owner == owner) & table.c.revoked_at.is_(None)
    row = await transaction.first(table.select().where(own).with_for_update()) if named else None
    if row is None:
        raise NoSuchKey(name_or_id)
    return row


def _value(row: Any) -> Key:
    values = dict(row._mapping)
    del values["digest"]
    return Key(**values)
