"""What ``-i`` names, as an image block of the Messages API.

matplotlib, numpy, Pillow, plotly: what is an object of theirs, its class says, and none of them is
imported before there is such an object.
"""

import base64
import binascii
import io
import re
from pathlib import Path, PurePath
from typing import Any

from IPython.core.error import UsageError
from IPython.core.formatters import DisplayFormatter
from IPython.core.interactiveshell import InteractiveShell

from .describing import one_line, package
from .describing_plain import is_a
from .interrupting import keyboard_interrupts
from .picture_limits import NoPicture, fitted, pillow, png
from .sheet import raised

Block = dict[str, Any]

_MOST_BYTES = 200 * 2**20
_SUFFIXES = {
    ".png",
    ".jpg",
    ".jpeg",
    ".gif",
    ".webp",
    ".bmp",
    ".tif",
    ".tiff",
    ".svg",
    ".pdf",
    ".ico",
}
_OUT = re.compile(r"Out\[(\d+)\]|_(\d+)")
_TAKEN = (
    "It can be a picture's path or https URL, or an expression for a matplotlib figure, a PIL "
    "image, a numpy array, a plotly figure, bytes, or an object that shows itself as a PNG."
)


def image_block(expression: str, shell: InteractiveShell) -> Block:
    """The image block for a path, a URL or a Python expression.

    A variable's name comes before a file's. Raises ``UsageError``.
    """
    expression = expression.strip()
    try:
        if not expression:
            raise NoPicture(_TAKEN)
        return _block(expression, shell)
    except NoPicture as why:
        raise UsageError(f"-i {expression}: {why}") from None


def picture_block(value: Any, shell: InteractiveShell | None) -> Block:
    """The image block for a picture itself: a path or URL, a figure, an array, bytes; what is a
    block already stays. Raises ``NoPicture``.
    """
    if isinstance(value, dict) and value.get("type") == "image":
        return value
    if not is_a(value, str, PurePath):
        return _of_bytes(_rendered(value, shell))
    found = _located(str(value))
    if found is None:
        raise NoPicture(f"The text {str(value)[:80]!r} names no file.")
    return found


def _block(expression: str, shell: InteractiveShell) -> Block:
    if expression not in shell.user_ns and (found := _located(expression)) is not None:
        return found
    with keyboard_interrupts():
        try:
            value = eval(expression, shell.user_global_ns, shell.user_ns)
        except Exception as error:
            value = _output(expression, shell)
            if value is None:
                raise NoPicture(_not_found(expression, error)) from None
        if not is_a(value, str, PurePath):
            return _of_bytes(_rendered(value, shell))
        found = _located(str(value))
        if found is None:
            raise NoPicture(f"It is the text {str(value)[:80]!r}, which names no file.")
        return found


def _not_found(expression: str, error: Exception) -> str:
    """Say what is wrong with what is neither a file nor an expression with a value."""
    if _OUT.fullmatch(expression):
        return "Of that cell neither a value nor a picture is kept."
    try:
        if Path(expression).is_dir():
            return "It is a folder."
    except (OSError, ValueError):
        pass
    if "/" in expression or "\\" in expression or Path(expression).suffix.lower() in _SUFFIXES:
        return f"There is no such file in {Path.cwd()}."
    return f"There is no such file, and as an expression {raised(error)}."


def _located(text: str) -> Block | None:
    """The block for a URL or the path of a file; None for other text."""
    if text.startswith("https://"):
        return {"type": "image", "source": {"type": "url", "url": text}}
    if text.startswith("http://"):
        raise NoPicture("Pictures are got by https only.")
    if text.startswith("data:"):
        return _of_bytes(_decoded(text.partition(",")[2]))
    try:
        path = Path(text).expanduser()
        if not path.is_file():
            return None
        if path.stat().st_size > _MOST_BYTES:
            raise NoPicture(f"The file is over {_MOST_BYTES >> 20} MB.")
        return _of_bytes(path.read_bytes())
    except PermissionError:
        raise NoPicture("The file may not be read.") from None
    except (OSError, ValueError, RuntimeError):
        return None  # too long for a path, a NUL in it, an unknown user's home


