"""Everything that can go wrong in the store, in one tree.

* ``StoreError``

  * ``NotFound``: there is no such thing, or it is another owner's

    * ``NoSuchConversation``
    * ``NoSuchMessage``
    * ``NoSuchResponse``
    * ``NoSuchKey``

  * ``InvalidKeyName``: a key cannot be called that
  * ``KeyNameTaken``: another key is called that
  * ``LeaseTimeout``: somebody else went on with the conversation for too long
  * ``StoreUnavailable``: the database cannot be used

The message of each is a whole sentence for a person. None names a password or a secret.
"""


class StoreError(Exception):
    """Base of every error that the store raises on purpose."""


class NotFound(StoreError):
    """There is no such thing for this owner. ``id`` is what was asked for."""

    kind = "thing"

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f"There is no {self.kind} {id!r}.")


class NoSuchConversation(NotFound):
    """No conversation with this id belongs to the owner."""

    kind = "conversation"


class NoSuchMessage(NotFound):
    """The conversation has no message with this uuid."""

    kind = "message"


class NoSuchResponse(NotFound):
    """No response with this id belongs to the owner, or it was deleted."""

    kind = "response"


class NoSuchKey(NotFound):
    """The owner has no key with this name or id that is still valid."""

    kind = "key"


class InvalidKeyName(StoreError):
    """A key cannot be called ``name``."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"A key cannot be called {name!r}: use 1 to 64 letters, digits and . _ @ -, "
            "the first a letter or digit, and not key_."
        )


class KeyNameTaken(StoreError):
    """The owner has a key called ``name`` that is not revoked."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"There is a key called {name!r} already: revoke it or choose another name."
        )


class LeaseTimeout(StoreError):
    """``holder`` kept ``conversation_id`` for longer than the ``patience`` (seconds) of one who
    waited.
    """

    def __init__(self, conversation_id: str, holder: str, patience: float) -> None:
        self.conversation_id = conversation_id
        self.holder = holder
        self.patience = patience
        super().__init__(
            f"The conversation {conversation_id!r} is in use by {holder}, and was not free "
            f"within {patience:g} s."
        )


class StoreUnavailable(StoreError):
    """The database cannot be opened, reached or read, or is locked."""
