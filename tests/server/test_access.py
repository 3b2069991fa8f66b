"""Who gets in, and what everybody is told who does not."""

import json
import warnings
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import JupyterServerAuthWarning

from jupyter_ccapi.server.app import CCApiApp
from jupyter_ccapi.server.principal import OWNER, identify_for_this_server

Call = Callable[..., Awaitable[Any]]
NO_TOKEN: dict[str, str] = {"Authorization": ""}
ROUTES = [
    ("POST", "v1/chat/completions"),
    ("GET", "v1/models"),
    ("GET", "v1/models/opus"),
    ("GET", "v1/nothing/here"),
    ("POST", "v1/nothing/here"),
    ("GET", "stats"),
    ("GET", "health?deep=1"),
]


def options(method: str) -> dict[str, Any]:
    """What Tornado's client needs for a method."""
    return {"method": method, "body": "{}" if method in ("POST", "PUT", "PATCH") else None}


@pytest.mark.parametrize("headers", [NO_TOKEN, {"Authorization": "Bearer wrong"}])
@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_without_the_token_every_route_answers_401_as_openai_does(
    method: str, path: str, headers: dict[str, str], call: Call
) -> None:
    path, _, query = path.partition("?")
    params = dict([query.split("=")]) if query else {}
    answer = await call(path, headers=headers, params=params, **options(method))
    assert answer.status == 401
    assert answer.body["error"]["code"] == "invalid_api_key"
    assert answer.body["error"]["type"] == "authentication_error"


async def test_liveness_needs_no_token_and_tells_nothing(call: Call) -> None:
    answer = await call("health", headers=NO_TOKEN)
    assert (answer.status, answer.body) == (200, {"status": "ok"})


async def test_a_probe_may_ask_by_head(call: Call) -> None:
    assert (await call("health", headers=NO_TOKEN, method="HEAD")).status == 200


async def test_a_foreign_host_name_is_refused_with_the_options_that_decide(call: Call) -> None:
    answer = await call("v1", "models", headers={"Host": "elsewhere.example"})
    assert answer.status == 403
    assert "ServerApp.allow_remote_access" in answer.body["error"]["message"]


async def test_a_failed_request_is_logged_by_its_id(
    call: Call, app: CCApiApp, caplog: pytest.LogCaptureFixture
) -> None:
    app.log.propagate = True
    await call("v1", "chat", "completions", headers={"x-request-id": "mine-2"}, **options("POST"))
    assert "missing_required_parameter (mine-2)" in caplog.text


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_an_unknown_path_under_v1_is_a_404_in_json(method: str, call: Call) -> None:
    answer = await call("v1", "embeddings", **options(method))
    assert answer.status == 404
    assert answer.body["error"]["type"] == "invalid_request_error"
    assert "/v1/embeddings" in answer.body["error"]["message"]


async def test_a_wrong_method_is_a_405_in_json(call: Call) -> None:
    answer = await call("v1", "chat", "completions")
    assert answer.status == 405
    assert "GET is not allowed" in answer.body["error"]["message"]


async def test_the_clients_request_id_is_echoed(call: Call) -> None:
    answer = await call("v1", "nothing", headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.body["error"]["request_id"] == "mine-1"


@pytest.mark.parametrize("sent", [{}, {"x-request-id": "x" * 200}, {"x-request-id": "a b<script>"}])
async def test_a_missing_or_odd_request_id_is_made_anew(sent: dict[str, str], call: Call) -> None:
    answer = await call("stats", headers=sent)
    assert answer.headers["x-request-id"].startswith("req_")


async def test_a_page_of_another_site_cannot_use_the_browsers_cookie(
    call: Call, app: CCApiApp
) -> None:
    """A browser sends the login cookie by itself; Jupyter wants its _xsrf token with it."""
    first = await call("stats")
    cookie = first.headers["Set-Cookie"].split(";")[0]
    answer = await call(
        "v1",
        "chat",
        "completions",
        headers={**NO_TOKEN, "Cookie": cookie, "Origin": "http://evil.example"},
        **options("POST"),
    )
    assert answer.status in (403, 404)
    assert set(answer.body["error"]) >= {"message", "type", "param", "code"}


class RefuseExecute(Authorizer):
    """Lets everybody read and nobody run anything."""

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        """Reading is fine."""
        assert resource == "jupyter_ccapi:openai"
        return action == "read"


async def test_jupyters_authorizer_decides_who_may_chat(
    call: Call, jp_serverapp: ServerApp
) -> None:
    jp_serverapp.web_app.settings["authorizer"] = RefuseExecute(parent=jp_serverapp)
    assert (await call("stats")).status == 200
    answer = await call("v1", "chat", "completions", **options("POST"))
    assert (answer.status, answer.body["error"]["type"]) == (403, "permission_error")


def test_every_route_says_whether_it_wants_to_know_who_asks(tmp_path: Any) -> None:
    """Jupyter's own check of an extension's handlers; it warns of one that forgot."""
    ServerApp.clear_instance()
    server = ServerApp(
        allow_unauthenticated_access=False,
        jpserver_extensions={"jupyter_ccapi": True},
        reraise_server_extension_failures=True,
        root_dir=str(tmp_path),
    )
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        server.initialize(argv=[], find_extensions=False, new_httpserver=False)
    assert [str(w.message) for w in warned if w.category is JupyterServerAuthWarning] == []


def test_on_a_server_of_ones_own_everybody_with_the_token_is_its_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Jupyter gives a token without a cookie a new name on each request."""
    monkeypatch.delenv("JUPYTERHUB_USER", raising=False)
    identify = identify_for_this_server()
    for name in ("7f3a", "99bc"):
        handler = SimpleNamespace(current_user=SimpleNamespace(username=name))
        assert identify(handler) == OWNER


def test_under_jupyterhub_its_users_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_USER", "ann")
    identify = identify_for_this_server()
    ann, bob = (
        identify(SimpleNamespace(current_user=SimpleNamespace(username=name)))
        for name in ("ann", "bob")
    )
    assert (ann.id, bob.id) == ("hub:ann", "hub:bob")


async def test_no_error_shows_a_traceback(
    call: Call, app: CCApiApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def explode(*_: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(app.gateway, "models", explode)
    answer = await call("v1", "models")
    assert answer.status == 500
    assert answer.headers["x-request-id"] in answer.body["error"]["message"]
    assert "secret detail" not in json.dumps(answer.body)
