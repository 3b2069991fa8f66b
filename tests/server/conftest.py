"""A Jupyter server with the extension, over the real CLI and the offline model."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp
from tornado.httpclient import HTTPClientError, HTTPResponse

from jupyter_ccapi.demo import OfflineModel
from jupyter_ccapi.server.app import CCApiApp
from tests import probed
from tests.conftest import WARM

Fetch = Callable[..., Awaitable[HTTPResponse]]


@pytest.fixture
def ccapi_config() -> dict[str, Any]:
    """Options of the extension that a test changes before the server starts."""
    return {}


@pytest.fixture
def jp_server_config(
    model: OfflineModel, home: Path, ccapi_config: dict[str, Any], jp_data_dir: Path
) -> dict[str, Any]:
    """Load the extension, and lead its CLI to the offline model."""
    probed.put_into(jp_data_dir)
    return {
        "ServerApp": {
            "jpserver_extensions": {"jupyter_ccapi": True},
            "allow_unauthenticated_access": False,
        },
        "CCApiApp": {"cli_environment": model.environment(home), "warm": WARM, **ccapi_config},
    }


@pytest.fixture
def app(jp_serverapp: ServerApp) -> CCApiApp:
    """The extension; the server stops it, and with it its processes, after the test."""
    extension: CCApiApp = jp_serverapp.web_app.settings["ccapi"]
    return extension


@dataclass
class Answer:
    """What a client received."""

    status: int
    headers: Any
    body: Any


@pytest.fixture
def call(app: CCApiApp, jp_fetch: Fetch) -> Callable[..., Awaitable[Answer]]:
    """Send a request as the server's owner and return the answer, whatever its status."""

    async def send(*path: str, **options: Any) -> Answer:
        if "json" in options:
            options |= {"method": "POST", "body": json.dumps(options.pop("json"))}
        try:
            response = await jp_fetch(*path, request_timeout=60, **options)
        except HTTPClientError as error:
            response = error.response  # type: ignore[assignment]
        body = response.body.decode()
        return Answer(
            response.code, response.headers, json.loads(body) if body.startswith("{") else body
        )

    return send
