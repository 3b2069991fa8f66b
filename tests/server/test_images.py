"""Images that a request points to: read where that is allowed, else refused with the reason."""

import asyncio
import base64
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from tornado.netutil import Resolver

from jupyter_ccapi.claude.history import Message
from jupyter_ccapi.openai.errors import APIError
from jupyter_ccapi.server.image_fetch import is_public
from jupyter_ccapi.server.images import ImageLoader

PNG = b"\x89PNG\r\n\x1a\n" + b"the rest of a picture"
JPEG = b"\xff\xd8\xff\xe0 a photograph"
GIF = b"GIF89a in motion"
WEBP = b"RIFF\x10\x00\x00\x00WEBPVP8 "
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
SECRET = b"a secret of the inside"


def message(*urls: str) -> Message:
    """A user's message with images, as the parser of requests leaves it."""
    blocks: list[dict[str, Any]] = [{"type": "text", "text": "look"}]
    blocks += [
        {"type": "image", "source": {"type": "url", "url": url, "param": f"messages[0].{index}"}}
        for index, url in enumerate(urls)
    ]
    return Message("user", blocks)


def source(data: bytes, media_type: str) -> dict[str, str]:
    """What the model is sent."""
    return {
        "type": "base64",
        "media_type": media_type,
        "data": base64.b64encode(data).decode(),
    }


def data_url(data: bytes, declared: str = "image/png") -> str:
    """A base64 data URL."""
    return f"data:{declared};base64,{base64.b64encode(data).decode()}"


async def load_one(loader: ImageLoader, url: str) -> Any:
    """The source that takes the place of one URL."""
    [loaded] = await loader.load([message(url)])
    return loaded.blocks[1]["source"]


