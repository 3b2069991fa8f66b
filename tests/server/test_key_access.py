"""Keys of our own open these routes and nothing else of the server."""

import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.auth.identity import IdentityProvider
from jupyter_server.serverapp import ServerApp
from tornado.httputil import HTTPHeaders

from jupyter_ccapi.demo import OfflineModel, Reply
from jupyter_ccapi.openai.errors import APIError
from jupyter_ccapi.server.access import check_budget, check_model, check_valid, shown_secret
from jupyter_ccapi.server.app import CCApiApp
from jupyter_ccapi.store import Key, StoreUnavailable

Call = Callable[..., Awaitable[Any]]
SECRET = "sk-ccapi-" + "s3cr3t" * 6


def key(**changes: Any) -> Key:
    """A valid key without limits, but for what a test changes."""
    values: dict[str, Any] = {
        "id": "key_7",
        "owner": "owner",
        "name": "laptop",
        "prefix": SECRET[:12],
        "models": None,
        "budget_usd": None,
        "spent_usd": 0.0,
        "created_at": 0.0,
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
    }
    return Key(**{**values, **changes})


@pytest.fixture
def keys(jp_serverapp: ServerApp, app: CCApiApp) -> dict[str, Key]:
    """The keys that there are, by their secrets; a test may change them."""
    there_are = {SECRET: key()}

    async def verify(secret: str) -> Key | None:
        return there_are.get(secret)

    jp_serverapp.web_app.settings["ccapi_verify_key"] = verify
    return there_are


def bearer(secret: str) -> dict[str, str]:
    """As OpenAI's clients show a key."""
    return {"Authorization": f"Bearer {secret}"}


def x_api_key(secret: str) -> dict[str, str]:
    """As Anthropic's clients show a key; the empty header keeps the test's client from adding the
    server's token.
    """
    return {"Authorization": "", "x-api-key": secret}


SHOWN = [bearer(SECRET), x_api_key(SECRET), {"Authorization": "Basic YTpi", "x-api-key": SECRET}]
EMPTY_CHAT: dict[str, Any] = {"method": "POST", "body": "{}"}


async def chat(call: Call, headers: dict[str, str]) -> Any:
    """A request without messages: whoever is let in is told 400 that they are missing."""
    return await call("v1", "chat", "completions", headers=headers, **EMPTY_CHAT)


@pytest.mark.parametrize("headers", SHOWN)
async def test_a_key_opens_the_routes(
    headers: dict[str, str], call: Call, keys: dict[str, Key]
) -> None:
    assert (await call("stats", headers=headers)).status == 200
    assert (await chat(call, headers)).status == 400
    assert (await call("v1", "nothing", headers=headers)).status == 404


async def test_the_servers_token_is_taken_from_x_api_key_too(call: Call, app: CCApiApp) -> None:
    assert app.serverapp is not None
    token = app.serverapp.identity_provider.token
    assert (await chat(call, x_api_key(token))).status == 400
    assert (await chat(call, x_api_key(token + "x"))).status == 401
    assert (await chat(call, {**bearer("wrong"), "x-api-key": token})).status == 401


@pytest.mark.parametrize("show", [bearer, x_api_key, lambda secret: {"Authorization": ""}])
@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("api/contents", {}),
        ("api/contents/a.ipynb", {"method": "PUT", "body": "{}"}),
        ("api/kernels", {}),
        ("api/kernels", {"method": "POST", "body": "{}"}),
        ("api/sessions", {}),
        ("api/terminals", {"method": "POST", "body": "{}"}),
        ("api/me", {}),
        ("api/shutdown", {"method": "POST", "body": "{}"}),
    ],
)
async def test_a_key_opens_nothing_else_of_the_server(
    path: str, options: dict[str, Any], show: Any, call: Call, keys: dict[str, Key]
) -> None:
    for params in ({}, {"token": SECRET}):
        answer = await call(path, headers=show(SECRET), params=params, **options)
        assert answer.status == 403


