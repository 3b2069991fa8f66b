"""What `-i` takes, and what it says of what it does not take."""

import base64
import io
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import Image
from matplotlib import pyplot

from jupyter_ccapi.notebook.picture_limits import MOST_BASE64
from jupyter_ccapi.notebook.pictures import image_block


@pytest.fixture(scope="module")
def running_shell() -> Iterator[InteractiveShell]:
    """A shell in this process."""
    running = InteractiveShell.instance()
    yield running
    running.restore_sys_module_state()  # type: ignore[no-untyped-call]
    InteractiveShell.clear_instance()


@pytest.fixture
def shell(
    running_shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InteractiveShell]:
    """The shell, in an empty folder; variables of the test before are gone."""
    monkeypatch.chdir(tmp_path)
    names = dict(running_shell.user_ns)
    yield running_shell
    running_shell.user_ns.clear()
    running_shell.user_ns.update(names)


@pytest.fixture(autouse=True)
def no_figures() -> Iterator[None]:
    """pyplot keeps what it has made."""
    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")


def encoded(image: PIL.Image.Image, kind: str = "PNG") -> bytes:
    """The file of an image."""
    target = io.BytesIO()
    image.save(target, format=kind)
    return target.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (4, 3)) -> PIL.Image.Image:
    """A picture of one colour."""
    return PIL.Image.new(mode, size)


def opened(block: dict[str, Any]) -> PIL.Image.Image:
    """The picture in a block, which is of the media type that the block names."""
    assert block["type"] == "image"
    source = block["source"]
    assert source["type"] == "base64"
    image = PIL.Image.open(io.BytesIO(base64.b64decode(source["data"], validate=True)))
    assert source["media_type"] == f"image/{str(image.format).lower()}"
    return image


def said(expression: str, shell: InteractiveShell) -> str:
    """What is wrong with a picture; each such error names the option and what it was given."""
    with pytest.raises(UsageError) as error:
        image_block(expression, shell)
    text = str(error.value)
    assert text.startswith(f"-i {expression}: ")
    assert text.endswith(".")
    return text.removeprefix(f"-i {expression}: ")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_a_file_that_the_model_takes_is_sent_as_it_is(shell: InteractiveShell, kind: str) -> None:
    """Byte for byte, whatever it is called."""
    data = encoded(picture(), kind)
    Path("some file").write_bytes(data)
    block = image_block("some file", shell)
    assert base64.b64decode(block["source"]["data"]) == data
    assert opened(block).format == kind


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM"])
def test_other_formats_become_png(shell: InteractiveShell, kind: str) -> None:
    """By Pillow."""
    Path("scan").write_bytes(encoded(picture(), kind))
    assert opened(image_block("scan", shell)).format == "PNG"