async def refusal(loader: ImageLoader, *urls: str) -> str:
    """Why images are refused."""
    with pytest.raises(APIError) as caught:
        await loader.load([message(*urls)])
    assert (caught.value.status, caught.value.code) == (400, "invalid_image")
    assert caught.value.param is not None
    assert caught.value.param.startswith("messages[0].")
    return caught.value.message


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that images may be read from; beside it lies one that they may not be."""
    (tmp_path / "root" / "folder").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.png").write_bytes(PNG + SECRET)
    return tmp_path / "root"


@pytest.fixture
def local(root: Path) -> ImageLoader:
    """A loader that reads from that folder, and fetches nothing."""
    return ImageLoader(lambda: [root], fetch=False)


# Messages


async def test_messages_without_images_stay_the_same_objects(local: ImageLoader) -> None:
    messages = [Message("user", "hi"), Message("assistant", "ho"), message()]
    loaded = await local.load(messages)
    assert all(one is other for one, other in zip(loaded, messages, strict=True))


async def test_text_and_order_of_a_message_stay(local: ImageLoader) -> None:
    given = message(data_url(PNG), data_url(GIF))
    [loaded] = await local.load([given])
    assert loaded.role == "user"
    assert loaded.content == [
        {"type": "text", "text": "look"},
        {"type": "image", "source": source(PNG, "image/png")},
        {"type": "image", "source": source(GIF, "image/gif")},
    ]
    assert given == message(data_url(PNG), data_url(GIF))


async def test_an_image_in_the_result_of_a_tool_is_read_too(local: ImageLoader) -> None:
    result = {"type": "tool_result", "tool_use_id": "t1", "content": message(data_url(PNG)).blocks}
    [loaded] = await local.load([Message("user", [result])])
    assert loaded.blocks[0]["tool_use_id"] == "t1"
    assert loaded.blocks[0]["content"][1]["source"] == source(PNG, "image/png")


async def test_base64_sources_are_passed_on_as_they_are(local: ImageLoader) -> None:
    given = Message("user", [{"type": "image", "source": source(PNG, "image/png")}])
    [loaded] = await local.load([given])
    assert loaded is given


async def test_too_many_images_are_refused_whatever_their_source(root: Path) -> None:
    loader = ImageLoader(lambda: [root], max_count=2)
    sent = Message("user", [{"type": "image", "source": source(PNG, "image/png")}])
    with pytest.raises(APIError, match=r"3 images; at most 2") as caught:
        await loader.load([sent, message(data_url(PNG), data_url(GIF))])
    assert (caught.value.status, caught.value.param) == (400, "messages[0].1")


async def test_images_that_are_too_large_together_are_refused(local: ImageLoader) -> None:
    url = data_url(PNG + bytes(5 * 2**20 - len(PNG)))
    said = await refusal(local, url, url, url, url, url)
    assert "come to 25 MB; at most 24 MB" in said


async def test_the_refusal_names_the_image(local: ImageLoader) -> None:
    with pytest.raises(APIError) as caught:
        await local.load([message(data_url(PNG), data_url(SVG))])
    assert caught.value.param == "messages[0].1"


# data: URLs


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PNG, "image/png"),
        (JPEG, "image/jpeg"),
        (GIF, "image/gif"),
        (WEBP, "image/webp"),
    ],
)
@pytest.mark.parametrize("declared", ["image/png", "image/jpeg", "text/html", ""])
async def test_a_data_url_gets_the_type_that_its_bytes_have(
    data: bytes, media_type: str, declared: str, local: ImageLoader
) -> None:
    assert await load_one(local, data_url(data, declared)) == source(data, media_type)


async def test_base64_with_line_breaks_and_without_padding_is_understood(
    local: ImageLoader,
) -> None:
    encoded = base64.encodebytes(PNG * 9).decode().rstrip("=\n")
    assert await load_one(local, f"DATA:;BASE64,{encoded}") == source(PNG * 9, "image/png")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("data:image/png,%89PNG%0D%0A", "must be base64"),
        ("data:image/png;base64", "must be base64"),
        ("data:image/png;base64,iVBOR*", "cannot be decoded"),
        ("data:image/png;base64,aaaaa", "cannot be decoded"),
        ("data:image/png;base64,äöü", "cannot be decoded"),
        ("data:image/png;base64,", "not a PNG, JPEG, GIF or WebP"),
        (data_url(SVG, "image/svg+xml"), "not a PNG, JPEG, GIF or WebP"),
        (data_url(SVG, "image/png"), "not a PNG, JPEG, GIF or WebP"),
        (data_url(b"BM a bitmap", "image/bmp"), "not a PNG, JPEG, GIF or WebP"),
    ],
)
async def test_a_data_url_is_refused(url: str, why: str, local: ImageLoader) -> None:
    assert why in await refusal(local, url)


async def test_an_image_may_be_as_large_as_the_limit_and_no_larger(root: Path) -> None:
    loader = ImageLoader(lambda: [root], max_bytes=2**20)
    largest = PNG + bytes(2**20 - len(PNG))
    (root / "largest.png").write_bytes(largest)
    (root / "larger.png").write_bytes(largest + b"\0")
    for url in (data_url(largest), "largest.png"):
        assert await load_one(loader, url) == source(largest, "image/png")
    for url in (data_url(largest + b"\0"), data_url(largest * 3), "larger.png"):
        assert await refusal(loader, url) == "The image is over 1 MB."


@pytest.mark.parametrize(
    "url", ["ftp://images.example/a.png", "blob:x", "javascript:alert(1)", "about:blank"]
)
async def test_other_kinds_of_urls_are_refused(url: str, local: ImageLoader) -> None:
    assert "must be a data:, http(s): or file: URL" in await refusal(local, url)


# Local files


async def test_a_file_inside_the_folders_is_read_by_path_and_by_url(
    root: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (root / "folder" / "a b.png").write_bytes(PNG)
    (more / "c.gif").write_bytes(GIF)
    loader = ImageLoader(lambda: [root, more])
    path = root / "folder" / "a b.png"
    for url in ("folder/a b.png", "./folder/../folder/a b.png", str(path), path.as_uri()):
        assert await load_one(loader, url) == source(PNG, "image/png")
    assert await load_one(loader, f"file://localhost{more}/c.gif") == source(GIF, "image/gif")


async def test_the_folders_are_asked_for_each_time(root: Path) -> None:
    (root / "a.png").write_bytes(PNG)
    roots: list[Path] = []
    loader = ImageLoader(lambda: roots)
    assert "reads no images from its own files" in await refusal(loader, "a.png")
    roots.append(root)
    assert await load_one(loader, "a.png") == source(PNG, "image/png")


async def test_a_symlink_that_stays_inside_is_followed(root: Path, local: ImageLoader) -> None:
    (root / "a.png").write_bytes(PNG)
    (root / "folder" / "link.png").symlink_to(root / "a.png")
    assert await load_one(local, "folder/link.png") == source(PNG, "image/png")


OUTSIDE = "The image lies outside the folders that the server reads images from."


@pytest.mark.parametrize(
    "url",
    [
        "../outside/secret.png",
        "folder/../../outside/secret.png",
        "{outside}/secret.png",
        "file://{outside}/secret.png",
        "file://{root}/../outside/secret.png",
        "file://{root}/%2e%2e/outside/secret.png",
        "link.png",
        "linked/secret.png",
        "linked/../secret.png",
        # What there is not outside is told no better than what there is.
        "../outside/nothing.png",
        "linked/nothing.png",
        "/",
    ],
)
async def test_what_lies_outside_is_refused(url: str, root: Path, local: ImageLoader) -> None:
    outside = root.parent / "outside"
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "linked").symlink_to(outside)
    assert await refusal(local, url.format(root=root, outside=outside)) == OUTSIDE


async def test_a_folder_with_a_longer_name_is_outside(root: Path, local: ImageLoader) -> None:
    beside = root.with_name(root.name + "-other")
    beside.mkdir()
    (beside / "a.png").write_bytes(PNG)
    assert await refusal(local, str(beside / "a.png")) == OUTSIDE


@pytest.mark.parametrize(
    ("swap", "why"),
    [
        (lambda file: file.symlink_to("../outside/secret.png"), "There is no such image"),
        (os.mkfifo, "does not name a regular file"),
        (os.mkdir, "does not name a regular file"),
    ],
)
async def test_a_file_that_becomes_something_else_meanwhile_is_refused(
    swap: Callable[[Path], None],
    why: str,
    root: Path,
    local: ImageLoader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The swap happens between the last look at the file and its opening."""
    (root / "a.png").write_bytes(PNG)
    real_stat = os.stat

    def stat_and_swap(path: Any, **options: Any) -> os.stat_result:
        status = real_stat(path, **options)
        if path == "a.png":
            (root / "a.png").unlink()
            swap(root / "a.png")
        return status

    monkeypatch.setattr(os, "stat", stat_and_swap)
    assert why in await refusal(local, "a.png")
    assert (root / "a.png").is_symlink() or not (root / "a.png").is_file()


