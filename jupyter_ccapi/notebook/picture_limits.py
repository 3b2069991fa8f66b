"""Make a picture one that the Messages API takes.

That is a PNG, JPEG, GIF or WebP, at most 8000 pixels a side and 5 MB, counted in base64
(https://docs.claude.com/en/docs/build-with-claude/vision). Pillow converts and shrinks, where it
is installed.
"""

import base64
import io
import struct
import warnings
from typing import Any

from .sheet import raised

#: Pixels a side, and characters of base64, that the API takes at most.
MOST_PIXELS = 8000
MOST_BASE64 = 5 * 2**20


class NoPicture(Exception):
    """Something is no picture for the model; the message is a sentence that says why."""


def fitted(data: bytes) -> tuple[str, str]:
    """A picture's media type and base64, within the limits. Raises ``NoPicture``."""
    media_type = recognize(data)
    if media_type is None and (data.lstrip()[:1] == b"<" or data.startswith(b"%PDF")):
        raise NoPicture("SVG and PDF are no pictures for the model: save it as a PNG.")
    if media_type is not None and max(_size(data)) <= MOST_PIXELS:
        encoded = base64.b64encode(data).decode("ascii")
        if len(encoded) <= MOST_BASE64:
            return media_type, encoded
    return _converted(data, keep_png=media_type != "image/jpeg")


def recognize(data: bytes) -> str | None:
    """The media type of a picture by its first bytes, if the API takes it."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if data.startswith(b"RIFF") and data[8:12] == b"WEBP" else None


def pillow(what: str) -> Any:
    """Pillow's module ``Image``. Raises ``NoPicture`` for ``what`` needs it where it is missing."""
    try:
        import PIL.Image
    except ImportError:
        raise NoPicture(f"{what} needs Pillow: %pip install pillow.") from None
    return PIL.Image


def png(image: Any) -> bytes:
    """The PNG of a PIL image of any mode."""
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        image = image.convert("RGBA" if "A" in image.getbands() else "RGB")
    return _encoded(image, "PNG")


def _size(data: bytes) -> tuple[int, int]:
    """Width and height; zeros where only Pillow could tell and it is missing."""
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
    elif data.startswith(b"GIF8") and len(data) >= 10:
        width, height = struct.unpack("<HH", data[6:10])
    else:
        try:
            import PIL  # noqa: F401
        except ImportError:
            return 0, 0
        width, height = _opened(data).size
    return int(width), int(height)


def _opened(data: bytes) -> Any:
    image = pillow("A picture that must be converted or made smaller")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its size: it is about to be made smaller
        try:
            return image.open(io.BytesIO(data))
        except Exception as error:
            raise NoPicture(
                f"There is no picture in it that Pillow can read: {raised(error)}."
            ) from None


def _converted(data: bytes, *, keep_png: bool) -> tuple[str, str]:
    """A picture as PNG, else as JPEG, made smaller until it fits."""
    image = _opened(data)
    try:
        image.load()
    except Exception as error:
        raise NoPicture(f"The picture cannot be read to its end: {raised(error)}.") from None
    image.thumbnail((MOST_PIXELS, MOST_PIXELS))
    if keep_png:
        encoded = base64.b64encode(png(image)).decode("ascii")
        if len(encoded) <= MOST_BASE64:
            return "image/png", encoded
    image = _without_alpha(image)
    while True:
        encoded = base64.b64encode(_encoded(image, "JPEG")).decode("ascii")
        if len(encoded) <= MOST_BASE64:
            return "image/jpeg", encoded
        image.thumbnail((image.width * 3 // 4, image.height * 3 // 4))


def _without_alpha(image: Any) -> Any:
    """On white, as JPEG knows no transparency."""
    image = image.convert("RGBA")
    white = pillow("").new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _encoded(image: Any, kind: str) -> bytes:
    target = io.BytesIO()
    image.save(target, format=kind)
    return target.getvalue()
