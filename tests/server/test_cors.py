"""Pages of other origins: none by default, else those that are configured, with a token or key."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp

import jupyter_ccapi.server
from jupyter_ccapi.server.app import CCApiApp
from jupyter_ccapi.server.cors import EXPOSED, cors_headers, preflight_headers

Call = Callable[..., Awaitable[Any]]
APP = "https://app.example"
OTHER = "https://other.example"

# What openai-node and Anthropic's client announce in a preflight, as a browser writes it.
OPENAI_SENDS = (
    "authorization,content-type,idempotency-key,openai-beta,openai-organization,openai-project,"
    "x-stainless-arch,x-stainless-lang,x-stainless-os,x-stainless-package-version,"
    "x-stainless-retry-count,x-stainless-runtime,x-stainless-runtime-version,x-stainless-timeout"
)
ANTHROPIC_SENDS = (
    "accept,anthropic-beta,anthropic-dangerous-direct-browser-access,anthropic-version,"
    "content-type,user-agent,x-api-key,x-request-id,x-stainless-helper-method"
)


@pytest.fixture
def origins(app: CCApiApp, jp_serverapp: ServerApp) -> list[str]:
    """The origins that are allowed; a test may change them."""
    allowed = [APP]
    jp_serverapp.web_app.settings["ccapi_cors_origins"] = allowed
    return allowed


async def preflight(call: Call, origin: str, *path: str, headers: str = OPENAI_SENDS) -> Any:
    """What a browser asks before it lets a page send a request; it shows no token."""
    asked = {
        "Authorization": "",
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": headers,
    }
    path = path or ("v1", "chat", "completions")
    return await call(*path, method="OPTIONS", headers=asked)


def access_control(answer: Any) -> dict[str, str]:
    """The headers by which a browser decides."""
    return {
        name: value
        for name, value in answer.headers.get_all()
        if name.startswith("Access-Control-")
    }


# The parts


def test_without_origins_nothing_is_said() -> None:
    assert cors_headers(APP, []) == {}
    assert cors_headers(None, []) == {}
    assert preflight_headers(APP, [], "authorization") is None


def test_an_allowed_origin_is_named_and_may_read_our_headers() -> None:
    headers = cors_headers(APP, [OTHER, APP])
    assert headers["Access-Control-Allow-Origin"] == APP
    assert headers["Vary"] == "Origin"
    assert {"x-request-id", "retry-after", "x-should-retry", "x-ccapi-process"} <= set(
        headers["Access-Control-Expose-Headers"].split(", ")
    )


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "",
        "null",
        OTHER,
        "http://app.example",
        "https://app.example:8443",
        "https://app.example.evil.example",
        "https://evil.example/https://app.example",
        "https://xapp.example",
    ],
)
def test_any_other_origin_is_told_nothing_but_a_cache_is(origin: str | None) -> None:
    assert cors_headers(origin, [APP]) == {"Vary": "Origin"}
    assert preflight_headers(origin, [APP], "authorization") is None


def test_the_star_is_for_every_origin() -> None:
    for origin in (APP, OTHER, "null"):
        assert cors_headers(origin, ["*"])["Access-Control-Allow-Origin"] == "*"
        assert preflight_headers(origin, ["*"], "") is not None
    assert cors_headers(None, ["*"]) == {"Vary": "Origin"}


@pytest.mark.parametrize("allowed", [[APP], ["*"]])
def test_cookies_are_never_allowed(allowed: list[str]) -> None:
    names = [*cors_headers(APP, allowed), *(preflight_headers(APP, allowed, "cookie") or {})]
    assert "Access-Control-Allow-Credentials" not in names


@pytest.mark.parametrize("sent", [OPENAI_SENDS, ANTHROPIC_SENDS])
def test_a_preflight_grants_all_that_the_clients_send(sent: str) -> None:
    headers = preflight_headers(APP, [APP], sent)
    assert headers is not None
    assert headers["Access-Control-Allow-Headers"].split(", ") == sent.split(",")
    assert headers["Access-Control-Allow-Methods"] == "GET, POST, PATCH, DELETE"
    assert int(headers["Access-Control-Max-Age"]) > 0


@pytest.mark.parametrize(
    ("requested", "granted"),
    [
        ("Authorization, Content-Type", "authorization, content-type"),
        ("authorization, x-xsrftoken, cookie, x-forwarded-for", "authorization"),
        ("openai, x-openai-beta, xx-stainless-os", None),
        ("x-stainless-os\r\nSet-Cookie: a=b", None),
        ("", None),
        (None, None),
    ],
)
def test_a_preflight_grants_nothing_else(requested: str | None, granted: str | None) -> None:
    headers = preflight_headers(APP, [APP], requested)
    assert headers is not None
    assert headers.get("Access-Control-Allow-Headers") == granted


def test_every_header_of_ours_may_be_read() -> None:
    """Those that the server's sources name."""
    sources = Path(jupyter_ccapi.server.__file__).parent.rglob("*.py")
    written = {
        name
        for source in sources
        for name in re.findall(r"set_header\(\s*\"(x-[\w-]+)\"", source.read_text("utf-8"))
    }
    assert "x-ccapi-process" in written
    assert written <= set(EXPOSED)