async def test_a_folder_that_becomes_a_symlink_meanwhile_is_not_followed(
    root: Path, local: ImageLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The swap happens as soon as the path has been resolved."""
    (root / "folder" / "secret.png").write_bytes(PNG)
    real_resolve = Path.resolve

    def resolve_and_swap(path: Path, strict: bool = False) -> Path:
        resolved = real_resolve(path, strict)
        if path.name == "secret.png":
            (root / "folder").rename(root / "moved")
            (root / "folder").symlink_to(root.parent / "outside")
        return resolved

    monkeypatch.setattr(Path, "resolve", resolve_and_swap)
    assert "There is no such image" in await refusal(local, "folder/secret.png")
    assert (root / "folder" / "secret.png").exists()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("nothing.png", "There is no such image"),
        ("text.png/more.png", "There is no such image"),
        ("text.png", "not a PNG, JPEG, GIF or WebP"),
        ("drawing.svg", "not a PNG, JPEG, GIF or WebP"),
        ("fifo.png", "does not name a regular file"),
        ("folder", "does not name a regular file"),
        ("", "names a folder"),
        (".", "names a folder"),
        ("loop.png", "not one that can be read"),
        ("a\0b.png", "not one that can be read"),
        ("x" * 5000, "There is no such image"),
        ("file:a.png", "file:///absolute/path"),
        ("file://elsewhere/a.png", "file:///absolute/path"),
        ("file://[/a.png", "file:///absolute/path"),
        ("file:///a.png?b", "percent-encoded"),
        ("file:///a.png#b", "percent-encoded"),
    ],
)
async def test_a_path_is_refused(url: str, why: str, root: Path, local: ImageLoader) -> None:
    (root / "text.png").write_bytes(SECRET)
    (root / "drawing.svg").write_bytes(SVG)
    os.mkfifo(root / "fifo.png")
    (root / "loop.png").symlink_to("loop.png")
    said = await refusal(local, url)
    assert why in said
    assert SECRET.decode() not in said


async def test_a_device_is_refused() -> None:
    loader = ImageLoader(lambda: [Path("/dev")])
    assert "does not name a regular file" in await refusal(loader, "/dev/zero")


async def test_a_file_that_the_server_may_not_read_is_said_to_be_so(
    root: Path, local: ImageLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system says so; a test that runs as root could not make it."""
    (root / "a.png").write_bytes(PNG)
    real_stat = os.stat

    def stat(path: Any, **options: Any) -> os.stat_result:
        if path == "a.png":
            raise PermissionError(13, "Permission denied")
        return real_stat(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert "not allowed to read" in await refusal(local, "a.png")


# The web

Respond = Callable[[str], AsyncIterator[bytes]]
SITE = "http://images.example/"


class Names(Resolver):
    """A name service of the test's: what it says of each name, call by call."""

    def initialize(self, port: int, **names: Sequence[str]) -> None:
        """All names lead to ``port``, whatever port was asked for."""
        self.port = port
        self.names = {"images": ["127.0.0.1"], **names}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[tuple[int, Any]]:
        """Answer with all addresses of a name."""
        self.asked.append(host)
        name = host.removesuffix(".example")
        if name not in self.names and not host.replace(".", "").isdigit():
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, (address, self.port))
            for address in self.names.get(name, [host])
        ]


