"""`Claude` from Python, in cells that await and cells that do not."""

import threading
from pathlib import Path
from typing import Any

import pytest

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from tests.notebook.kernels import Kernel, roles_and_texts

RUN = "mcp__client__run_python"
IMPORTS = "import asyncio, threading\nfrom jupyter_ccapi import Claude"


def calls(tool: str, /, **given: Any) -> Reply:
    """A message of the model's that calls a tool."""
    return Reply(tools=[(tool, given)])


def said(model: OfflineModel) -> list[str]:
    """All texts that the model was sent last."""
    return [text for _, text in roles_and_texts(model.main_requests[-1].messages)]


@pytest.fixture
def api(worker: Kernel) -> Kernel:
    """The worker, with `chat`, a conversation in chat mode."""
    assert worker.run(f"{IMPORTS}\nchat = Claude(mode='chat')").status == "ok"
    return worker


def test_query_returns_an_answer(api: Kernel, model: OfflineModel) -> None:
    """Its text, what it has cost; nothing is drawn, and the conversation goes on."""
    model.script(Reply("Hello Ann.", thinking="Hm."), Reply("Ann."))
    cell = api.run("answer = await chat.query('I am Ann.')")
    assert (cell.status, cell.displays) == ("ok", {})
    api.run("again = await chat.query('Who?')")

    assert api.run("answer.text, answer.value, str(again)").value == (
        "('Hello Ann.', 'Hello Ann.', 'Ann.')"
    )
    assert api.run("answer.usage.output_tokens > 0, answer.checkpoint, answer.model").value == (
        f"(True, 1, {model.main_requests[0].body['model']!r})"
    )
    total = "chat.cost_usd == answer.cost_usd + again.cost_usd > 0, chat.turns"
    assert api.run(total).value == "(True, 2)"
    assert said(model) == ["I am Ann.", "Hello Ann.", "Who?"]


def test_stream_yields_the_turns_events(api: Kernel, model: OfflineModel) -> None:
    """As they come: the loop's body runs while the model still speaks."""
    gate = threading.Event()
    model.script(Reply("One two three.", hold=gate))
    cell = api.start(
        "kinds = []\n"
        "async for event in chat.stream('Count.'):\n"
        "    kinds.append(type(event).__name__)\n"
        "    if kinds[-1] == 'TextDelta': print(event.text, end='|', flush=True)"
    )
    cell.wait_until(lambda shown: shown.stdout == "One |")
    gate.set()
    cell.finish()

    assert cell.stdout.replace("|", "") == "One two three."
    assert api.run("kinds[0], kinds[-1]").value == "('TurnStarted', 'TurnEnd')"


def test_leaving_a_stream_interrupts_its_turn(api: Kernel, model: OfflineModel) -> None:
    """What it has cost is counted, and the conversation goes on."""
    model.script(Reply("Once upon a time", hold=threading.Event()), Reply("Here."))
    api.run(
        "async for event in chat.stream('Tell me a story.'):\n"
        "    if type(event).__name__ == 'TextDelta': break"
    )
    model.wait_for(lambda request: request.closed_early)
    assert api.run("print(await chat.query('Are you there?'))").stdout == "Here.\n"
    assert api.run("chat.turns").value == "2"


@pytest.mark.parametrize("sync", [True, False])
def test_ask_blocks_also_inside_a_running_loop(
    api: Kernel, model: OfflineModel, sync: bool
) -> None:
    """In a cell that awaits, too; callbacks of the turn run meanwhile."""
    model.script(calls(RUN, code="x = 7"), Reply("Done."))
    before = "" if sync else "await asyncio.sleep(0)\n"
    cell = api.run(f"{before}print(Claude(tools=['run_python(*)']).ask('Run.').text)")

    assert cell.stdout == "Done.\n"
    assert api.run("x").value == "7"


