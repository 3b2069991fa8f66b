"""Permission requests: what is asked, what each answer does, and that nothing is left waiting."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jupyter_ccapi.claude import (
    Answer,
    Conversation,
    Options,
    PermissionRequest,
    PermissionResolved,
    Pool,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
    TurnEnd,
)
from jupyter_ccapi.claude.errors import InvalidOption
from jupyter_ccapi.demo import OfflineModel, Reply
from tests.claude.conftest import MakePool
from tests.claude.support import PATIENCE, events_of, eventually, until


@pytest.fixture
def asking(home: Path) -> Options:
    """An agent whose reader is asked."""
    (home / "project").mkdir(exist_ok=True)
    return Options(mode="agent", cwd=home / "project", asks=True)


async def answered(turn: Turn, answer: Answer) -> tuple[list[Any], PermissionRequest]:
    """Answer the one question of a turn; return what came after it, and the question."""
    request = await until(turn, PermissionRequest)
    turn.answer(request.id, answer)
    return await events_of(turn), request


def results(events: list[Any]) -> list[ToolResult]:
    return [event for event in events if isinstance(event, ToolResult)]


def end_of(events: Sequence[Any]) -> TurnEnd:
    end = events[-1]
    assert isinstance(end, TurnEnd)
    return end


async def test_an_edit_is_shown_as_a_diff_and_made_when_it_is_allowed(
    pool: Pool, model: OfflineModel, asking: Options, home: Path
) -> None:
    script = home / "project" / "a.py"
    script.write_text("one\ntwo\nthree\n")
    edit = {"file_path": str(script), "old_string": "two", "new_string": "2"}
    model.script(
        Reply(tools=[("Read", {"file_path": str(script)})]), Reply(tools=[("Edit", edit)]), Reply()
    )
    turn = Conversation(pool, asking).send("Edit.")
    request = await until(turn, PermissionRequest)
    diff = "--- a/a.py\n+++ b/a.py\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"
    assert (request.tool, request.diff, request.scope) == ("Edit", diff, "Edit(**)")
    assert (request.title, request.input["new_string"]) == ("Claude wants to edit a.py.", "2")
    assert script.read_text() == "one\ntwo\nthree\n"
    turn.answer(request.id, Answer("allow"))
    after = await events_of(turn)
    assert PermissionResolved(request.id, "allow", "once", "") in after
    assert [(one.id, one.diff) for one in results(after)] == [(request.id, diff)]
    assert script.read_text() == "one\n2\nthree\n"


async def test_a_denial_tells_the_model_why_and_changes_nothing(
    pool: Pool, model: OfflineModel, asking: Options, home: Path
) -> None:
    file = home / "project" / "b.txt"
    model.script(Reply(tools=[("Write", {"file_path": str(file), "content": "x\n"})]), Reply("ok"))
    turn = Conversation(pool, asking).send("Write.")
    after, request = await answered(turn, Answer("deny", message="Not in this folder."))
    assert request.diff == "--- a/b.txt\n+++ b/b.txt\n@@ -0,0 +1 @@\n+x\n"
    assert PermissionResolved(request.id, "deny", "once", "Not in this folder.") in after
    assert [one.is_error for one in results(after)] == [True]
    assert "Not in this folder." in model.main_requests[-1].tool_results[0].text
    assert not file.exists()
    assert end_of(after).reason == "completed"


async def test_what_is_allowed_for_the_conversation_is_asked_once_also_in_its_next_process(
    pool: Pool, model: OfflineModel, asking: Options, home: Path
) -> None:
    def write(name: str) -> Reply:
        return Reply(tools=[("Write", {"file_path": f"{home / 'project' / name}", "content": ""})])

    conversation = Conversation(pool, asking)
    model.script(write("a"), write("b"), Reply(), write("c"), Reply())
    after, _ = await answered(conversation.send("Two."), Answer("allow", "conversation"))
    assert not [one for one in after if isinstance(one, PermissionRequest)]
    (slot,) = pool.slots
    assert slot.process is not None
    slot.process.kill()
    await conversation.send("Another.").finish()
    assert sorted(path.name for path in (home / "project").iterdir()) == ["a", "b", "c"]


async def test_a_command_is_allowed_by_the_rule_that_was_shown(
    pool: Pool, model: OfflineModel, asking: Options
) -> None:
    """Once allowed, the same command runs; another one is asked about."""

    def bash(command: str) -> Reply:
        return Reply(tools=[("Bash", {"command": command})])

    conversation = Conversation(pool, asking)
    # The second is one that no rule of Claude Code's says.
    for command in ("touch one", "echo one > one"):
        model.script(bash(command), Reply())
        await answered(conversation.send("Run."), Answer("allow", "conversation"))
    same = bash("touch one"), bash("echo one > one")
    model.script(*same, bash("touch two"), Reply())
    turn = conversation.send("Run.")
    other = await until(turn, PermissionRequest)
    assert other.input["command"] == "touch two"
    assert other.scope.startswith("Bash(touch two")
    turn.answer(other.id, Answer("deny"))
    await turn.finish()


async def test_the_input_may_be_changed(
    pool: Pool, model: OfflineModel, asking: Options, home: Path
) -> None:
    model.script(Reply(tools=[("Bash", {"command": "touch theirs"})]), Reply())
    changed = {"command": "touch ours"}
    await answered(Conversation(pool, asking).send("Go."), Answer("allow", updated_input=changed))
    assert [path.name for path in (home / "project").iterdir()] == ["ours"]


async def test_only_the_first_answer_counts(
    pool: Pool, model: OfflineModel, asking: Options
) -> None:
    model.script(Reply(tools=[("Bash", {"command": "touch x"})]), Reply())
    turn = Conversation(pool, asking).send("Go.")
    request = await until(turn, PermissionRequest)
    with pytest.raises(InvalidOption, match="'nothing'"):
        turn.answer("nothing", Answer("allow"))
    turn.answer(request.id, Answer("deny"))
    with pytest.raises(InvalidOption) as caught:
        turn.answer(request.id, Answer("allow"))
    assert caught.value.field == "request_id"
    await turn.finish()
    with pytest.raises(InvalidOption, match="does not wait"):
        turn.answer(request.id, Answer("allow"))


async def test_an_interrupt_ends_the_wait_and_the_conversation_goes_on(
    pool: Pool, model: OfflineModel, asking: Options, home: Path
) -> None:
    model.script(Reply(tools=[("Bash", {"command": "touch x"})]), Reply("Yes."))
    conversation = Conversation(pool, asking)
    turn = conversation.send("Go.")
    request = await until(turn, PermissionRequest)
    await asyncio.wait_for(turn.interrupt(), PATIENCE)
    after = await events_of(turn)
    resolved = [one for one in after if isinstance(one, PermissionResolved)]
    assert [(one.id, one.behavior) for one in resolved] == [(request.id, "deny")]
    assert end_of(after).reason == "interrupted"
    assert not list((home / "project").iterdir())
    assert (await conversation.send("There?").finish()).text == "Yes."


async def test_the_time_of_a_turn_does_not_run_while_a_person_thinks(
    make_pool: MakePool, model: OfflineModel, asking: Options
) -> None:
    """With a second and a half for the turn, an answer after two still counts."""
    pool = make_pool(turn_timeout=1.5)
    model.script(Reply(tools=[("Bash", {"command": "touch x"})]), Reply("Done."))
    conversation = Conversation(pool, asking)
    turn = conversation.send("Go.")
    request = await until(turn, PermissionRequest)
    await asyncio.sleep(2.0)
    turn.answer(request.id, Answer("allow"))
    assert (await turn.finish()).text == "Done."


async def test_a_process_that_dies_meanwhile_leaves_nothing_waiting(
    pool: Pool, model: OfflineModel, asking: Options
) -> None:
    model.script(Reply(tools=[("Bash", {"command": "touch x"})]), Reply("Back."))
    conversation = Conversation(pool, asking)
    turn = conversation.send("Go.")
    request = await until(turn, PermissionRequest)
    (slot,) = pool.slots
    assert slot.process is not None
    slot.process.kill()
    with pytest.raises(Exception, match="ended in the middle"):
        await turn.finish()
    with pytest.raises(InvalidOption):
        turn.answer(request.id, Answer("allow"))
    await eventually(lambda: not pool.slots)
    assert (await conversation.send("There?").finish()).text == "Back."


async def test_of_the_callers_tools_only_those_are_asked_about_that_say_so(
    pool: Pool, model: OfflineModel, asking: Options
) -> None:
    ran: list[str] = []

    async def run(given: dict[str, Any]) -> str:
        ran.append(str(given["code"]))
        return "done"

    schema = {"type": "object", "properties": {"code": {"type": "string"}}}
    tools = (
        Tool("look", "Looks.", schema, run),
        Tool("run_python", "Runs.", schema, run, parallel=False, asks=True),
    )
    model.script(
        Reply(tools=[("mcp__client__look", {"code": "1"})]),
        Reply(tools=[("mcp__client__run_python", {"code": "2"})]),
        Reply(tools=[("mcp__client__run_python", {"code": "3"})]),
        Reply(),
    )
    turn = Conversation(pool, replace(asking, tools=tools)).send("Go.")
    request = await until(turn, PermissionRequest)
    assert (request.tool, request.input, ran) == ("run_python", {"code": "2"}, ["1"])
    turn.answer(request.id, Answer("deny"))
    request = await until(turn, PermissionRequest)
    turn.answer(request.id, Answer("allow"))
    after = await events_of(turn)
    assert ran == ["1", "3"]
    assert not [one.name for one in after if isinstance(one, ToolCall) and "mcp" in one.name]


async def test_a_budget_ends_the_turn_after_the_message_that_exceeds_it(
    pool: Pool, model: OfflineModel, agent: Options
) -> None:
    """The cost is Claude Code's own; the next turn has a budget of its own again."""
    dear = Reply(tools=[("Bash", {"command": "sleep 0"})], output_tokens=100_000)
    model.script(*[dear] * 4)
    conversation = Conversation(pool, replace(agent, budget_usd=0.5))
    end = await conversation.send("Go.").finish()
    assert isinstance(end, TurnEnd)
    assert (end.reason, len(model.main_requests)) in {("max_budget", 1), ("max_budget", 2)}
    assert end.cost_usd >= 0.5
    model.clear()
    model.script(Reply("Cheap."))
    again = await conversation.send("And now?").finish()
    assert (again.reason, again.text) == ("completed", "Cheap.")


