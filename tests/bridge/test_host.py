"""A host tells those who keep a conversation's settings what its clients set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from jupyter_ccapi.bridge.host import Host
from jupyter_ccapi.bridge.source import Refused
from jupyter_ccapi.claude import (
    Answer,
    Conversation,
    Limits,
    Options,
    PermissionRequest,
    Pool,
)
from jupyter_ccapi.demo import OfflineModel, Reply
from tests.claude.support import until


async def test_a_mode_that_is_refused_in_a_turn_is_kept_for_the_next(
    model: OfflineModel, home: Path
) -> None:
    """The client is told so, and whoever sends the next prompt sends it with that."""
    pool = Pool(Limits(spares=0), environment=model.environment(home))
    changed: list[Mapping[str, Any]] = []
    told: list[dict[str, Any]] = []
    agent = Options(mode="agent", cwd=home / "project", asks=True)
    conversation = Conversation(pool, agent)
    host = Host(conversation, told.append, change=changed.append)
    try:
        model.script(Reply(tools=[("Bash", {"command": "touch a.txt"})]), Reply("A."))
        turn = conversation.send("A")
        request = await until(turn, PermissionRequest)
        mode = "bypassPermissions"
        with pytest.raises(Refused, match="from the next turn on"):
            await host.do({"type": "set_permission_mode", "mode": mode}, "a client")
        assert changed == [{"permission_mode": mode}]
        assert mode not in [one.get("permission_mode") for one in told]
        turn.answer(request.id, Answer("deny"))
        await turn.finish()
        assert host.info["permission_mode"] == mode
    finally:
        await host.close()
        await pool.close()
