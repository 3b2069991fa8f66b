"""Images from the web, fetched with the guard against server-side request forgery: nothing is
connected to but public addresses, and exactly those that were checked.
"""

import asyncio
import re
import socket
import ssl
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream, StreamClosedError
from tornado.netutil import Resolver
from tornado.tcpclient import TCPClient

from .._version import __version__
from .image_sources import Refused, too_large

#: The ports that are connected to: what speaks HTTP elsewhere is seldom meant for the public.
PORTS = frozenset({80, 443})

_MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_HEADERS = 64 * 1024
_BUFFER = 256 * 1024
# urlsplit drops some of these without a word; others read a backslash as a slash.
_NOT_IN_A_URL = re.compile(r"[\x00-\x1f\x7f\\]")

# What Python, or some release of it, takes for global all the same
# (https://www.iana.org/assignments/iana-ipv4-special-registry/ and …ipv6-special-registry/).
_NOT_PUBLIC = tuple(
    ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's host
        "192.0.0.0/24",  # protocols, and Oracle's metadata server
        "192.88.99.0/24",  # relays of 6to4
        "224.0.0.0/4",  # multicast
        "2001::/23",  # protocols
        "2002::/16",  # 6to4: an IPv4 address is inside
        "3fff::/20",  # documentation
    )
)
# Everything else in IPv6 is local, multicast, translated (64:ff9b::/96, ::ffff:0:0/96) or not
# given out.
_GLOBAL_UNICAST = ip_network("2000::/3")


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if ip.version == 6 and ip not in _GLOBAL_UNICAST:
        return False
    return ip.is_global and not any(ip in network for network in _NOT_PUBLIC)


class CheckedResolver(Resolver):
    """Asks another resolver, and refuses a name unless all its addresses are allowed."""

    def initialize(self, resolver: Resolver, allowed: Callable[[str], bool]) -> None:
        """Tornado's constructor of a resolver."""
        self._resolver = resolver
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[tuple[int, Any]]:
        """Addresses to connect to. Raises ``Refused``, and ``OSError`` for an unknown name."""
        found = await self._resolver.resolve(host, port, family)
        # One that is not allowed gives the name away: it is made to lead inside at another time.
        if not all(self._allowed(address[0]) for _, address in found):
            raise Refused("The image's URL leads to an address that is not on the public internet.")
        return found


class ImageFetcher:
    """Gets images over http and https. No proxies, cookies or credentials; each redirect is
    checked as the first URL was.
    """

    def __init__(
        self,
        *,
        timeout: float,
        limit: int,
        resolver: Resolver | None = None,
        allowed: Callable[[str], bool] = is_public,
        ports: Collection[int] = PORTS,
    ) -> None:
        """``timeout`` is in seconds, from the name's look-up to the last byte; ``limit`` in bytes.
        ``allowed`` says of an IP address whether it may be connected to.
        """
        self._timeout = timeout
        self._limit = limit
        self._ports = ports
        self._connector = TCPClient(CheckedResolver(resolver or Resolver(), allowed))

    async def get(self, url: str) -> bytes:
        """The body that is found there in the end. Raises ``Refused``."""
        try:
            async with asyncio.timeout(self._timeout):
                target = _target(url, self._ports)
                for _ in range(_MAX_REDIRECTS + 1):
                    answer = await self._ask(target)
                    if answer.location is None:
                        return bytes(answer.body)
                    target = _target(answer.location, self._ports, base=target.url)
        except TimeoutError:
            raise Refused(f"The image did not arrive within {self._timeout:g} s.") from None
        raise Refused(f"The image's URL is redirected more than {_MAX_REDIRECTS} times.")

    async def _ask(self, target: "_Target") -> "_Answer":
        stream = await self._connect(target)
        answer = _Answer(stream, self._limit)
        try:
            connection = HTTP1Connection(
                stream,
                True,
                # The answer itself counts: Tornado would not say that it was too large.
                HTTP1ConnectionParameters(max_header_size=_MAX_HEADERS, max_body_size=sys.maxsize),
            )
            connection.write_headers(RequestStartLine("GET", target.path, ""), target.headers)
            connection.finish()
            with suppress(StreamClosedError):
                await connection.read_response(answer)
        finally:
            stream.close()
        answer.check()
        return answer

    async def _connect(self, target: "_Target") -> IOStream:
        try:
            return await self._connector.connect(
                target.host,
                target.port,
                ssl_options=_tls() if target.secure else None,
                max_buffer_size=_BUFFER,
            )
        except socket.gaierror:
            raise Refused("The host in the image's URL is not known.") from None
        except OSError as error:
            cause = error.real_error if isinstance(error, StreamClosedError) else error
            if isinstance(cause, ssl.SSLError):
                raise Refused("The image's server could not prove who it is by TLS.") from None
            raise Refused("The image's server could not be reached.") from None