# The server


async def test_by_default_no_page_of_another_origin_gets_through_a_preflight(call: Call) -> None:
    answer = await preflight(call, APP)
    assert "Access-Control-Allow-Origin" not in access_control(answer)


async def test_the_option_allows_pages_of_an_origin(call: Call, origins: list[str]) -> None:
    answer = await preflight(call, APP)
    assert (answer.status, answer.body) == (204, "")
    allowed = access_control(answer)
    assert allowed["Access-Control-Allow-Origin"] == APP
    assert allowed["Access-Control-Allow-Headers"].split(", ") == OPENAI_SENDS.split(",")


@pytest.mark.parametrize(
    "path", [("v1", "models"), ("v1", "models", "a"), ("v1", "nothing"), ("stats",), ("health",)]
)
async def test_every_route_answers_a_preflight(
    path: tuple[str, ...], call: Call, origins: list[str]
) -> None:
    answer = await preflight(call, APP, *path)
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, APP)


async def test_a_page_of_an_origin_that_is_not_allowed_is_told_nothing(
    call: Call, origins: list[str]
) -> None:
    answer = await preflight(call, OTHER)
    assert (answer.status, access_control(answer)) == (204, {})
    # Not even with the token, for which Jupyter alone would name the origin.
    answer = await call("stats", headers={"Origin": OTHER})
    assert (answer.status, access_control(answer)) == (200, {})
    assert answer.headers["Vary"] == "Origin"


async def test_a_page_with_the_token_may_post_and_read_the_answer(
    call: Call, origins: list[str]
) -> None:
    for headers in ({}, {"x-api-key": "ignored"}):
        answer = await call(
            "v1", "chat", "completions", method="POST", body="{}", headers={"Origin": APP} | headers
        )
        assert answer.status == 400  # it is let in; the messages are missing
        assert answer.headers["Access-Control-Allow-Origin"] == APP
        assert "x-request-id" in answer.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    ("path", "status"),
    [(("stats",), 401), (("v1", "chat", "completions"), 401), (("v1", "nothing"), 401)],
)
async def test_a_page_may_read_why_it_is_refused(
    path: tuple[str, ...], status: int, call: Call, origins: list[str]
) -> None:
    answer = await call(*path, headers={"Authorization": "Bearer wrong", "Origin": APP})
    assert answer.status == status
    assert answer.headers["Access-Control-Allow-Origin"] == APP
    answer = await call(*path, method="DELETE", headers={"Origin": APP})
    assert answer.status in (404, 405)
    assert answer.headers["Access-Control-Allow-Origin"] == APP


async def test_an_allowed_page_cannot_use_the_browsers_cookie(
    call: Call, origins: list[str]
) -> None:
    cookie = (await call("stats")).headers["Set-Cookie"].split(";")[0]
    headers = {"Authorization": "", "Cookie": cookie, "Origin": APP}
    answer = await call("v1", "chat", "completions", method="POST", body="{}", headers=headers)
    assert answer.status in (403, 404)


async def test_jupyters_own_option_for_credentials_is_not_joined_in(
    call: Call, origins: list[str], jp_serverapp: ServerApp
) -> None:
    jp_serverapp.web_app.settings |= {"allow_origin": "*", "allow_credentials": True}
    answer = await call("stats", headers={"Origin": APP})
    assert answer.headers["Access-Control-Allow-Origin"] == APP
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert access_control(await call("stats", headers={"Origin": OTHER})) == {}


async def test_without_origins_jupyters_own_options_decide(
    call: Call, jp_serverapp: ServerApp
) -> None:
    jp_serverapp.web_app.settings["allow_origin"] = OTHER
    answer = await call("stats", headers={"Origin": OTHER})
    assert answer.headers["Access-Control-Allow-Origin"] == OTHER


@pytest.mark.parametrize("ccapi_config", [{"cors_origins": [APP]}])
async def test_the_trait_reaches_the_routes(call: Call) -> None:
    answer = await preflight(call, APP)
    assert answer.headers["Access-Control-Allow-Origin"] == APP


async def test_jupyters_own_routes_are_left_as_they_are(call: Call, origins: list[str]) -> None:
    answer = await preflight(call, APP, "api", "kernels")
    assert "Access-Control-Allow-Origin" not in access_control(answer)
