"""Names for new things, and what can be such a name at all.

What cannot is not looked for: a database would choke on some of it (PostgreSQL on U+0000).
"""

import re
from uuid import uuid4

_ID = re.compile(r"(conv|resp|key)_[0-9a-f]{32}")


def new_id(kind: str) -> str:
    """A name that nothing else has: ``kind`` (conv, resp, key), _ and 32 hexadecimal digits."""
    return f"{kind}_{uuid4().hex}"


def is_id(text: str, kind: str) -> bool:
    """Whether this can be the id of such a thing."""
    found = _ID.fullmatch(text)
    return found is not None and found[1] == kind


def can_be_kept(text: object) -> bool:
    """Whether every database can hold this as a text: it is one, and has neither U+0000 nor half a
    surrogate pair in it.
    """
    return isinstance(text, str) and re.search(r"[\0\ud800-\udfff]", text) is None