def _output(expression: str, shell: InteractiveShell) -> bytes | None:
    """For ``Out[n]`` without a value: the picture that the cell has shown, where it is kept."""
    number = _OUT.fullmatch(expression)
    kept = getattr(shell.history_manager, "outputs", {})
    for output in reversed(kept.get(int(number[1] or number[2]), []) if number else []):
        for mime in ("image/png", "image/jpeg"):
            if found := output.bundle.get(mime):
                return _decoded(found) if isinstance(found, str) else bytes(found)
    return None


def _rendered(value: Any, shell: InteractiveShell | None) -> bytes:
    """The bytes of an object's picture."""
    if is_a(value, bytes, bytearray, memoryview):
        return bytes(value)
    try:
        found = _drawn(value, shell)
    except NoPicture:
        raise
    except Exception as error:
        raise NoPicture(f"It is a {type(value).__name__}; drawing it, {raised(error)}.") from None
    if not found:
        raise NoPicture(f"It is no picture but {one_line(value)}. {_TAKEN}")
    return found


def _drawn(value: Any, shell: InteractiveShell | None) -> bytes | None:
    if (figure := _figure(value)) is not None:
        target = io.BytesIO()
        figure.savefig(target, format="png", bbox_inches="tight")
        return target.getvalue()
    if package(value) == "PIL" and hasattr(value, "getbands"):
        return png(value)
    if package(value) == "plotly" and hasattr(value, "to_image"):
        return _plotly(value)
    if package(value) == "numpy" and hasattr(value, "__array_interface__"):
        return _array(value)
    kinds = {"image/png", "image/jpeg"}
    formatter = DisplayFormatter() if shell is None else shell.display_formatter
    shown, _ = formatter.format(value, include=kinds)  # type: ignore[union-attr]
    found = shown.get("image/png") or shown.get("image/jpeg")
    return _decoded(found) if isinstance(found, str) else found


def _figure(value: Any, depth: int = 2) -> Any:
    """The matplotlib figure that a value is, belongs to, or has parts of in it (what ``plt.plot``
    and ``plt.subplots`` return); else None.
    """
    kinds = {f"{kind.__module__}.{kind.__name__}" for kind in type(value).__mro__}
    if "matplotlib.figure.Figure" in kinds:
        return value
    if "matplotlib.artist.Artist" in kinds:
        figure = value.get_figure()
        return getattr(figure, "figure", figure)  # a subfigure's is the whole
    if package(value) == "seaborn" and hasattr(value, "savefig"):
        return value.figure
    several = is_a(value, list, tuple)
    if depth and (several or (package(value) == "numpy" and value.dtype == object)):
        items = list(value)[:20] if several else list(value.flat)[:20]
        found = (_figure(item, depth - 1) for item in items)
        return next((figure for figure in found if figure is not None), None)
    return None


def _plotly(figure: Any) -> bytes:
    try:
        return bytes(figure.to_image(format="png"))
    except Exception as error:
        raise NoPicture(
            "A plotly figure becomes a picture by kaleido, which draws with Chrome: "
            f"%pip install kaleido, and plotly_get_chrome in a terminal ({raised(error)})."
        ) from None


def _array(array: Any) -> bytes:
    """A PNG of an array: height × width, or height × width × 3 or 4."""
    shape = tuple(array.shape)
    if len(shape) == 3 and shape[2] == 1:
        array, shape = array[:, :, 0], shape[:2]
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (3, 4)) or not array.size:
        raise NoPicture(
            f"An array of shape {shape} is no picture: it is height x width, or height x width x "
            "3 or 4 for colours."
        )
    kind = array.dtype.kind
    if kind not in "biuf":
        raise NoPicture(f"An array of {array.dtype} is no picture.")
    low, high = array.min(), array.max()
    most = 1 if kind in "bf" else 255
    if not (low >= 0 and high <= most):  # as NaN is not
        raise NoPicture(
            f"An array of {array.dtype} from {low} to {high} is no picture: integers go from 0 to "
            "255, floats from 0 to 1."
        )
    scaled = (array * (255 // most)).round() if kind == "f" else array * (255 // most)
    return png(pillow("A numpy array").fromarray(scaled.astype("uint8")))


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise NoPicture("Its base64 cannot be decoded.") from None


def _of_bytes(data: bytes) -> Block:
    media_type, encoded = fitted(data)
    source = {"type": "base64", "media_type": media_type, "data": encoded}
    return {"type": "image", "source": source}
