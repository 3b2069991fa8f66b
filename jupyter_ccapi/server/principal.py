"""Who is asking. Every host of the handlers answers that in its own way; the handlers ask only
here.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jupyter_ccapi.store import Key


@dataclass(frozen=True, slots=True)
class Principal:
    """An owner of conversations and processes. ``id`` is stable over requests and restarts;
    ``key`` is the one of ours that was shown, if it was one.
    """

    id: str
    name: str
    key: Key | None = None


#: A host's way to tell who is asking, from a handler whose request is authenticated.
Identify = Callable[[Any], Principal]

#: On a server of one's own, whoever has its token is its one owner.
OWNER = Principal("owner", "the owner of this server")


def identify_owner(handler: Any) -> Principal:
    """The one owner. Jupyter names a token without a cookie anew on each request, so its name is
    no key.
    """
    return OWNER


def identify_hub_user(handler: Any) -> Principal:
    """The hub user, as JupyterHub's identity provider tells."""
    name = handler.current_user.username
    return Principal(f"hub:{name}", name)


def identify_for_this_server() -> Identify:
    """JupyterHub starts its users' servers with ``JUPYTERHUB_USER`` set; there its users are told
    apart.
    """
    return identify_hub_user if os.environ.get("JUPYTERHUB_USER") else identify_owner


def owner_of_this_server() -> Principal:
    """Whose conversations and keys are those of this server's own user, as commands on its machine
    need to know.
    """
    user = os.environ.get("JUPYTERHUB_USER")
    return Principal(f"hub:{user}", user) if user else OWNER