async def test_a_command_that_no_rule_can_say_allows_nothing_else_in_the_next_process(
    pool: Pool, model: OfflineModel, asking: Options
) -> None:
    """On its command line Claude Code would read a bare ``Bash`` out of such a rule."""
    tricky = "touch a2 $(echo b) Bash c"
    conversation = Conversation(pool, asking)
    model.script(Reply(tools=[("Bash", {"command": tricky})]), Reply())
    await answered(conversation.send("Go."), Answer("allow", "conversation"))
    conversation.options = replace(asking, system_prompt="Another process.")
    model.script(
        Reply(tools=[("Bash", {"command": tricky})]),
        Reply(tools=[("Bash", {"command": "touch other; id"})]),
        Reply(),
    )
    turn = conversation.send("Again.")
    request = await until(turn, PermissionRequest)
    assert request.input["command"] == "touch other; id"
    turn.answer(request.id, Answer("deny"))
    await turn.finish()


@pytest.mark.parametrize("rule", ["Bash(touch $(b) Bash c)", "Bash Read", "Bash,Read", "Bash(a"])
async def test_a_rule_that_would_be_read_as_another_is_refused(
    rule: str, pool: Pool, agent: Options
) -> None:
    options = replace(agent, sdk={"allowed_tools": [rule]})
    with pytest.raises(InvalidOption) as caught:
        await Conversation(pool, options).send("Go.").finish()
    assert caught.value.field == "allowed_tools"
