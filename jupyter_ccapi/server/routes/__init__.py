"""The routes, one module a subject; each maps an HTTP verb onto the gateway and back."""

from . import (
    chat,
    conversations,
    messages,
    models,
    relay,
    responses,
    rewinds,
    sessions,
    sockets,
    status,
)
from .base import NotFoundHandler

#: All of them; the catch-all for unknown /v1 paths comes last.
default_handlers = [
    *chat.default_handlers,
    *responses.default_handlers,
    *messages.default_handlers,
    *conversations.default_handlers,
    *rewinds.default_handlers,
    *sessions.default_handlers,
    *sockets.default_handlers,
    *relay.default_handlers,
    *models.default_handlers,
    *status.default_handlers,
    (r"/v1(?:/.*)?", NotFoundHandler),
]