def test_a_schema_gives_a_value(api: Kernel, model: OfflineModel) -> None:
    """For one prompt, for all of a `Claude`, and for those of a batch."""
    made = Reply(tools=[("StructuredOutput", {"n": 4})])
    model.script(made, made, made)
    api.run(
        "schema = {'type': 'object', 'properties': {'n': {'type': 'integer'}}, 'required': ['n']}\n"
        "one = await chat.query('N?', schema=schema)\n"
        "claude = Claude(mode='chat', schema=schema)\n"
        "two = await claude.query('N?')\n"
        "three, = await claude.batch(['N?'], progress=False)"
    )
    assert api.run("one.value, two.value, three.value").value == "({'n': 4}, {'n': 4}, {'n': 4})"


def test_images_are_objects_paths_and_bytes(api: Kernel, model: OfflineModel, folder: Path) -> None:
    """And what is none is an error that says so."""
    pytest.importorskip("PIL")
    api.run(
        "from PIL import Image\nfrom pathlib import Path\nred = Image.new('RGB', (2, 2), 'red')\n"
        "red.save('red.png')\npath = Path('red.png')\n"
        "_ = await chat.query('Look.', images=[red, path, 'red.png', path.read_bytes()])"
    )
    assert model.main_requests[0].images == 4

    cell = api.run("await chat.query('Look.', images=['none.png'])")
    assert cell.error["ename"] == "InvalidOption"
    assert "none.png" in cell.error["evalue"]


def test_a_batch_is_answered_in_order_so_many_at_once(api: Kernel, model: OfflineModel) -> None:
    """One failure is its own result; the bar says how far it has come."""
    cell = api.run(
        "prompts = [f'[[say {n}]] [[delay 0.05]]' for n in range(5)]\n"
        "prompts[2] = '[[error 400 type=invalid_request_error No.]]'\n"
        "answers = await chat.batch(prompts, max_concurrency=2)\n"
        "[str(a) if type(a).__name__ == 'Answer' else type(a).__name__ for a in answers]"
    )
    assert cell.value.startswith("['0', '1', '")
    assert cell.value.endswith("', '3', '4']")
    assert "Error" in cell.value or "Failed" in cell.value
    (bar,) = cell.lines
    assert "5 of 5" in bar
    assert "1 failed" in bar
    assert any("1 of 5" in drawn for drawn in cell.drawn)
    assert said(model)[-1].startswith("[[say 4]]")
    assert len(roles_and_texts(model.main_requests[-1].messages)) == 1
    assert api.run("chat.turns").value == "0"


def test_no_more_of_a_batch_run_at_once_than_asked_for(api: Kernel, model: OfflineModel) -> None:
    """Two are held, and the third is not asked before one of them is through."""
    cell = api.start("_ = await chat.batch(['[[hold]] a', '[[hold]] b', 'c'], max_concurrency=2)")
    model.wait_for(lambda request: request.held and request.user_text.endswith("a"))
    model.wait_for(lambda request: request.held and request.user_text.endswith("b"))
    assert len(model.main_requests) == 2
    model.release()
    assert cell.finish().status == "ok"
    assert len(model.main_requests) == 3


def test_the_stop_button_ends_a_query(api: Kernel, model: OfflineModel) -> None:
    """At once, though the model is silent; no traceback, and the conversation goes on."""
    model.script(Reply("Once upon a time", hold=threading.Event()))
    cell = api.start("await chat.query('Tell me a story.')")
    model.wait_for(lambda request: request.held)
    api.interrupt()
    cell.finish()

    assert cell.failure == "Stopped. The conversation goes on with the next prompt."
    model.wait_for(lambda request: request.closed_early)
    assert api.run("str(await chat.query('[[say Here.]]'))").value == "'Here.'"
    # And Python's own handler is back.
    cell = api.start("print('computing', flush=True)\nwhile True: pass")
    cell.wait_until(lambda shown: "computing" in shown.stdout)
    api.interrupt()
    assert cell.finish().error["ename"] == "KeyboardInterrupt"