async def test_a_key_of_the_servers_own_store_opens_the_routes_until_it_is_revoked(
    call: Call, app: CCApiApp
) -> None:
    keys = app.gateway.store.keys
    _, secret = await keys.create("owner", "laptop")
    assert (await chat(call, x_api_key(secret))).status == 400
    await keys.revoke("owner", "laptop")
    assert (await chat(call, x_api_key(secret))).status == 401


async def test_a_key_of_another_owners_opens_nothing_here(call: Call, app: CCApiApp) -> None:
    """Servers may share one store."""
    _, secret = await app.gateway.store.keys.create("hub:ann", "laptop")
    assert (await chat(call, x_api_key(secret))).status == 401


async def test_a_budget_counts_calls_of_tools_that_nobody_answers(
    call: Call, app: CCApiApp, model: OfflineModel
) -> None:
    made, secret = await app.gateway.store.keys.create("owner", "laptop", budget_usd=0.000_001)
    tool = {"type": "function", "function": {"name": "weather"}}
    model.script(Reply(tools=[("mcp__client__weather", {})], input_tokens=1000))
    body = {"messages": [{"role": "user", "content": "Weather?"}], "tools": [tool]}
    path = ("v1", "chat", "completions")
    answer = await call(*path, json=body, headers=x_api_key(secret))
    assert answer.body["choices"][0]["finish_reason"] == "tool_calls"
    assert float(answer.headers["x-ccapi-cost-usd"]) > 0
    assert (await app.gateway.store.keys.list("owner"))[0].spent_usd > 0
    answer = await call(*path, json=body, headers=x_api_key(secret))
    assert (answer.status, answer.body["error"]["code"]) == (429, "insufficient_quota")
    assert made.name in answer.body["error"]["message"]


@pytest.mark.parametrize("headers", SHOWN)
async def test_a_key_leaves_no_login_behind(
    headers: dict[str, str], call: Call, keys: dict[str, Key]
) -> None:
    """A cookie would open what the key does not."""
    answer = await call("stats", headers=headers)
    assert (answer.status, answer.headers.get_list("Set-Cookie")) == (200, [])
    assert (await call("stats")).headers.get_list("Set-Cookie")  # Jupyter's token does


async def test_a_key_in_the_url_is_not_taken(call: Call, keys: dict[str, Key]) -> None:
    answer = await call("stats", headers={"Authorization": ""}, params={"token": SECRET})
    assert answer.status == 401


@pytest.mark.parametrize("headers", SHOWN)
async def test_a_key_needs_neither_xsrf_token_nor_the_servers_origin(
    headers: dict[str, str], call: Call, keys: dict[str, Key]
) -> None:
    answer = await chat(call, {**headers, "Origin": "https://elsewhere.example"})
    assert answer.status == 400


