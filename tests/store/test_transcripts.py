"""Transcripts: the SDK's own protocol, held to by its own tests, and used by the real CLI."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from claude_agent_sdk import (
    ClaudeAgentOptions,
    ResultMessage,
    SessionKey,
    SessionStore,
    project_key_for_directory,
    query,
)
from claude_agent_sdk.testing import run_session_store_conformance

from jupyter_ccapi.demo import OfflineModel, Reply
from jupyter_ccapi.store import Store

KEY: SessionKey = {"project_key": "project", "session_id": "session"}


def entry(**more: Any) -> Any:
    """An entry as a transcript has them."""
    return {"type": "x", **more}


async def test_it_does_what_the_sdk_demands_of_a_store(store: Store) -> None:
    transcripts = store.transcripts
    used: set[str] = set()

    async def emptied() -> SessionStore:
        """The SDK asks for an empty store for each of its contracts."""
        for project in ("proj", "other", "other-proj", "A", "B"):
            for session in await transcripts.list_sessions(project):
                used.add(session["session_id"])
                await transcripts.delete(
                    {"project_key": project, "session_id": session["session_id"]}
                )
        return transcripts

    await run_session_store_conformance(emptied)
    assert len(used) > 3  # the contracts did write


async def test_an_entry_that_is_sent_again_is_kept_once(store: Store) -> None:
    first, second, third = (entry(uuid=name) for name in "abc")
    nameless = entry(title="again")
    await store.transcripts.append(KEY, [first, nameless, first])
    await store.transcripts.append(KEY, [second, first, nameless, third])
    loaded = await store.transcripts.load(KEY)
    assert loaded == [first, nameless, second, nameless, third]


async def test_two_that_begin_the_same_transcript_lose_nothing(
    url: str, make_store: Callable[..., Store]
) -> None:
    stores = [make_store(url) for _ in range(3)]
    names = [[f"{writer}-{n}" for n in range(20)] for writer in range(3)]

    async def write(store: Store, own: list[str]) -> None:
        for name in own:
            await store.transcripts.append(KEY, [entry(uuid=name), entry()])

    await asyncio.gather(*map(write, stores, names))
    loaded = await stores[0].transcripts.load(KEY)
    assert loaded is not None
    written = [found["uuid"] for found in loaded if "uuid" in found]
    for own in names:
        assert [name for name in written if name in own] == own
    assert len(loaded) == 120


async def test_only_the_way_to_the_last_message_is_the_conversation(store: Store) -> None:
    made = await store.conversations.create("ann", messages=[("user", "One")])
    (first,) = await store.conversations.messages("ann", made.id)
    session = await store.conversations.session("ann", made.id)

    def said(uuid: str, parent: str | None, text: str, **more: Any) -> Any:
        message = {"role": "user", "content": text}
        return entry(uuid=uuid, parentUuid=parent) | {"type": "user", "message": message} | more

    await store.transcripts.append(
        session,
        [
            said("dropped", first.uuid, "an abandoned branch"),
            said("note", first.uuid, "a note of the CLI's", isMeta=True),
            entry(uuid="system", parentUuid="note"),
            said("last", "system", "Two"),
            said("side", "last", "a subagent's", isSidechain=True),
            entry(summary="nameless"),
        ],
    )
    messages = await store.conversations.messages("ann", made.id)
    assert [message.content for message in messages] == ["One", "Two"]


async def test_entries_that_are_each_others_parents_end(store: Store) -> None:
    made = await store.conversations.create("ann")
    session = await store.conversations.session("ann", made.id)
    message = {"type": "user", "message": {"role": "user", "content": "?"}}
    round_trip = [
        entry(uuid="a", parentUuid="b") | message,
        entry(uuid="b", parentUuid="a") | message,
    ]
    await store.transcripts.append(session, round_trip)
    messages = await store.conversations.messages("ann", made.id)
    assert [one.uuid for one in messages] == ["a", "b"]


async def test_the_cli_goes_on_with_a_conversation_and_mirrors_what_it_says(
    store: Store, model: OfflineModel, home: Path
) -> None:
    made = await store.conversations.create(
        "ann", messages=[("user", "My number is 7."), ("assistant", "Noted.")]
    )
    session = await store.conversations.session("ann", made.id)
    entries = await store.transcripts.load(session)
    assert entries is not None
    project = home / "project"
    key: SessionKey = {
        "project_key": project_key_for_directory(project),
        "session_id": session["session_id"],
    }
    await store.transcripts.append(key, entries)
    model.script(Reply("It is 7."))
    options = ClaudeAgentOptions(
        session_store=store.transcripts,
        resume=key["session_id"],
        cwd=project,
        env=model.environment(home),
    )
    results = [
        message
        async for message in query(prompt="Which number?", options=options)
        if isinstance(message, ResultMessage)
    ]
    assert [result.result for result in results] == ["It is 7."]
    (request,) = [one for one in model.requests if "Which number?" in str(one.body)]
    # What the CLI itself tells the model stands between.
    sent = [message for message in request.body["messages"] if message["role"] != "system"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    expected = ["My number is 7.", "Noted.", "Which number?"]
    for message, text in zip(sent, expected, strict=True):
        assert text in str(message["content"])
    loaded = await store.transcripts.load(key)
    assert loaded is not None
    assert loaded[: len(entries)] == entries
    assert "It is 7." in str(loaded[len(entries) :])
