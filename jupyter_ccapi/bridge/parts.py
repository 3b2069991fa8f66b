"""A client's message, as the model is sent it: text, pictures, files of the workspace."""

import base64
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyter_ccapi.claude.history import Content

from .source import Refused

# What the Messages API takes, and how much of it: base64 makes 4 bytes of 3.
_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_MOST_BYTES = 10 * 1024 * 1024
_MOST_TEXT = 1024 * 1024


def content_of(given: str | Sequence[Mapping[str, Any]], workspace: Path) -> Content:
    """The content of a prompt; files are read here, within the workspace. Raises ``Refused``.
    Blocks.
    """
    if isinstance(given, str):
        return given
    return [_block(part, f"content.{place}", workspace) for place, part in enumerate(given)]


def _block(part: Mapping[str, Any], where: str, workspace: Path) -> dict[str, Any]:
    match part["type"]:
        case "text":
            return {"type": "text", "text": part["text"]}
        case "file":
            return _file(str(part["path"]), where, workspace)
    return _picture(part["source"], where)


def _picture(source: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind, data = source.get("media_type"), source.get("data")
    if source.get("type") != "base64" or kind not in _PICTURES or not isinstance(data, str):
        raise Refused(
            f'{where}: an image has a "source" {{"type": "base64", "media_type": …, "data": …}}; '
            f"the media types are {', '.join(_PICTURES)}."
        )
    try:
        base64.b64decode(data, validate=True)
    except ValueError as error:
        raise Refused(f"{where}: the image's data is not base64: {error}.") from None
    source = {"type": "base64", "media_type": kind, "data": data}
    return {"type": "image", "source": source}


def _file(path: str, where: str, workspace: Path) -> dict[str, Any]:
    try:
        root = workspace.resolve()
        file = (root / path).resolve()
        if not file.is_relative_to(root):
            raise Refused(f"{where}: the file {path!r} is not within the workspace.")
        if not file.is_file():
            raise Refused(f"{where}: there is no file {path!r} in the workspace.")
        if file.stat().st_size > _MOST_BYTES:
            raise Refused(f"{where}: the file {path!r} is over {_MOST_BYTES >> 20} MB.")
        content = file.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise Refused(f"{where}: the file {path!r} cannot be read: {why}.") from None
    kind = mimetypes.guess_type(file.name)[0] or ""
    if kind in _PICTURES:
        data = base64.b64encode(content).decode()
        return {
            "type": "image",
            "source": {"type": "base64", "media_type": kind, "data": data},
        }
    if kind == "application/pdf":
        data = base64.b64encode(content).decode()
        return {
            "type": "document",
            "source": {"type": "base64", "media_type": kind, "data": data},
            "title": path,
        }
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise Refused(
            f"{where}: the file {path!r} is neither text, nor a picture or PDF; let Claude read it "
            "with its own tools."
        ) from None
    if len(text) > _MOST_TEXT:
        raise Refused(
            f"{where}: the text of {path!r} is over {_MOST_TEXT >> 20} MB; let Claude read it."
        )
    return {"type": "text", "text": f'<file path="{path}">\n{text}\n</file>'}