def test_the_stop_button_ends_all_that_a_cell_waits_for(api: Kernel, model: OfflineModel) -> None:
    """Two prompts at once. After one that outlives its cell Python's own handler is back, too."""
    model.script(Reply("Once upon a time", hold=threading.Event()))
    cell = api.start("await asyncio.gather(chat.query('Tell me.'), chat.query('And more.'))")
    model.wait_for(lambda request: request.held)
    api.interrupt()
    assert cell.finish().status == "error"
    model.wait_for(lambda request: request.closed_early)
    model.clear()

    other = (
        "other = Claude(mode='chat')\ntask = asyncio.create_task(chat.query('[[hold]] Tell me.'))"
    )
    api.run(f"{other}\nprint(await other.query('[[say Two.]]'))")
    model.wait_for(lambda request: request.held)
    model.release()
    assert api.run("str(await task)").status == "ok"
    handler = "import signal; signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    assert api.run(handler).value == "True"


def test_a_cancelled_query_is_cancelled(api: Kernel, model: OfflineModel) -> None:
    """`asyncio.timeout` works around it, and the turn is ended."""
    model.script(Reply("Once upon a time", hold=threading.Event()))
    api.run(
        "async def bounded():\n"
        "    global limit\n"
        "    try:\n"
        "        async with asyncio.timeout(None) as limit:\n"
        "            await chat.query('Tell me a story.')\n"
        "    except TimeoutError:\n"
        "        return 'too late'\n"
        "task = asyncio.create_task(bounded())"
    )
    model.wait_for(lambda request: request.held)
    assert api.run("limit.reschedule(0)\nawait task").value == "'too late'"
    model.wait_for(lambda request: request.closed_early)
    assert api.run("str(await chat.query('[[say Here.]]'))").value == "'Here.'"


def test_interrupt_ends_a_turn_in_the_background(api: Kernel, model: OfflineModel) -> None:
    """What there is so far is its answer, which says how it ended; the kernel lives."""
    model.script(Reply("Once upon a time", hold=threading.Event()))
    api.run("task = asyncio.create_task(chat.query('Tell me a story.'))")
    model.wait_for(lambda request: request.held)
    api.run("await chat.interrupt()")
    assert "interrupted" in api.run("await task").value


def test_the_cells_conversation_is_default(api: Kernel, model: OfflineModel) -> None:
    """Both go on with the same one, in both ways."""
    api.run("%%claude --mode chat\n[[say Hello Ann.]] I am Ann.")
    api.run("shared = Claude('default')\n_ = await shared.query('Who?')")
    assert "Hello Ann." in said(model)
    api.run("%%claude\nAnd you?")
    assert "Who?" in said(model)
    assert (
        api.run("shared.turns, len(shared.checkpoints), len(shared.messages)").value == "(3, 3, 6)"
    )

    api.run("%%claude -c mine --mode chat\nI am Bob.")
    api.run("_ = await Claude('mine').query('Who?')")
    assert "I am Bob." in said(model)


def test_checkpoints_rewind_undo_and_fork(api: Kernel, model: OfflineModel, folder: Path) -> None:
    """The same as the magics', as objects; who watches is told of each."""
    model.script(calls("Write", file_path=str(folder / "a.txt"), content="one\n"), Reply("Wrote."))
    api.run(
        "claude = Claude(permission_mode='acceptEdits')\ntold = []\n"
        "forget = claude.on_change(lambda: told.append(threading.current_thread().name))\n"
        "_ = claude.on_change(lambda: 1/0)\n"
        "_ = claude.ask('Write.')\n_ = await claude.query('[[say Two.]]')"
    )
    assert api.run("told").value == "['MainThread', 'MainThread']"
    listed = "[(one.number, one.words, one.files) for one in claude.checkpoints]"
    assert api.run(listed).value == "[(1, 'Write.', ('a.txt',)), (2, '[[say Two.]]', ())]"

    api.run("copy = claude.fork(2)\nlooked = claude.rewind(1, dry_run=True)")
    assert (folder / "a.txt").exists()
    assert api.run("looked.done, claude.can_undo").value == "(False, False)"
    cell = api.run("claude.rewind(1)")
    assert not (folder / "a.txt").exists()
    assert "Rewound to before prompt 1" in cell.value
    assert api.run("claude.checkpoints, claude.can_undo").value == "([], True)"
    api.run("claude.undo()\nforget()")
    assert (folder / "a.txt").exists()
    assert api.run("len(claude.checkpoints)").value == "2"

    api.run("_ = await copy.query('[[say Three.]]')")
    assert said(model) == ["Write.", "Wrote.", "[[say Three.]]"]
    cell = api.run("claude.rewind(9)")
    assert cell.error["evalue"] == ("There is no checkpoint 9 in this conversation; it has 1 to 2.")


