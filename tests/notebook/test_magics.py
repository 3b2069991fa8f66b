"""The options of `%%claude` and its sister magics, in a real kernel: what the model is sent, what
the cell shows, what stays.
"""

import base64
import io
import json
import threading
from pathlib import Path
from typing import Any

import nbformat
import pytest

from jupyter_ccapi.demo import LoggedRequest, OfflineModel, Reply
from tests.notebook.kernels import PATIENCE, Kernel, roles_and_texts

pytest.importorskip("PIL")
pytest.importorskip("pydantic")

LOOKS: list[tuple[str, dict[str, Any]]] = [("Read", {"file_path": "none.txt"})]
# These cost about 2 and 6 USD by themselves.
SPENDS_TWO = Reply("Let me see.", tools=LOOKS, output_tokens=100_000)
SPENDS_SIX = Reply("Let me see.", tools=LOOKS, output_tokens=300_000)


def goes_on() -> Reply:
    """What follows a message that has spent a budget: a model takes its time for it."""
    return Reply("Never ending.", hold=threading.Event())


def blocks_of(request: LoggedRequest) -> list[dict[str, Any]]:
    """The blocks of the last prompt that the model was sent."""
    (*_, content) = (m["content"] for m in request.messages if m["role"] == "user")
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def completions(kernel: Kernel, line: str) -> list[str]:
    """What the tab key offers at the end of a line, as a frontend asks for it."""
    request = kernel.client.complete(line)
    while True:
        message = kernel.client.get_shell_msg(timeout=PATIENCE)
        if message["parent_header"].get("msg_id") == request:
            content = message["content"]
            start, end = content["cursor_start"], content["cursor_end"]
            return [line[:start] + match + line[end:] for match in content["matches"]]


def test_a_line_is_a_prompt_of_the_same_conversation(kernel: Kernel, model: OfflineModel) -> None:
    """`%claude TEXT` goes on where `%%claude` was; quotes and braces are the prompt's own."""
    model.script(Reply("Hello Ann."), Reply("Ann."))
    kernel.run("%%claude --mode chat\nI am Ann.")
    cell = kernel.run('%claude Who\'s {x}, "I"? -m opus')

    assert cell.answer == "Ann."
    assert cell.value == ""
    assert roles_and_texts(model.main_requests[-1].messages) == [
        ("user", "I am Ann."),
        ("assistant", "Hello Ann."),
        ("user", 'Who\'s {x}, "I"? -m opus'),
    ]


def test_a_line_takes_options_before_its_prompt(kernel: Kernel, model: OfflineModel) -> None:
    """They end where the prompt begins."""
    kernel.run("%claude -m haiku --mode chat -s 'Be brief.' Hello -q")

    (request,) = model.main_requests
    assert "haiku" in request.body["model"]
    assert request.system_text.endswith("Be brief.")
    assert request.user_text == "Hello -q"


def test_the_answer_of_a_line_can_be_assigned(kernel: Kernel, model: OfflineModel) -> None:
    """And is not displayed a second time where it is not; also in a loop."""
    model.script(Reply("One."), Reply("Two."), Reply("Three."))
    cell = kernel.run("answer = %claude --mode chat Count\nprint(repr(answer))")
    assert cell.stdout == "'One.'\n"
    assert cell.answer == "One."

    cell = kernel.run("for _ in range(2):\n    %claude On\n")
    assert cell.answer == "Two.\nThree."
    assert cell.value == ""
    assert cell.stdout == ""


def test_format_puts_values_into_the_prompt(kernel: Kernel, model: OfflineModel) -> None:
    """With `-f` alone; doubled braces are braces."""
    kernel.run("name, rate = 'Ann', 0.12345")
    kernel.run("%%claude -f --mode chat\n{name!r} has {rate:.1%} of {{all}}")
    kernel.run("%%claude\n{name}")

    assert model.main_requests[0].user_text == "'Ann' has 12.3% of {all}"
    assert model.main_requests[1].user_text == "{name}"


def test_variables_are_described_and_not_sent_whole(kernel: Kernel, model: OfflineModel) -> None:
    """Type, shape, columns and the first rows, before the prompt; for this cell alone."""
    pytest.importorskip("pandas")
    kernel.run(
        "import pandas as pd\n"
        "df = pd.DataFrame({'price': range(100_000), 'city': 'Rome'})\nlabel = 'hello'"
    )
    kernel.run("%%claude --mode chat -v df --var label\nWhat is this?")
    kernel.run("%%claude\nAnd now?")

    first, second = (blocks_of(request) for request in model.main_requests)
    told, prompt = (block["text"] for block in first[-2:])
    assert prompt == "What is this?"
    for word in ("df", "DataFrame", "100,000", "price", "int64", "city", "label", "hello"):
        assert word in told
    assert len(told) < 3000
    assert "DataFrame" not in json.dumps(second)


