"""Read the images that a request points to, before anything is sent to the model."""

import asyncio
import base64
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tornado.netutil import Resolver

from jupyter_ccapi.claude.history import Message
from jupyter_ccapi.openai.errors import APIError, invalid

from .image_fetch import PORTS, ImageFetcher, is_public
from .image_sources import Refused, from_data_url, from_file

# With base64 what a body of 32 MB can hold, which is the most that the Messages API takes.
_MAX_TOTAL = 24 * 2**20
# One letter before a colon is a drive, not a scheme.
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)

Block = dict[str, Any]


class ImageLoader:
    """Puts an image's bytes where a request gave its URL: data:, http(s): and file: URLs and
    paths, inside the folders that ``roots`` names at the time.

    What is read is a PNG, JPEG, GIF or WebP by its bytes; what a URL or a server declares is not
    believed. An image that cannot be had is an ``APIError`` 400 with the code ``invalid_image``.
    """

    def __init__(
        self,
        roots: Callable[[], Sequence[Path]],
        *,
        max_bytes: int = 5 * 2**20,
        max_count: int = 20,
        timeout: float = 10.0,
        fetch: bool = True,
        resolver: Resolver | None = None,
        allowed: Callable[[str], bool] = is_public,
        ports: Collection[int] = PORTS,
    ) -> None:
        """``max_bytes`` is for one image, decoded; Claude Code makes images smaller than that to
        fit the model's own limits. ``timeout`` is in seconds, for one image. Without ``fetch``
        nothing is got from the web. ``resolver``, ``allowed`` and ``ports`` are as for
        ``ImageFetcher``.
        """
        self._roots = roots
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._fetcher = (
            ImageFetcher(
                timeout=timeout, limit=max_bytes, resolver=resolver, allowed=allowed, ports=ports
            )
            if fetch
            else None
        )

    async def load(self, messages: Sequence[Message]) -> list[Message]:
        """The same messages with every image in them. Raises ``APIError``."""
        images = [block for message in messages for block in _images(message.blocks)]
        if len(images) > self._max_count:
            surplus = images[self._max_count]["source"].get("param")
            said = f"The request has {len(images)} images; at most {self._max_count} are taken."
            raise invalid(surplus, said, code="invalid_image")
        # A client that sends its history again sends the same image again.
        wanted: dict[str, str | None] = {}
        for image in images:
            if _to_be_read(image):
                wanted.setdefault(image["source"]["url"], image["source"].get("param"))
        if not wanted:
            return list(messages)
        read = dict(zip(wanted, await self._read_all(wanted), strict=True))
        encoded = [read[image["source"]["url"]]["data"] for image in images if _to_be_read(image)]
        total = sum(len(data) for data in encoded) * 3 // 4
        if total > _MAX_TOTAL:
            said = (
                f"The images of the request come to {total / 2**20:.0f} MB; "
                f"at most {_MAX_TOTAL >> 20} MB are taken."
            )
            raise invalid(next(iter(wanted.values())), said, code="invalid_image")
        return [
            replace(message, content=_with_images(message.blocks, read))
            if any(_to_be_read(image) for image in _images(message.blocks))
            else message
            for message in messages
        ]

    async def _read_all(self, wanted: dict[str, str | None]) -> list[Block]:
        """Read them at once; the first that is refused ends the others."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._read(url, param)) for url, param in wanted.items()]
        except* APIError as refused:
            error = refused.exceptions[0]
        else:
            return [task.result() for task in tasks]
        raise error

    async def _read(self, url: str, param: str | None) -> Block:
        """The source that takes the place of a URL."""
        try:
            scheme = _SCHEME.match(url)
            match scheme[1].lower() if scheme else "file":
                case "data":
                    data = await asyncio.to_thread(from_data_url, url, self._max_bytes)
                case "http" | "https":
                    data = await self._fetch(url)
                case "file":
                    data = await asyncio.to_thread(from_file, url, self._roots(), self._max_bytes)
                case _:
                    raise Refused("An image must be a data:, http(s): or file: URL, or a path.")
            media_type = recognize(data)
            if media_type is None:
                raise Refused("What is there is not a PNG, JPEG, GIF or WebP image.")
        except Refused as why:
            raise invalid(param, str(why), code="invalid_image") from None
        encoded = await asyncio.to_thread(base64.b64encode, data)
        return {"type": "base64", "media_type": media_type, "data": encoded.decode("ascii")}

    async def _fetch(self, url: str) -> bytes:
        if self._fetcher is None:
            raise Refused("This server fetches no images from the web: send a data: URL.")
        return await self._fetcher.get(url)


def recognize(data: bytes) -> str | None:
    """The media type of an image by its first bytes, if the model takes it."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def _to_be_read(image: Block) -> bool:
    return bool(image["source"]["type"] == "url")


def _images(blocks: Sequence[Block]) -> Iterator[Block]:
    """The image blocks, those in the results of tools too."""
    for block in blocks:
        if block["type"] == "image":
            yield block
        elif block["type"] == "tool_result" and isinstance(block.get("content"), list):
            yield from _images(block["content"])


def _with_images(blocks: Sequence[Block], read: dict[str, Block]) -> list[Block]:
    changed: list[Block] = []
    for block in blocks:
        if block["type"] == "image" and _to_be_read(block):
            block = {**block, "source": read[block["source"]["url"]]}
        elif block["type"] == "tool_result" and isinstance(block.get("content"), list):
            block = {**block, "content": _with_images(block["content"], read)}
        changed.append(block)
    return changed