class Site:
    """An HTTP server on the loopback interface, and the requests that it got."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.requests: list[str] = []
        self.left = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; notice when the client leaves before the end."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests.append(head)
        try:
            async for piece in self.respond(head.split()[1]):
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            self.left.set()
        finally:
            writer.close()

    def loader(self, **options: Any) -> ImageLoader:
        """One to which the loopback address is public, if the test does not say otherwise."""
        options = {
            "resolver": Names(self.port),
            "allowed": lambda address: address == "127.0.0.1",
            **options,
        }
        return ImageLoader(list, **options)


@asynccontextmanager
async def site(
    respond: Respond, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Site]:
    """Serve while the test runs."""
    served = Site(respond)
    server = await asyncio.start_server(served.serve, host, 0, ssl=tls)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.close()


def whole(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """An HTTP answer."""
    fields = {"Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


async def a_picture(path: str) -> AsyncIterator[bytes]:
    """Say that it is something else: it is not believed."""
    yield whole(PNG, **{"Content-Type": "text/plain", "Set-Cookie": "a=b"})


async def test_an_image_is_fetched_with_a_plain_request() -> None:
    async with site(a_picture) as served:
        loaded = await load_one(served.loader(), SITE + "ä b.png?size=1&x=%20#part")
    assert loaded == source(PNG, "image/png")
    [request] = served.requests
    assert request.startswith("GET /%C3%A4%20b.png?size=1&x=%20 HTTP/1.1\r\n")
    assert "\r\nHost: images.example\r\n" in request
    assert "cookie" not in request.lower()
    assert "authorization" not in request.lower()


async def test_the_same_image_is_fetched_once_for_all_its_places() -> None:
    async with site(a_picture) as served:
        url = SITE + "a.png"
        loaded = await served.loader().load([message(url, url), message(url)])
    assert [len(one.blocks) for one in loaded] == [3, 2]
    assert len(served.requests) == 1


async def test_fetching_can_be_switched_off() -> None:
    async with site(a_picture) as served:
        said = await refusal(served.loader(fetch=False), SITE + "a.png")
    assert "fetches no images from the web" in said
    assert served.requests == []


async def test_a_body_without_a_length_is_read_to_its_end() -> None:
    async def chunked(path: str) -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        yield b"%x\r\n%s\r\n0\r\n\r\n" % (len(PNG), PNG)

    async def until_close(path: str) -> AsyncIterator[bytes]:
        yield b"HTTP/1.0 200 OK\r\n\r\n"
        yield PNG

    for respond in (chunked, until_close):
        async with site(respond) as served:
            assert await load_one(served.loader(), SITE) == source(PNG, "image/png")


async def test_redirects_are_followed_three_times_and_no_more() -> None:
    async def respond(path: str) -> AsyncIterator[bytes]:
        left = int(path.strip("/"))
        yield whole(b"", "302 Found", Location=f"/{left - 1}") if left else whole(PNG)

    async with site(respond) as served:
        assert await load_one(served.loader(), SITE + "3") == source(PNG, "image/png")
        assert "redirected more than 3 times" in await refusal(served.loader(), SITE + "4")
    assert len(served.requests) == 8


async def test_the_body_of_a_redirect_is_not_waited_for() -> None:
    async def respond(path: str) -> AsyncIterator[bytes]:
        if path == "/image":
            yield whole(PNG)
        else:
            yield b"HTTP/1.1 302 Found\r\nLocation: image\r\n\r\n"
            async for piece in slowly(b""):
                yield piece

    async with site(respond) as served:
        assert await load_one(served.loader(), SITE) == source(PNG, "image/png")
        await asyncio.wait_for(served.left.wait(), 10)


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://inside.example/", "not on the public internet"),
        ("http://127.0.0.1/", "not on the public internet"),
        ("//127.0.0.1/", "not on the public internet"),
        ("file:///etc/hostname", "redirected to one that is not http(s)"),
        ("data:image/png;base64,iVBORw0KGgo=", "redirected to one that is not http(s)"),
        ("http://ann:pw@images.example/", "a user or a password"),
        ("http://images.example:22/", "a port other than 443 and 80"),
        ("http://[::1/", "not a valid one"),
    ],
)
async def test_where_a_redirect_leads_is_checked_as_well(location: str, why: str) -> None:
    """The first host is at 127.0.0.2, which the test declares public; 127.0.0.1 is not."""

    async def redirect(path: str) -> AsyncIterator[bytes]:
        yield whole(b"", "301 Moved", Location=location)

    async def inside(path: str) -> AsyncIterator[bytes]:
        yield whole(PNG + SECRET)

    async with site(redirect, host="127.0.0.2") as outer, site(inside) as inner:
        names = Names(outer.port, images=["127.0.0.2"], inside=["127.0.0.1"])
        loader = outer.loader(resolver=names, allowed=lambda address: address == "127.0.0.2")
        said = await refusal(loader, SITE)
    assert (len(outer.requests), inner.requests) == (1, [])
    assert why.replace("443 and 80", "80 and 443") in said


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1", "127.0.0.2"],
        ["127.0.0.2", "127.0.0.1"],
        ["127.0.0.1", "::1"],
        ["127.0.0.1", "169.254.169.254"],
    ],
)
async def test_a_name_is_refused_for_any_one_of_its_addresses(addresses: list[str]) -> None:
    async with site(a_picture) as served:
        loader = served.loader(resolver=Names(served.port, mixed=addresses))
        said = await refusal(loader, "http://mixed.example/a.png")
    assert "not on the public internet" in said
    assert not any(address in said for address in addresses)
    assert served.requests == []


async def test_the_address_that_is_connected_to_is_the_one_that_was_checked() -> None:
    """A name that leads elsewhere when it is asked for again is asked for once."""

    class Rebinding(Names):
        async def resolve(self, host: str, port: int, family: Any = None) -> list[tuple[int, Any]]:
            found = await super().resolve(host, port)
            self.names["images"] = ["127.0.0.1"]
            return found

    async with site(a_picture, host="127.0.0.2") as outer:
        names = Rebinding(outer.port, images=["127.0.0.2"])
        loader = outer.loader(resolver=names, allowed=lambda address: address == "127.0.0.2")
        assert await load_one(loader, SITE) == source(PNG, "image/png")
        assert names.asked == ["images.example"]
        assert "not on the public internet" in await refusal(loader, SITE)
    assert len(outer.requests) == 1


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0",
        "localhost",
        "LOCALHOST",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "10.0.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "100.64.0.1",
        "１２７.0.0.1",  # noqa: RUF001 - digits that a resolver takes for ASCII's
    ],
)
async def test_by_default_what_is_not_public_is_refused_however_it_is_written(host: str) -> None:
    """With the system's own resolver; none of these leaves the machine."""
    said = await refusal(ImageLoader(list), f"http://{host}/a.png")
    assert "not on the public internet" in said


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("8.8.8.8", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("100.100.100.200", False),
        ("100.127.255.255", False),
        ("100.128.0.1", True),
        ("127.8.8.8", False),
        ("168.63.129.16", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("172.31.255.255", False),
        ("172.32.0.1", True),
        ("192.0.0.192", False),
        ("192.0.2.1", False),
        ("192.88.99.1", False),
        ("192.168.1.1", False),
        ("198.18.0.1", False),
        ("198.51.100.1", False),
        ("203.0.113.1", False),
        ("224.0.0.1", False),
        ("233.252.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::8.8.8.8", False),
        ("::ffff:8.8.8.8", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::8.8.8.8", False),
        ("64:ff9b:1::1", False),
        ("100::1", False),
        ("2001::1", False),
        ("2001:10::1", False),
        ("2001:db8::1", False),
        ("2002:7f00:1::", False),
        ("3fff::1", False),
        ("5f00::1", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("ff0e::1", False),
        ("not an address", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://ann:pw@images.example/a.png", "a user or a password"),
        ("http://ann@images.example/a.png", "a user or a password"),
        ("http://images.example:8080/a.png", "a port other than 80 and 443"),
        ("https://images.example:22/a.png", "a port other than 80 and 443"),
        ("http://images.example:port/a.png", "not a valid one"),
        ("http://images.example:99999/a.png", "not a valid one"),
        ("http://images.example\r\nX: y/a.png", "not a valid one"),
        ("http://images.example\\@127.0.0.1/a.png", "not a valid one"),
        ("http:///a.png", "names no host"),
        ("http:a.png", "names no host"),
        (f"http://{'a' * 64}.example/a.png", "names no host"),
        ("http://unknown.example/a.png", "is not known"),
    ],
)
async def test_a_url_is_refused(url: str, why: str) -> None:
    async with site(a_picture) as served:
        assert why in await refusal(served.loader(), url)
    assert served.requests == []


@pytest.mark.parametrize("status", ["401 Unauthorized", "404 Not Found", "500 Oops", "206 Part"])
async def test_an_answer_that_is_not_200_is_said_by_its_status(status: str) -> None:
    async def respond(path: str) -> AsyncIterator[bytes]:
        yield whole(PNG + SECRET, status)

    async with site(respond) as served:
        said = await refusal(served.loader(), SITE)
    assert f"answered {status[:3]}" in said


async def test_a_page_is_not_an_image_and_its_text_is_not_told() -> None:
    async def respond(path: str) -> AsyncIterator[bytes]:
        yield whole(SECRET, **{"Content-Type": "image/png"})

    async with site(respond) as served:
        said = await refusal(served.loader(), SITE + "a.png")
    assert "not a PNG, JPEG, GIF or WebP" in said
    assert SECRET.decode() not in said


@pytest.mark.parametrize(
    "head", ["Content-Length: 9999999999", "Transfer-Encoding: chunked", "X: "]
)
async def test_an_endless_body_is_left_at_the_limit(head: str) -> None:
    async def endless(path: str) -> AsyncIterator[bytes]:
        yield f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode()
        while True:
            yield b"10000\r\n%s\r\n" % bytes(0x10000) if "chunked" in head else bytes(0x10000)

    async with site(endless) as served:
        said = await refusal(served.loader(max_bytes=2**20), SITE)
        assert said == "The image is over 1 MB."
        await asyncio.wait_for(served.left.wait(), 10)


async def test_a_body_that_is_announced_as_too_large_is_not_waited_for() -> None:
    async def respond(path: str) -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n"
        async for piece in slowly(b""):
            yield piece

    async with site(respond) as served:
        assert await refusal(served.loader(), SITE) == "The image is over 5 MB."
        await asyncio.wait_for(served.left.wait(), 10)


async def slowly(pieces: bytes) -> AsyncIterator[bytes]:
    """Byte by byte, with never a pause long enough to seem dead, and never to an end."""
    for byte in pieces:
        yield bytes([byte])
        await asyncio.sleep(0.02)
    while True:
        yield b"\0"
        await asyncio.sleep(0.02)


async def test_a_slow_head_and_a_slow_body_end_at_the_time_out() -> None:
    async def head(path: str) -> AsyncIterator[bytes]:
        async for piece in slowly(b"HTTP/1.1 200 OK\r\nX: "):
            yield piece

    async def body(path: str) -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"
        async for piece in slowly(PNG):
            yield piece

    for respond in (head, body):
        async with site(respond) as served:
            said = await refusal(served.loader(timeout=0.5), SITE)
            assert said == "The image did not arrive within 0.5 s."
            await asyncio.wait_for(served.left.wait(), 10)


async def test_a_slow_name_service_ends_at_the_time_out() -> None:
    class Slow(Names):
        async def resolve(self, host: str, port: int, family: Any = None) -> list[tuple[int, Any]]:
            await asyncio.Event().wait()
            return []

    loader = ImageLoader(list, timeout=0.2, resolver=Slow(1))
    assert "did not arrive within 0.2 s" in await refusal(loader, SITE)


async def test_who_gives_up_waiting_leaves_no_connection_behind() -> None:
    begun = asyncio.Event()

    async def respond(path: str) -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        begun.set()
        async for piece in slowly(b""):
            yield piece

    async with site(respond) as served:
        task = asyncio.create_task(served.loader().load([message(SITE)]))
        await asyncio.wait_for(begun.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(served.left.wait(), 10)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + PNG,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"HTTP/1.1 302 Found\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + bytes(2**17).replace(b"\0", b"x"),
    ],
)
async def test_half_an_answer_is_refused(answer: bytes) -> None:
    async def respond(path: str) -> AsyncIterator[bytes]:
        yield answer

    async with site(respond) as served:
        said = await refusal(served.loader(), SITE)
    assert "broke its answer off" in said or "answered 302" in said
    assert "SSH" not in said


async def test_a_server_that_does_not_listen_is_said_to_be_out_of_reach() -> None:
    async with site(a_picture) as served:
        pass
    assert "could not be reached" in await refusal(served.loader(), SITE)


async def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    certificate = files("tornado.test")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(str(certificate / "test.crt"), str(certificate / "test.key"))
    async with site(a_picture, tls=tls) as served:
        said = await refusal(served.loader(), "https://images.example/a.png")
    assert "could not prove who it is by TLS" in said
    assert served.requests == []


async def test_one_refused_image_ends_the_fetching_of_the_others() -> None:
    async def respond(path: str) -> AsyncIterator[bytes]:
        if path == "/bad":
            yield whole(SECRET)
        else:
            async for piece in slowly(b"HTTP/1.1 200 OK\r\n\r\n"):
                yield piece

    async with site(respond) as served:
        assert "not a PNG" in await refusal(served.loader(timeout=60), SITE + "slow", SITE + "bad")
        await asyncio.wait_for(served.left.wait(), 10)