def test_pictures_are_sent_beside_the_prompt(
    kernel: Kernel, model: OfflineModel, home: Path
) -> None:
    """A file, a URL, an expression and a cell's value, each as an image of its own."""
    kernel.run("from PIL import Image\nred = Image.new('RGB', (3, 2), 'red')\nred.save('red.png')")
    count = kernel.run("from IPython import get_ipython\nred.resize((6, 4))")
    out = count.reply["execution_count"]
    kernel.run(
        "%%claude --mode chat -i red.png -i https://example.org/a.png "
        f"--image 'red.resize((2, 3))' -i Out[{out}]\nLook."
    )

    blocks = blocks_of(model.main_requests[0])
    sources = [block["source"] for block in blocks if block["type"] == "image"]
    assert [source["type"] for source in sources] == ["base64", "url", "base64", "base64"]
    assert sources[1]["url"] == "https://example.org/a.png"
    from PIL import Image

    sizes = [
        Image.open(io.BytesIO(base64.b64decode(source["data"]))).size
        for source in sources
        if source["type"] == "base64"
    ]
    assert sizes == [(3, 2), (2, 3), (6, 4)]
    assert (home / "red.png").is_file()


def test_a_json_schema_gives_a_checked_dict(kernel: Kernel, model: OfflineModel) -> None:
    """`--schema` with `-o`: the value, not its text."""
    kernel.run(
        "person = {'type': 'object', 'properties': {'age': {'type': 'integer'}},\n"
        "          'required': ['age']}"
    )
    model.script(Reply(tools=[("StructuredOutput", {"age": 41})]))
    assert kernel.run("%%claude --mode chat --schema person -o ann\nAnn?").status == "ok"

    assert kernel.run("ann").value == "{'age': 41}"
    assert "StructuredOutput" in model.main_requests[0].tools
    kernel.run("%%claude\nAnd now in words.")
    assert "StructuredOutput" not in model.main_requests[-1].tools


def test_an_array_and_a_pydantic_model_are_schemas_too(kernel: Kernel, model: OfflineModel) -> None:
    """A list comes as a list, a model as its instance."""
    kernel.run(
        "from pydantic import BaseModel\n"
        "class Person(BaseModel):\n    name: str\n    age: int\n"
        "numbers = {'type': 'array', 'items': {'type': 'integer'}}"
    )
    model.script(
        Reply(tools=[("StructuredOutput", {"value": [1, 2]})]),
        Reply(tools=[("StructuredOutput", {"name": "Ann", "age": 41})]),
    )
    kernel.run("%%claude --mode chat --schema numbers -o n\nNumbers?")
    kernel.run("%%claude --schema Person -o p\nWho?")

    assert kernel.run("n, p").value == "([1, 2], Person(name='Ann', age=41))"


def test_an_answer_that_is_not_of_the_schema_fails_the_cell(
    kernel: Kernel, model: OfflineModel
) -> None:
    """The variable keeps what it had."""
    kernel.run("kept = 1\nnumbers = {'type': 'array', 'items': {'type': 'integer'}}")
    model.script(*[Reply("Some numbers.")] * 5)
    cell = kernel.run("%%claude --mode chat --schema numbers -o kept\nNumbers?")

    assert cell.status == "error"
    assert "no answer that fulfils the schema" in cell.failure
    assert kernel.run("kept").value == "1"


def test_out_keeps_the_text(kernel: Kernel, model: OfflineModel) -> None:
    """As the model has said it."""
    model.script(Reply("Some **bold** text."))
    kernel.run("%%claude --mode chat -o answer\nHello.")

    assert kernel.run("answer").value == "'Some **bold** text.'"


def test_quiet_shows_nothing_but_failures(kernel: Kernel, model: OfflineModel) -> None:
    """The answer is for `-o`."""
    model.script(Reply("Psst.", thinking="Hm."))
    cell = kernel.run("%%claude -q --mode chat -o answer\nHello.")
    assert (cell.displays, cell.stdout, cell.stderr, cell.value) == ({}, "", "", "")
    assert kernel.run("answer").value == "'Psst.'"

    kernel.run("%config ClaudeMagics.cli_path = '/no/such/claude'")
    assert "/no/such/claude" in kernel.run("%%claude --new -q\nHello.").failure