async def test_a_key_acts_for_its_owner(
    call: Call, keys: dict[str, Key], app: CCApiApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners = []

    async def models(owner: str) -> dict[str, Any]:
        owners.append(owner)
        return {"data": []}

    monkeypatch.setattr(app.gateway, "models", models)
    keys[SECRET] = key(owner="hub:ann")
    await call("v1", "models", headers=bearer(SECRET))
    await call("v1", "models")
    assert owners == ["hub:ann", "owner"]


class Noting(Authorizer):
    """Notes who asks, and lets nobody do anything but read."""

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        """As its class says."""
        self.asked = (user.username, user.name, user.display_name, action, resource)
        return action == "read"


async def test_jupyters_authorizer_is_asked_about_a_user_named_for_the_key(
    call: Call, keys: dict[str, Key], jp_serverapp: ServerApp
) -> None:
    authorizer = Noting(parent=jp_serverapp)
    jp_serverapp.web_app.settings["authorizer"] = authorizer
    assert (await call("stats", headers=bearer(SECRET))).status == 200
    assert authorizer.asked == ("key:key_7", "laptop", "laptop", "read", "jupyter_ccapi:openai")
    assert (await chat(call, bearer(SECRET))).status == 403


class Nobody(IdentityProvider):
    """An identity provider of somebody else's, which knows nobody."""

    def get_user(self, handler: Any) -> None:
        """Nobody."""
        return


async def test_a_key_is_taken_whatever_identity_provider_the_server_has(
    call: Call, keys: dict[str, Key], jp_serverapp: ServerApp
) -> None:
    jp_serverapp.web_app.settings["identity_provider"] = Nobody(parent=jp_serverapp)
    assert (await call("stats")).status == 401
    assert (await call("stats", headers=bearer(SECRET))).status == 200
    assert (await call("api", "kernels", headers=bearer(SECRET))).status == 403


@pytest.mark.parametrize("show", [bearer, x_api_key])
@pytest.mark.parametrize(
    "secret", [SECRET + "x", "sk-ccapi-", "sk-ccapi-ü".encode().decode("latin1")]
)
async def test_an_unknown_key_is_a_wrong_one(
    secret: str, show: Any, call: Call, keys: dict[str, Key]
) -> None:
    answer = await chat(call, show(secret))
    assert answer.status == 401
    assert answer.body["error"]["code"] == "invalid_api_key"
    assert "jupyter ccapi key create" in answer.body["error"]["message"]


@pytest.mark.parametrize(
    ("changes", "status", "code", "said"),
    [
        ({"revoked_at": 5.0}, 401, "invalid_api_key", "'laptop' was revoked."),
        ({"expires_at": 5.0}, 401, "invalid_api_key", "expired on 1970-01-01 at 00:00 UTC."),
        (
            {"budget_usd": 2.5, "spent_usd": 2.5},
            429,
            "insufficient_quota",
            "has spent its budget of 2.5 USD.",
        ),
    ],
)
async def test_a_key_that_is_over_says_why(
    changes: dict[str, Any], status: int, code: str, said: str, call: Call, keys: dict[str, Key]
) -> None:
    keys[SECRET] = key(**changes)
    answer = await chat(call, {**x_api_key(SECRET), "x-request-id": "mine-7"})
    error = answer.body["error"]
    assert (answer.status, error["code"]) == (status, code)
    assert said in error["message"]
    assert answer.headers["x-request-id"] == error["request_id"] == "mine-7"
    assert answer.headers.get("x-should-retry") == ("false" if status == 429 else None)


async def test_a_key_without_budget_may_still_read(call: Call, keys: dict[str, Key]) -> None:
    keys[SECRET] = key(budget_usd=0.0)
    assert (await call("stats", headers=bearer(SECRET))).status == 200


async def test_a_revoked_key_is_refused_from_the_next_request_on(
    call: Call, keys: dict[str, Key]
) -> None:
    assert (await call("stats", headers=bearer(SECRET))).status == 200
    keys[SECRET] = key(revoked_at=time.time())
    assert (await call("stats", headers=bearer(SECRET))).status == 401


async def test_a_store_that_fails_is_not_a_wrong_key(call: Call, jp_serverapp: ServerApp) -> None:
    async def verify(secret: str) -> Key | None:
        raise StoreUnavailable("The database is locked.")

    jp_serverapp.web_app.settings["ccapi_verify_key"] = verify
    answer = await chat(call, bearer(SECRET))
    assert (answer.status, answer.body["error"]["code"]) == (503, "store_unavailable")


async def test_only_what_looks_like_a_key_is_looked_up(call: Call, jp_serverapp: ServerApp) -> None:
    async def verify(secret: str) -> Key | None:
        raise AssertionError("the store was asked")

    jp_serverapp.web_app.settings["ccapi_verify_key"] = verify
    assert (await call("stats")).status == 200
    assert (await call("stats", headers=bearer("wrong"))).status == 401


async def test_a_token_may_look_like_a_key(
    call: Call, keys: dict[str, Key], jp_serverapp: ServerApp
) -> None:
    jp_serverapp.identity_provider.token = "sk-ccapi-chosen-by-the-administrator"
    answer = await chat(call, bearer(jp_serverapp.identity_provider.token))
    assert answer.status == 400


async def test_on_a_server_without_authentication_everybody_is_let_in_as_before(
    call: Call, keys: dict[str, Key], jp_serverapp: ServerApp
) -> None:
    jp_serverapp.identity_provider.token = ""
    for headers in ({"Authorization": ""}, bearer("anything"), bearer(SECRET + "x")):
        assert (await call("stats", headers=headers)).status == 200
    assert (await chat(call, bearer(SECRET))).status == 400
    keys[SECRET] = key(revoked_at=5.0)
    assert (await chat(call, bearer(SECRET))).status == 401


@pytest.mark.parametrize("show", [bearer, x_api_key])
async def test_no_secret_is_ever_logged(
    show: Any,
    call: Call,
    keys: dict[str, Key],
    app: CCApiApp,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither in Jupyter's access log, nor with an error, at any level."""

    async def explode(*_: Any) -> None:
        raise RuntimeError("broken")

    assert app.serverapp is not None
    token = app.serverapp.identity_provider.token
    monkeypatch.setattr(app.gateway, "models", explode)
    app.log.propagate = True
    app.log.setLevel(logging.DEBUG)
    with caplog.at_level(logging.DEBUG):
        for secret in (SECRET, SECRET + "-unknown", token, token + "-wrong"):
            for path in ("stats", "v1/models", "v1/nothing", "api/kernels"):
                await call(path, headers=show(secret))
            await chat(call, show(secret))
        keys[SECRET] = key(revoked_at=5.0)
        await chat(call, show(SECRET))
    assert "broken" in caplog.text
    assert "/stats (key:key_7@" in caplog.text
    assert SECRET not in caplog.text
    assert token not in caplog.text


# The parts


def headers(**given: str) -> HTTPHeaders:
    """Headers of a request."""
    return HTTPHeaders({name.replace("_", "-"): value for name, value in given.items()})


@pytest.mark.parametrize(
    ("given", "secret"),
    [
        (headers(), ""),
        (headers(authorization="Bearer a"), "a"),
        (headers(authorization="bearer  a"), "a"),
        (headers(authorization="token a"), "a"),
        (headers(x_api_key="b"), "b"),
        (headers(authorization="", x_api_key="b"), "b"),
        (headers(authorization="Basic YTpi", x_api_key="b"), "b"),
        (headers(authorization="Basic YTpi"), ""),
        (headers(authorization="Bearer a", x_api_key="b"), "a"),
    ],
)
def test_where_a_secret_is_looked_for(given: HTTPHeaders, secret: str) -> None:
    assert shown_secret(given) == secret


def test_a_key_for_all_models_is_for_any() -> None:
    check_model(key(), "opus")
    check_model(key(), None)
    check_model(None, "opus")
    check_model(key(models=["sonnet", "haiku"]), "haiku")


@pytest.mark.parametrize(
    ("models", "asked", "said"),
    [
        (["sonnet", "haiku"], "opus", "may not use the model 'opus'; it is for sonnet, haiku."),
        (["sonnet"], "Sonnet", "may not use the model 'Sonnet'; it is for sonnet."),
        (["sonnet"], None, "may not leave the model out; it is for sonnet."),
        ([], "opus", "may not use the model 'opus'; it is for none."),
    ],
)
def test_a_key_for_some_models_is_for_no_other(
    models: list[str], asked: str | None, said: str
) -> None:
    with pytest.raises(APIError) as caught:
        check_model(key(models=models), asked)
    error = caught.value
    assert (error.status, error.code, error.param) == (403, "model_not_allowed", "model")
    assert said in error.message


def test_a_key_is_valid_until_its_last_second_and_its_last_cent() -> None:
    check_valid(key(expires_at=time.time() + 60))
    check_budget(key(budget_usd=1.0, spent_usd=0.99))
    check_budget(None)


def test_no_error_about_a_key_can_be_turned_into_its_secret() -> None:
    for over in (key(revoked_at=1.0), key(expires_at=1.0)):
        with pytest.raises(APIError) as caught:
            check_valid(over)
        assert "sk-ccapi" not in json.dumps(caught.value.body())
