"""What a tool has answered: its text, and its pictures."""

import json
import re
from dataclasses import dataclass
from typing import Any

from .trimming import clean

Content = str | list[dict[str, Any]] | None

_KINDS = ("image/png", "image/jpeg", "image/gif", "image/webp")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")

#: The most characters of a picture, in base64, that are kept in a notebook.
_MOST = 2_000_000

# Where Claude Code keeps a picture for the model: the notebook has the picture itself, and may be
# given to others.
_KEPT = re.compile(r"^\[Image: source: [^\]\n]*\]$", re.MULTILINE)
# What Claude Code wraps a tool's error in, for the model.
_WRAPPED = re.compile(r"</?tool_use_error>")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture: its MIME type and its bytes in base64; no bytes where it cannot be shown, or is
    too large to be kept in a notebook.
    """

    kind: str
    data: str

    @property
    def label(self) -> str:
        """What stands for it where there is only text."""
        return f"[{self.kind}]" if self.data else f"[{self.kind}, not shown]"


def text(content: Content) -> str:
    """All that is text in a result, cleaned; pictures are not mentioned."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    return "\n".join(part for block in blocks if (part := _text(block)))


def pictures(content: Content) -> list[Picture]:
    """The pictures in a result, in the shapes of Anthropic's API and of MCP."""
    if not isinstance(content, list):
        return []
    return [found for block in content if (found := _picture(block)) is not None]


def _text(block: dict[str, Any]) -> str:
    match block:
        case {"type": "text", "text": str(said)}:
            return clean(_KEPT.sub("", _WRAPPED.sub("", said))).strip("\n")
        case _ if _picture(block) is not None:
            return ""
        case {"type": "tool_reference", "tool_name": str(name)}:
            return clean(name)
        case _:
            return clean(json.dumps(block, indent=2, ensure_ascii=False, default=str))


def _picture(block: dict[str, Any]) -> Picture | None:
    match block:
        case {"source": {"media_type": str(kind), "data": str(data)}}:
            pass
        case {"mimeType": str(kind), "data": str(data)}:
            pass
        case _:
            return None
    shown = kind in _KINDS and len(data) <= _MOST and _BASE64.fullmatch(data)
    return Picture(clean(kind), data if shown else "")