@dataclass(frozen=True, slots=True)
class _Target:
    """Where one request goes."""

    url: str
    secure: bool
    host: str
    port: int
    path: str
    headers: HTTPHeaders


def _target(url: str, ports: Collection[int], *, base: str = "") -> _Target:
    """Read a URL, which may be relative to ``base``. Raises ``Refused``."""
    parts, port = _split(url, base)
    if parts.scheme not in ("http", "https"):
        raise Refused("The image's URL is redirected to one that is not http(s).")
    if "@" in parts.netloc:
        raise Refused("An image's URL must not contain a user or a password.")
    secure = parts.scheme == "https"
    port = port or (443 if secure else 80)
    if port not in ports:
        allowed = " and ".join(str(number) for number in sorted(ports))
        raise Refused(f"An image's URL must not name a port other than {allowed}.")
    try:
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except UnicodeError:
        host = ""
    if not host:
        raise Refused("The image's URL names no host.")
    name = f"[{host}]" if ":" in host else host
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    if parts.query:
        path += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    headers = HTTPHeaders()
    headers["Host"] = name if port == (443 if secure else 80) else f"{name}:{port}"
    headers["User-Agent"] = f"jupyter_ccapi/{__version__}"
    headers["Accept"] = "image/png,image/jpeg,image/gif,image/webp"
    headers["Accept-Encoding"] = "identity"
    headers["Connection"] = "close"
    return _Target(parts.geturl(), secure, host, port, path, headers)


def _split(url: str, base: str) -> tuple[SplitResult, int | None]:
    try:
        if not _NOT_IN_A_URL.search(url):
            parts = urlsplit(urljoin(base, url))
            return parts, parts.port
    except ValueError:
        pass
    raise Refused("The image's URL is not a valid one.")


class _Answer(HTTPMessageDelegate):
    """An HTTP answer as it arrives; what is not wanted of it is not read."""

    def __init__(self, stream: IOStream, limit: int) -> None:
        self.body = bytearray()
        self.location: str | None = None
        self._stream = stream
        self._limit = limit
        self._status = 0
        self._complete = False
        self._too_large = False

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        """Read a body only where it can be the image."""
        assert isinstance(start_line, ResponseStartLine)
        self._status = start_line.code
        if self._status in _REDIRECTS:
            self.location = headers.get("Location")
        length = headers.get("Content-Length", "")
        self._too_large = length.isdecimal() and int(length) > self._limit
        if self._status >= 200 and (self._status != 200 or self._too_large):
            self._stream.close()

    def data_received(self, chunk: bytes) -> None:
        """Keep it, up to the limit."""
        self.body += chunk
        if len(self.body) > self._limit:
            self._too_large = True
            self._stream.close()

    def finish(self) -> None:
        """The end of a whole answer."""
        self._complete = True

    def check(self) -> None:
        """Raises ``Refused`` unless this is a redirect or a whole body."""
        if self.location is not None:
            return
        if self._status not in (0, 200):
            raise Refused(f"The image's server answered {self._status}.")
        if self._too_large:
            raise too_large(self._limit)
        if not self._complete:
            raise Refused("The image's server broke its answer off.")


@cache
def _tls() -> ssl.SSLContext:
    """Checks certificates and their names, by the system's authorities."""
    return ssl.create_default_context()