def test_paths_are_expanded_and_may_be_a_variables_value(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From the home folder; as text and as Path."""
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("a.png").write_bytes(encoded(picture()))
    shell.user_ns.update(name="a.png", path=tmp_path / "a.png")
    for expression in ("~/a.png", "name", "path", str(tmp_path / "a.png"), "'a' + '.png'"):
        assert opened(image_block(expression, shell)).size == (4, 3)


def test_a_variable_comes_before_a_file(shell: InteractiveShell) -> None:
    """Of the same name."""
    Path("fig").write_bytes(encoded(picture(size=(1, 1))))
    shell.user_ns["fig"] = picture(size=(2, 2))
    assert opened(image_block("fig", shell)).size == (2, 2)


def test_a_url_is_passed_on(shell: InteractiveShell) -> None:
    """https alone; one with the picture in it is read."""
    url = "https://example.org/a.png"
    assert image_block(url, shell) == {"type": "image", "source": {"type": "url", "url": url}}
    shell.user_ns["url"] = url
    assert image_block("url", shell)["source"]["url"] == url
    assert said("http://example.org/a.png", shell) == "Pictures are got by https only."
    data = base64.b64encode(encoded(picture())).decode()
    assert opened(image_block(f"data:image/png;base64,{data}", shell)).size == (4, 3)
    assert said("data:image/png;base64,%%%", shell) == "Its base64 cannot be decoded."


def figures() -> Iterator[tuple[str, object]]:
    """What people have at hand of a matplotlib figure."""
    figure, axes = pyplot.subplots()
    yield "figure", figure
    yield "axes", axes
    yield "what plot returns", axes.plot([1, 2])
    yield "what hist returns", axes.hist([1, 2, 2])
    yield "what bar returns", axes.bar([1], [2])
    yield "many axes", pyplot.subplots(2, 2)[1]
    yield "figure and axes", (figure, axes)
    yield "a subfigure", pyplot.figure().subfigures(1, 1)


def test_a_figure_is_drawn_by_whatever_part_of_it_is_named(shell: InteractiveShell) -> None:
    """Also when pyplot has closed it, as a notebook does after each cell."""
    found = dict(figures())
    pyplot.close("all")
    for name, value in found.items():
        shell.user_ns["part"] = value
        assert opened(image_block("part", shell)).width > 300, name


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "F", "I"])
def test_a_pil_image_of_any_mode_becomes_png(shell: InteractiveShell, mode: str) -> None:
    """Those that PNG does not know are converted."""
    shell.user_ns["image"] = picture(mode)
    assert opened(image_block("image.copy()", shell)).size == (4, 3)


@pytest.mark.parametrize(
    ("array", "pixel"),
    [
        (np.full((3, 4), 7, "uint8"), 7),
        (np.full((3, 4, 1), 7, "int64"), 7),
        (np.full((3, 4), 0.5), 128),
        (np.full((3, 4), True), 255),
        (np.full((3, 4, 3), 7, "uint8"), (7, 7, 7)),
        (np.full((3, 4, 4), 1.0, "float32"), (255, 255, 255, 255)),
    ],
)
def test_an_array_becomes_a_picture(shell: InteractiveShell, array: Any, pixel: object) -> None:
    """Grey or in colours; integers to 255, floats to 1."""
    shell.user_ns["array"] = array
    image = opened(image_block("array", shell))
    assert image.size == (4, 3)
    assert image.getpixel((0, 0)) == pixel


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.zeros(5), "of shape (5,) is no picture"),
        (np.zeros((2, 2, 2)), "of shape (2, 2, 2) is no picture"),
        (np.zeros((0, 4)), "of shape (0, 4) is no picture"),
        (np.full((2, 2), 3.5), "from 3.5 to 3.5 is no picture"),
        (np.full((2, 2), np.nan), "from nan to nan is no picture"),
        (np.full((2, 2), 256), "from 256 to 256 is no picture"),
        (np.full((2, 2), "a"), "is no picture"),
    ],
)
def test_an_array_that_is_no_picture_is_told_why(
    shell: InteractiveShell, array: Any, why: str
) -> None:
    """Its shape or its range."""
    shell.user_ns["array"] = array
    assert why in said("array", shell)


def test_objects_that_show_themselves_as_pictures_are_taken(shell: InteractiveShell) -> None:
    """By IPython's protocols; bytes are a file's."""

    class Chart:
        def _repr_png_(self) -> bytes:
            return encoded(picture())

    data = encoded(picture())
    shell.user_ns.update(chart=Chart(), data=data, view=memoryview(data))
    shell.user_ns["image"] = Image(data)  # type: ignore[no-untyped-call]
    shell.user_ns.update(_=Chart(), Out={3: Chart()})
    for expression in ("chart", "image", "data", "view", "_", "Out[3]", "[chart][0]"):
        assert opened(image_block(expression, shell)).size == (4, 3)


def test_a_cells_picture_is_found_by_its_number(shell: InteractiveShell) -> None:
    """Where IPython keeps what was displayed and the cell had no value."""
    shell.run_cell(  # type: ignore[no-untyped-call]
        "import io\nfrom PIL import Image as I\nfrom IPython.display import Image, display\n"
        "b = io.BytesIO(); I.new('L', (5, 5)).save(b, 'PNG'); display(Image(b.getvalue()))",
        store_history=True,
    )
    number = shell.execution_count - 1
    assert opened(image_block(f"Out[{number}]", shell)).size == (5, 5)
    assert said("Out[999]", shell) == "Of that cell neither a value nor a picture is kept."


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("missing.png", "There is no such file in "),
        ("plots/missing.png", "There is no such file in "),
        ("missing", "There is no such file, and as an expression it raised NameError: "),
        ("1 / 0", "There is no such file in "),
        ("1 +", "There is no such file, and as an expression it raised SyntaxError: "),
        ("folder/inner", "It is a folder."),
        ("'some text'", "It is the text 'some text', which names no file."),
        ("42", "It is no picture but 42. It can be a picture's path or https URL, or"),
        ("None", "It is no picture but None. "),
        ("[1, 2]", "It is no picture but [1, 2]. "),
        ("b'no picture'", "There is no picture in it that Pillow can read: it raised Unidentified"),
        ("drawing.svg", "SVG and PDF are no pictures for the model: save it as a PNG."),
        ("broken.png", "The picture cannot be read to its end: "),
        ("broken", "It is a Broken; drawing it, it raised ValueError: boom."),
        ("x" * 5000, "There is no such file"),
        ("\0", "There is no such file"),
        ("", "It can be a picture's path"),
    ],
)
def test_what_is_no_picture_is_a_usage_error(
    shell: InteractiveShell, expression: str, why: str
) -> None:
    """One sentence that says what was found there."""
    Path("folder/inner").mkdir(parents=True)
    Path("drawing.svg").write_text("<svg/>")
    bitmap = PIL.Image.effect_noise((90, 90), 90)
    Path("broken.png").write_bytes(encoded(bitmap, "BMP")[:900])

    class Broken:
        @property
        def dtype(self) -> None:
            raise ValueError("boom")

    Broken.__module__ = "numpy"
    shell.user_ns["broken"] = Broken()
    assert said(expression, shell).startswith(why)


def test_a_picture_with_too_many_pixels_is_made_smaller(shell: InteractiveShell) -> None:
    """To 8000 on its longer side."""
    shell.user_ns["image"] = picture("L", (16_000, 40))
    assert opened(image_block("image", shell)).size == (8000, 20)


def test_a_picture_of_too_many_bytes_is_made_smaller(shell: InteractiveShell) -> None:
    """Noise cannot be packed: it becomes a JPEG, and of fewer pixels."""
    noise = np.random.default_rng(0).integers(0, 255, (2900, 2900, 3), "uint8")
    shell.user_ns["noise"] = noise
    block = image_block("noise", shell)
    assert opened(block).format == "JPEG"
    assert len(block["source"]["data"]) <= MOST_BASE64
    assert 1000 < opened(block).width < 2900


@pytest.fixture
def without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Pillow is not installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "PIL"]:
        monkeypatch.setitem(sys.modules, name, None)


def plain_png(width: int, height: int) -> bytes:
    """A grey PNG, made by hand."""
    rows = zlib.compress((b"\0" + bytes(width)) * height)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def test_without_pillow_what_fits_is_sent(shell: InteractiveShell, without_pillow: None) -> None:
    """And what does not says what to install."""
    Path("ok.png").write_bytes(plain_png(4, 3))
    Path("wide.png").write_bytes(plain_png(9000, 1))
    Path("photo.jpg").write_bytes(b"\xff\xd8\xff and so on")
    Path("scan.bmp").write_bytes(b"BM and so on")
    shell.user_ns["array"] = np.zeros((2, 2))
    assert image_block("ok.png", shell)["source"]["media_type"] == "image/png"
    assert image_block("photo.jpg", shell)["source"]["media_type"] == "image/jpeg"
    need = " needs Pillow: %pip install pillow."
    assert said("wide.png", shell) == f"A picture that must be converted or made smaller{need}"
    assert said("scan.bmp", shell) == f"A picture that must be converted or made smaller{need}"
    assert said("array", shell) == f"A numpy array{need}"


def test_a_plotly_figure_needs_kaleido(shell: InteractiveShell) -> None:
    """Where it is missing, its own error is told with what to install."""

    class Figure:
        def to_image(self, format: str) -> bytes:
            if self.broken:
                raise ValueError("kaleido is not there")
            return encoded(picture())

        broken = True

    Figure.__module__ = "plotly.graph_objs._figure"
    shell.user_ns["fig"] = Figure()
    text = said("fig", shell)
    assert "%pip install kaleido" in text
    assert "kaleido is not there" in text
    Figure.broken = False
    assert opened(image_block("fig", shell)).size == (4, 3)
