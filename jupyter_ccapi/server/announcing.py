"""Tells the kernels of this machine where this server takes their conversations."""

import logging
import os

from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join

from jupyter_ccapi.bridge.runtime import ServerAddress

logger = logging.getLogger(__name__)

# What a server listens on that listens everywhere, and how this machine reaches it.
_EVERYWHERE = {"": "127.0.0.1", "*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def address_of(serverapp: ServerApp, url_prefix: str, secret: str) -> ServerAddress | None:
    """Where a server is reached from its own machine; None where it listens on a Unix socket."""
    if serverapp.sock:
        return None
    host = _EVERYWHERE.get(serverapp.ip, serverapp.ip)
    name = f"[{host}]" if ":" in host else host
    scheme = "wss" if serverapp.certfile else "ws"
    mount = url_path_join(serverapp.base_url, url_prefix, "/")
    return ServerAddress(
        url=f"{scheme}://{name}:{serverapp.port}{mount}",
        secret=secret,
        cafile=serverapp.certfile or None,
        pid=os.getpid(),
        root=serverapp.root_dir,
    )


def announce(serverapp: ServerApp, url_prefix: str, secret: str) -> ServerAddress | None:
    """Leave that for kernels, which is to be removed when the server stops."""
    address = address_of(serverapp, url_prefix, secret)
    if address is not None:
        try:
            address.save()
        except OSError as error:
            logger.warning("Notebooks cannot share their conversations here: %s", error)
            return None
    return address