def test_effort_is_for_its_cell(kernel: Kernel, model: OfflineModel) -> None:
    """The API's own word for it; the next cell has the model's default again."""
    kernel.run("%%claude --mode chat --effort low\nHello.")
    kernel.run("%%claude\nHello.")

    first, second = (request.body.get("output_config") for request in model.main_requests)
    assert first == {"effort": "low"}
    assert second != first


def test_a_budget_ends_the_cell_and_says_how_to_go_on(kernel: Kernel, model: OfflineModel) -> None:
    """Run All stops; the next cell has its own budget, and the conversation goes on."""
    model.script(SPENDS_TWO, goes_on())
    cell = kernel.run("%%claude --budget 0.50\nSpend.")

    assert cell.failure == "This cell's budget is spent, and its answer is not finished."
    assert "budget of $0.50 is spent" in cell.text
    assert "--budget" in cell.text
    assert len(model.main_requests) <= 2
    model.clear()
    assert kernel.run("%%claude\n[[say On.]]").answer == "On."
    assert "Spend." in str(model.main_requests[-1].messages)


def test_agents_have_a_budget_of_five_dollars_unless_configured(
    kernel: Kernel, model: OfflineModel
) -> None:
    """0 sets no bound; a chat has none."""
    model.script(SPENDS_SIX, goes_on())
    cell = kernel.run("%%claude\nSpend.")
    assert cell.status == "error"
    assert "budget of $5.00 is spent" in cell.text
    model.clear()

    kernel.run("%config ClaudeMagics.budget_usd = 0")
    model.script(SPENDS_SIX, Reply("Spent."))
    cell = kernel.run("%%claude\nSpend.")
    assert (cell.status, cell.answer) == ("ok", "Let me see.\nSpent.")

    kernel.run("%config ClaudeMagics.budget_usd = 0.001")
    model.script(Reply("Spent.", output_tokens=1_000_000))
    assert kernel.run("%%claude --new --mode chat\nSpend.").status == "ok"


def test_max_turns_is_the_models_answers(kernel: Kernel, model: OfflineModel) -> None:
    """The cell ends well, and says what ended it."""
    model.script(Reply("Let me see.", tools=LOOKS), Reply("Never."))
    cell = kernel.run("%%claude --max-turns 1\nLook.")

    assert cell.answer == "Let me see."
    assert "--max-turns allows are used up" in cell.lines[-1]
    assert len(model.main_requests) == 1


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("%%claude --permision plan\nHi", "did you mean --permission?"),
        ("%%claude -p acceptEdit\nHi", "did you mean acceptEdits?"),
        ("%%claude --mode chat -p plan\nHi", "-p/--permission is for --mode agent"),
        ("%%claude --schema nothing\nHi", "--schema: nothing cannot be evaluated: NameError"),
        ("%%claude --schema 3\nHi", "--schema: A schema is a dict"),
        ("%%claude -v nothing\nHi", "-v nothing: There is no variable 'nothing'"),
        ("%%claude -i nothing.png\nHi", "-i nothing.png: There is no such file"),
        ("%%claude -f\n{1/0}", "-f: {1/0} cannot be evaluated: ZeroDivisionError"),
        ("%%claude --mcp none.json\nHi", "--mcp: 'none.json' cannot be read"),
        ("%%claude --resume nothing\nHi", "no conversation 'nothing': %claude_conversations"),
        ("%%claude -c new --fork\nHi", "no conversation 'new' to branch off"),
        ("%claude", "it needs a prompt: write it behind %claude."),
        ("%claude_rewind", "it needs the number of a checkpoint"),
        ("%claude_rewind 1 --fils", "did you mean --files?"),
        ("%claude_rewind one", "%claude_checkpoints lists them"),
        ("%claude_checkpoints --all", "there is no option --all"),
        ("%claude_checkpoints -c none", "There is no conversation 'none' in this kernel"),
        ("%claude_conversations now", "it takes no 'now' here"),
        ("%claude_export talk.txt", "ends neither in .md nor in .ipynb"),
        ("%claude_export /none/talk.md", "there is no folder '/none'"),
    ],
)
def test_a_bad_option_is_a_sentence(
    kernel: Kernel, model: OfflineModel, code: str, sentence: str
) -> None:
    """It names what is right, ends the cell in error without a traceback, and costs nothing."""
    cell = kernel.run(code)

    assert cell.status == "error"
    assert cell.reply["ename"] == "UsageError"
    assert sentence in cell.stderr
    assert len(cell.stderr.splitlines()) == 1
    assert model.main_requests == []


