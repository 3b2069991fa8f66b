"""Images in chats: what the model sees of them, and what is refused."""

import base64
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp

from jupyter_ccapi.demo import OfflineModel
from jupyter_ccapi.demo.reading import blocks
from tests.server.chats import CHAT, Call

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
DATA_URL = "data:image/png;base64," + base64.b64encode(PNG).decode()


def look(url: str) -> dict[str, Any]:
    """A question about an image."""
    image = {"type": "image_url", "image_url": {"url": url}}
    content = [{"type": "text", "text": "What is it?"}, image]
    return {"messages": [{"role": "user", "content": content}]}


def seen(model: OfflineModel) -> list[dict[str, Any]]:
    """The images in all that the model was sent last."""
    return [
        block
        for message in model.main_requests[-1].messages
        for block in blocks(message["content"])
        if block["type"] == "image"
    ]


async def test_the_model_sees_the_image(call: Call, model: OfflineModel) -> None:
    assert (await call(*CHAT, json=look(DATA_URL))).status == 200
    assert model.main_requests[-1].images == 1
    (block,) = seen(model)
    assert block["source"]["media_type"] == "image/png"


async def test_it_sees_it_again_when_the_conversation_goes_on(
    call: Call, model: OfflineModel
) -> None:
    body = look(DATA_URL)
    first = (await call(*CHAT, json=body)).body["choices"][0]["message"]
    body["messages"] += [first, {"role": "user", "content": "Sure?"}]
    await call(*CHAT, json=body)
    assert len(seen(model)) == 1


async def test_a_file_of_the_server_may_be_named(
    call: Call, model: OfflineModel, jp_serverapp: ServerApp
) -> None:
    (Path(jp_serverapp.root_dir) / "a.png").write_bytes(PNG)
    assert (await call(*CHAT, json=look("a.png"))).status == 200
    assert model.main_requests[-1].images == 1


@pytest.mark.parametrize(
    "url",
    [
        "/etc/hostname",
        "file:///etc/passwd",
        "../secret.png",
        "http://127.0.0.1:8888/a.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost/a.png",
        "data:image/png;base64,bm8gaW1hZ2U=",
        "ftp://example.com/a.png",
    ],
)
async def test_what_may_not_be_read_is_refused_before_anything_is_spent(
    call: Call, model: OfflineModel, url: str
) -> None:
    answer = await call(*CHAT, json=look(url))
    assert answer.status == 400
    assert answer.body["error"]["param"] == "messages[0].content[1].image_url.url"
    assert answer.body["error"]["code"] == "invalid_image"
    assert model.requests == []