CALLBACKS = """
from claude_agent_sdk import HookMatcher, PermissionResultAllow, create_sdk_mcp_server, tool
threads = {}

@tool("double", "Double a number.", {"n": int})
async def double(given):
    threads["tool"] = threading.current_thread().name
    print("in the cell")
    return {"content": [{"type": "text", "text": str(2 * given["n"])}]}

async def before(given, call, context):
    threads["hook"] = threading.current_thread().name
    return {}

async def may(name, given, context):
    threads["can_use_tool"] = threading.current_thread().name
    return PermissionResultAllow()

claude = Claude(
    mcp_servers={"maths": create_sdk_mcp_server("maths", tools=[double])},
    hooks={"PreToolUse": [HookMatcher(matcher="Write", hooks=[before])]},
    can_use_tool=may,
)
"""


def test_callbacks_of_the_users_run_in_the_main_thread(
    api: Kernel, model: OfflineModel, folder: Path
) -> None:
    """In-process tools, hooks and `can_use_tool`; what they print is the cell's."""
    model.script(
        calls("mcp__maths__double", n=21),
        calls("Write", file_path=str(folder / "a.txt"), content="x"),
        Reply("Done."),
    )
    assert api.run(CALLBACKS).status == "ok"
    cell = api.run("_ = await claude.query('Double.')")

    assert (cell.stdout, cell.stderr) == ("in the cell\n", "")
    assert "42" in model.main_requests[1].tool_results[0].text
    assert (folder / "a.txt").exists()
    assert api.run("sorted(threads), set(threads.values())").value == (
        "(['can_use_tool', 'hook', 'tool'], {'MainThread'})"
    )
    # By the conversation's name a cell has them, too.
    model.clear()
    model.script(calls("mcp__maths__double", n=4), Reply("Done."))
    name = api.run("claude.name").value.strip("'")
    assert api.run(f"%%claude -c {name}\nDouble.").stdout == "in the cell\n"


def test_options_of_the_sdk_reach_the_cli(api: Kernel, model: OfflineModel, folder: Path) -> None:
    """By their own names: which tools, agents, system prompt, settings there are."""
    (folder / "CLAUDE.md").write_text("Always rhyme.")
    api.run(
        "from claude_agent_sdk import AgentDefinition\n"
        "claude = Claude(tools=['Read', 'Task'], disallowed_tools=['Bash'], model='haiku',\n"
        "    system_prompt='Be brief.', effort='low', setting_sources=['project'],\n"
        "    agents={'poet': AgentDefinition(description='Writes odes.', prompt='You rhyme.')})\n"
        "_ = await claude.query('Hello.')"
    )
    (request,) = model.main_requests
    assert "Read" in request.tools
    assert "Bash" not in request.tools
    assert "haiku" in request.body["model"]
    assert "Be brief." in request.system_text
    assert "Always rhyme." in str(request.body["messages"])
    assert "Writes odes." in str(request.body)