def test_a_refused_option_does_not_stay(kernel: Kernel, model: OfflineModel) -> None:
    """A chat that becomes an agent has not the permission that it was refused."""
    kernel.run("%%claude --mode chat\nHello.")
    assert kernel.run("%%claude -p bypassPermissions\nHi").status == "error"
    target = "no.txt"
    model.script(Reply(tools=[("Write", {"file_path": target, "content": "x"})]), Reply("So."))
    kernel.run("%config ClaudeMagics.approvals = 'deny'")
    cell = kernel.run("%%claude --mode agent\nWrite.")

    assert cell.status == "ok"
    assert model.main_requests[-1].tool_results[0].error


def test_status_tells_what_there_is(kernel: Kernel, model: OfflineModel) -> None:
    """Program, login, models, processes, and what each conversation has cost."""
    kernel.run("%%claude --mode chat -c notes\nHello.")
    text = kernel.run("%claude_status").text

    assert "2.1." in text
    assert "api_key" in text
    assert "opus, sonnet, haiku" in text
    assert "1 running" in text
    assert "Conversation notes" in text
    assert "chat, 1 turns" in text
    assert "Spent in this kernel" in text


def test_status_says_what_is_wrong(kernel: Kernel) -> None:
    """It is where one looks when nothing works: it does not fail itself."""
    kernel.run("%config ClaudeMagics.cli_path = '/no/such/claude'")
    cell = kernel.run("%claude_status")

    assert cell.status == "ok"
    assert "'/no/such/claude' is not an executable file" in cell.text


def test_login_help_names_the_ways(kernel: Kernel) -> None:
    """No process is needed for it."""
    text = kernel.run("%claude_login_help").text

    for word in ("ANTHROPIC_API_KEY", "run `claude` in a terminal", "CLAUDE_CODE_USE_BEDROCK"):
        assert word in text


def test_a_conversation_is_exported_as_markdown(
    kernel: Kernel, model: OfflineModel, home: Path
) -> None:
    """Shown without a file, written with one."""
    model.script(Reply("Hello *Ann*."), Reply("Ann."))
    kernel.run("%%claude --mode chat\nI am Ann.")
    kernel.run("%%claude\nWho am I?")

    shown = kernel.run("%claude_export").answer
    cell = kernel.run("%claude_export talk.md")
    written = (home / "talk.md").read_text()
    assert written.strip() == shown.strip()
    assert "> I am Ann.\n\nHello *Ann*." in written
    assert "> Who am I?\n\nAnn." in written
    assert cell.stdout == "Wrote 2 prompts and answers to talk.md.\n"


def test_an_exported_notebook_is_one_that_runs(
    kernel: Kernel, model: OfflineModel, home: Path
) -> None:
    """nbformat takes it, and its cells ask the same again."""
    model.script(Reply("Hello Ann."))
    kernel.run("%%claude --mode chat\nI am Ann.")
    assert kernel.run("%claude_export talk.ipynb").status == "ok"

    notebook = nbformat.read(home / "talk.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert sources == ["%load_ext jupyter_ccapi", "%%claude\nI am Ann."]
    for source in sources:
        assert kernel.run(source).status == "ok"
    assert model.main_requests[-1].user_text == "I am Ann."


def test_the_tab_key_completes_options_and_names(kernel: Kernel, model: OfflineModel) -> None:
    """Options, their values, models, conversations, variables, checkpoints; as a frontend asks."""
    assert "%%claude --model" in completions(kernel, "%%claude --mod")
    kernel.run("%%claude -c research --mode chat\nHello.")
    kernel.run("price_table = {}")

    assert completions(kernel, "%%claude -p acc") == ["%%claude -p acceptEdits"]
    assert "%%claude -m sonnet" in completions(kernel, "%%claude -m son")
    assert completions(kernel, "%%claude -c res") == ["%%claude -c research"]
    assert completions(kernel, "%%claude -v price_") == ["%%claude -v price_table"]
    # None of the conversation that cells without a name have: there is none.
    assert "%claude_rewind --undo" in completions(kernel, "%claude_rewind ")
    kernel.run("%%claude --mode chat\nHello.")
    assert "%claude_rewind 1" in completions(kernel, "%claude_rewind ")
