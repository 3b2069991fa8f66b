"""The door to all that outlives a process."""

from pathlib import Path

from .address import Address
from .conversations import Conversations
from .database import Database
from .keys import Keys
from .leases import Leases
from .responses import Responses
from .sessions import Sessions
from .transcripts import Transcripts

_FILE = "ccapi.db"


class Store:
    """A store in the database at a URL: ``sqlite+aiosqlite:////absolute/path`` or
    ``postgresql+asyncpg://user:password@host/database``.

    Nothing is opened before something is asked for; then the tables are made where there are none.
    From there on it belongs to the event loop that runs, until it is closed. Where the database
    cannot be used, everything raises ``StoreUnavailable``; a URL that names none does so here.
    ``lease_ttl``: seconds after which what a dead process held is free.
    """

    def __init__(self, url: str | Address, *, lease_ttl: float = 15.0) -> None:
        self._database = Database(Address.read(url) if isinstance(url, str) else url)
        self.conversations = Conversations(self._database)
        self.responses = Responses(self._database)
        self.keys = Keys(self._database)
        self.leases = Leases(self._database, ttl=lease_ttl)
        self.transcripts = Transcripts(self._database)
        self.sessions = Sessions(self._database)

    @classmethod
    def in_folder(cls, path: Path) -> "Store":
        """The store in a SQLite file in this folder. Where they do not exist they are made, to be
        read by their owner alone.
        """
        return cls(Address.of_file(path.absolute() / _FILE))

    async def open(self) -> None:
        """Open the database now: the first one who asks for something would wait for a second."""
        await self._database.open()

    async def close(self) -> None:
        """Close the database. Conversations that are held are free ``lease_ttl`` seconds later."""
        await self.leases.close()
        await self._database.close()