def test_rules_name_the_kernels_tools_plainly(api: Kernel, model: OfflineModel) -> None:
    """`allowed_tools` and `disallowed_tools` know `run_python` as people do."""
    model.script(calls(RUN, code="x = 'ran'"), Reply("Done."))
    api.run("_ = await Claude(allowed_tools=['run_python']).query('Run.')")
    assert api.run("x").value == "'ran'"
    api.run("_ = await Claude(disallowed_tools=['run_python']).query('Run.')")
    assert RUN not in model.main_requests[-1].tools


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("permission_mod='plan'", "no option 'permission_mod': did you mean permission_mode?"),
        ("budget=1", "did you mean budget_usd?"),
        ("permission_mode='acceptEdit'", "permission_mode is one of default, acceptEdits"),
        ("mode='agents'", "mode is one of chat, agent, not 'agents'."),
        ("effort='hard'", "effort 'hard' is not one of low"),
        ("budget_usd=-1", "budget_usd is 0 (no bound) or more USD, not -1."),
        ("max_turns=0", "max_turns is a number from 1 on, not 0."),
        ("cwd='/none'", "'/none' is not a folder"),
        ("schema=3", "A schema is a dict"),
        ("hooks={'PreToolUse': [len]}", "hooks is a dict of lists of claude_agent_sdk.HookMatcher"),
        ("resume='x'", "'resume' is set by jupyter_ccapi itself"),
    ],
)
def test_a_bad_option_is_named_at_once(
    api: Kernel, model: OfflineModel, options: str, sentence: str
) -> None:
    """And leaves the conversation of that name as it was."""
    api.run("kept = Claude('kept', mode='chat')\n_ = await kept.query('Hello.')")
    cell = api.run(f"Claude('kept', {options})")

    assert cell.error["ename"] == "InvalidOption"
    assert sentence in cell.error["evalue"]
    assert api.run("str(await kept.query('[[say Here.]]'))").value == "'Here.'"


def test_a_bad_option_of_a_prompt_names_the_right_ones(api: Kernel, model: OfflineModel) -> None:
    """Those that are for a prompt alone."""
    cell = api.run("await chat.query('Hello.', model='haiku')")
    assert (
        "A prompt has no option 'model'; it has budget_usd, effort, images"
        in (cell.error["evalue"])
    )
    assert "InvalidOption" in str(api.run("await chat.query('Hi', effort='hard')").error["ename"])
    assert model.main_requests == []


def test_a_failed_prompt_is_a_claude_error(api: Kernel, model: OfflineModel) -> None:
    """A sentence; the conversation goes on."""
    model.script(Reply(error=ApiError(500, "", "The model broke.")))
    cell = api.run(
        "from jupyter_ccapi.claude import ClaudeError\n"
        "try:\n    await chat.query('Hello.')\nexcept ClaudeError as error:\n    print(error)"
    )
    assert "The model broke" in cell.stdout
    assert api.run("str(await chat.query('[[say Here.]]'))").value == "'Here.'"


def test_a_batch_of_agents_has_the_configured_budget_for_each(
    api: Kernel, model: OfflineModel
) -> None:
    """As a cell has."""
    api.run("%config ClaudeMagics.budget_usd = 0.5")
    looks = [("Read", {"file_path": "none.txt"})]
    goes_on = Reply("Never ending.", hold=threading.Event())
    model.script(Reply("Let me see.", tools=looks, output_tokens=100_000), goes_on)
    cell = api.run("(await Claude().batch(['Spend.'], progress=False))[0].end.reason")
    assert cell.value == "'max_budget'"


def test_code_of_a_turn_may_ask_another_conversation_and_not_its_own(
    api: Kernel, model: OfflineModel
) -> None:
    """Its own waits for that code: a sentence in place of a kernel that hangs."""
    code = "answers = []\ntry:\n    await outer.query('Hm?')\nexcept Exception as error:\n"
    code += "    print(error)\nprint(await chat.query('[[say Inner.]]'))\n"
    code += "print(chat.ask('[[say Inmost.]]'))"
    model.script(calls(RUN, code=code), Reply("Inner."), Reply("Inmost."), Reply("Done."))
    api.run("outer = Claude(tools=['run_python(*)'])")
    cell = api.run("str(await outer.query('Ask.'))")

    assert cell.value == "'Done.'"
    told = model.main_requests[-1].tool_results[0].text
    assert "This code runs within a turn of the same conversation" in told
    assert "Inner." in told
    assert "Inmost." in told
