"""Where the database is: reading its URL, and showing it without its password."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from .errors import StoreUnavailable

_DRIVERS = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}


@dataclass(frozen=True, slots=True)
class Address:
    """A database's place. ``path`` is the file of a SQLite database; ``url`` may hold a password,
    ``shown`` holds none.
    """

    url: str = field(repr=False)
    shown: str
    path: Path | None = None

    @classmethod
    def of_file(cls, path: Path) -> "Address":
        """The SQLite database in this file."""
        url = f"sqlite+aiosqlite:///{path}"
        return cls(url, url, path)

    @classmethod
    def read(cls, url: str) -> "Address":
        """Understand a URL as SQLAlchemy writes it; the driver need not be named. Raises
        ``StoreUnavailable`` for one that no store can be at.
        """
        scheme, _, rest = url.partition("://")
        backend, _, driver = scheme.partition("+")
        wanted = _DRIVERS.get(backend)
        if not wanted or driver not in ("", wanted):
            raise StoreUnavailable(
                f"The database URL {hide_password(url)!r} is none that can be used: write "
                "sqlite+aiosqlite:////absolute/path/of/a/file or "
                "postgresql+asyncpg://user:password@host/database."
            )
        if backend == "sqlite":
            return cls.of_file(_sqlite_file(url, rest))
        url = f"{backend}+{wanted}://{rest}"
        return cls(url, hide_password(url))


def _sqlite_file(url: str, rest: str) -> Path:
    path = Path(rest.removeprefix("/"))
    if not path.is_absolute() or "?" in rest:
        raise StoreUnavailable(
            f"The database URL {url!r} must name a file by its absolute path, and nothing "
            "more: sqlite+aiosqlite:////absolute/path/of/a/file."
        )
    return path


def hide_password(url: str) -> str:
    """The URL with *** for every password in it, also where it is not a proper URL."""
    url = re.sub(r"(://[^:@/?]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    return re.sub(r"(?i)(password=)[^&]*", r"\1***", url)
