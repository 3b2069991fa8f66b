"""What is typed on the first line of the magics, and what is said of what cannot be."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.error import UsageError

from jupyter_ccapi.claude.options import PERMISSION_MODES
from jupyter_ccapi.notebook.command import (
    Asked,
    ExportAsked,
    RewindAsked,
    check_mode,
    read_checkpoints,
    read_claude,
    read_export,
    read_nothing,
    read_rewind,
    split_line,
)
from jupyter_ccapi.notebook.command_table import (
    CLAUDE,
    CONVERSATIONS,
    EXPORT,
    LAST,
    NOW,
    REWIND,
    STATUS,
)


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("", Asked()),
        ("-m opus -q", Asked(model="opus", quiet=True)),
        ("--model=claude-sonnet-4-5", Asked(model="claude-sonnet-4-5")),
        ("-c 'my analysis' --new", Asked(conversation="my analysis", new=True)),
        ("--resume", Asked(resume=LAST)),
        ("--resume --fork", Asked(resume=LAST, fork=NOW)),
        ("--resume 0aef-12 --fork 3", Asked(resume="0aef-12", fork=3)),
        ("--mode agent -p acceptEdits", Asked(mode="agent", permission="acceptEdits")),
        (
            "--tools 'Read, Bash(git log:*,git show:*)'",
            Asked(tools=("Read", "Bash(git log:*,git show:*)")),
        ),
        ("--no-tools --mode chat", Asked(tools=(), mode="chat")),
        ("-i 'a b.png' --image fig", Asked(images=("a b.png", "fig"))),
        ("-v df --var größe", Asked(variables=("df", "größe"))),
        ('-f -s "It\'s \\"short\\"."', Asked(format=True, system='It\'s "short".')),
        ("-s '- one - two'", Asked(system="- one - two")),
        ("--system=-x", Asked(system="-x")),
        (
            "--schema \"{'type': 'array'}\" -o result",
            Asked(schema="{'type': 'array'}", out="result"),
        ),
        ("--effort max --budget $0.50", Asked(effort="max", budget=0.5)),
        ("--max-turns 12 -m a -m b", Asked(max_turns=12, model="b")),
    ],
)
def test_a_line_is_read(line: str, asked: Asked) -> None:
    """Options in any order, long or short; a value with spaces is quoted."""
    assert read_claude(line) == asked


def test_the_servers_of_a_file_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the form of `.mcp.json`."""
    servers = {"files": {"command": "serve", "args": ["-x"]}}
    (tmp_path / "my servers.json").write_text(json.dumps({"mcpServers": servers}), "utf-8")
    monkeypatch.chdir(tmp_path)
    assert read_claude("--mcp 'my servers.json'").mcp == servers


WRONG = [
    ("Hello", "it takes no 'Hello' here: the prompt goes below the %%claude line."),
    ("-- Hello", "the prompt goes below the %%claude line."),
    ("--modle opus", "there is no option --modle: did you mean --model?"),
    ("--mod opus", "there is no option --mod: did you mean --model or --mode?"),
    ("--mode", "--mode needs a value, chat|agent"),
    ("-mopus", "there is no option -mopus: did you mean -m opus?"),
    ("-model opus", "there is no option -model: did you mean --model?"),
    ("-qf", "there is no option -qf: did you mean -q -f?"),
    ("-x", "there is no option -x. %%claude?"),
    ("-m", "-m/--model needs a value, NAME"),
    ("-m -q", "-m/--model needs a value, NAME"),
    ("-m 'a b'", "-m/--model: 'a b' cannot be the name of a model."),
    ("-m=-b", "-m/--model: '-b' cannot be the name of a model."),
    ("-c ''", "-c/--conversation: '' is empty."),
    ("--new=yes", "--new takes no value."),
    ("--new --resume", "--new and --resume do not go together."),
    ("--fork 2 --new", "--new and --fork do not go together."),
    ("--fork 0", "--fork: '0' is no number of a checkpoint"),
    ("--fork two", "--fork: 'two' is no number of a checkpoint"),
    ("--mode talk", "--mode: 'talk' is not one of chat, agent."),
    (
        "-p acceptedits",
        "-p/--permission: 'acceptedits' is not one of default, acceptEdits, plan, dontAsk, auto, "
        "bypassPermissions; did you mean acceptEdits?",
    ),
    ("--tools Read,", "--tools: 'Read,' is not a list of tools"),
    ("--tools Read --no-tools", "--tools and --no-tools do not go together."),
    ("--mode chat -p plan", "-p/--permission is for --mode agent: a chat has no tools."),
    ("--mode chat --tools Read", "--tools is for --mode agent: a chat has no tools."),
    ("-v df.head()", "-v/--var: 'df.head()' cannot be the name of a variable."),
    ("-o class", "-o/--out: 'class' cannot be the name of a variable."),
    ("-o 2nd", "-o/--out: '2nd' cannot be the name of a variable."),
    ("--effort hard", "--effort: 'hard' is not one of low, medium, high, xhigh, max."),
    *[
        (f"--budget {usd}", f"--budget: '{usd}' is not an amount in USD above 0")
        for usd in ("0", "-1", "nan", "inf", "much")
    ],
    *[
        (f"--max-turns {count}", f"--max-turns: '{count}' is not a whole number from 1 on.")
        for count in ("0", "-2", "1.5", "many", "9" * 5000)
    ],
    ("-s 'It is", 'a quote in "-s \'It is" is not closed.'),
]


@pytest.mark.parametrize(("line", "message"), WRONG, ids=[line[:30] for line, _ in WRONG])
def test_what_cannot_be_is_a_sentence_that_names_the_option(line: str, message: str) -> None:
    """And where all of them are shown."""
    with pytest.raises(UsageError) as caught:
        read_claude(line)
    assert str(caught.value).startswith("%%claude: ")
    assert message in str(caught.value)
    assert str(caught.value).endswith(" %%claude? shows what it understands.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: "),
        (b"{", "is not JSON: "),
        (b"\xff\xfe\xff", "is not JSON: "),
        (b"[" * 100_000, "is not JSON: "),
        (b"[]", 'has no object "mcpServers" at its top'),
        (b'{"mcpServers": []}', 'has no object "mcpServers" at its top'),
        (b'{"mcpServers": {"files": "serve"}}', 'has no object for its server "files"'),
    ],
    ids=["missing", "broken", "binary", "deep", "a list", "a list inside", "no server"],
)
def test_a_file_of_servers_that_is_none(
    content: bytes | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with it is said, with its name."""
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("servers.json").write_bytes(content)
    with pytest.raises(UsageError, match=rf"--mcp: 'servers\.json' {message}"):
        read_claude("--mcp servers.json")


def test_a_chat_has_no_use_for_tools_however_it_became_one() -> None:
    """The mode stays from one cell to the next."""
    check_mode(Asked(permission="plan"), "agent")
    check_mode(Asked(tools=()), "chat")
    with pytest.raises(UsageError, match="-p/--permission is for --mode agent"):
        check_mode(Asked(permission="plan"), "chat")
    with pytest.raises(UsageError, match="--mcp is for --mode agent"):
        check_mode(Asked(mcp={"files": {}}), "chat")


def test_the_permissions_are_the_sdks() -> None:
    """It is too slow to be imported for them."""
    from claude_agent_sdk import PermissionMode

    assert sorted(PERMISSION_MODES) == sorted(get_args(PermissionMode))


@pytest.mark.parametrize(
    ("line", "asked", "prompt"),
    [
        ("  What's   a tuple?  ", Asked(), "What's   a tuple?"),
        ("-m opus don't  do it", Asked(model="opus"), "don't  do it"),
        ("-s 'be brief' -q say \"hi\"", Asked(system="be brief", quiet=True), 'say "hi"'),
        ("--model=opus -i", Asked(model="opus"), None),
        ("--resume tell me", Asked(resume=LAST), "tell me"),
        ("--resume 0aef12bc tell me", Asked(resume="0aef12bc"), "tell me"),
        ("--resume=mine tell me", Asked(resume="mine"), "tell me"),
        ("--fork 3 days", Asked(fork=3), "days"),
        ("--fork three days", Asked(fork=NOW), "three days"),
        ("-q -- -m is an option", Asked(quiet=True), "-m is an option"),
        ("- a list", Asked(), "- a list"),
        ("-5 degrees, in F?", Asked(), "-5 degrees, in F?"),
        ("tell -m opus", Asked(), "tell -m opus"),
        ("-q", Asked(quiet=True), ""),
        ("", Asked(), ""),
    ],
)
def test_a_line_magic_takes_options_and_then_the_prompt(
    line: str, asked: Asked, prompt: str | None
) -> None:
    """The prompt is left as it was written."""
    if prompt is None:
        with pytest.raises(UsageError, match=r"^%claude: -i/--image needs a value"):
            split_line(line)
    else:
        assert split_line(line) == (asked, prompt)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--modle opus hi", "there is no option --modle: did you mean --model?"),
        ("-s 'be brief", 'a quote in "\'be brief" is not closed.'),
        ("--new --fork 2 hi", "--new and --fork do not go together."),
        ("--mode chat -p plan hi", "-p/--permission is for --mode agent"),
    ],
)
def test_what_a_line_magic_cannot_read(line: str, message: str) -> None:
    """It speaks of itself by its own name."""
    with pytest.raises(UsageError) as caught:
        split_line(line)
    assert str(caught.value).startswith(f"%claude: {message}")


@given(st.text())
def test_any_line_is_read_or_refused(line: str) -> None:
    """Nothing but a `UsageError` comes of what a person types."""
    for read in (read_claude, split_line, read_rewind, read_export, read_checkpoints):
        with suppress(UsageError):
            read(line)


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("3", RewindAsked(3)),
        ("3 --files", RewindAsked(3, conversation=False)),
        ("--conversation 3", RewindAsked(3, files=False)),
        ("3 --conversation --files --dry-run", RewindAsked(3, dry_run=True)),
        ("--force 3 -c 'my plot'", RewindAsked(3, force=True, name="my plot")),
        ("--undo", RewindAsked(undo=True)),
        ("--undo --force -c b", RewindAsked(undo=True, force=True, name="b")),
    ],
)
def test_a_rewind_is_read(line: str, asked: RewindAsked) -> None:
    """Both files and conversation, unless one is named alone."""
    assert read_rewind(line) == asked


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "it needs the number of a checkpoint: %claude_checkpoints lists them."),
        ("--files", "it needs the number of a checkpoint"),
        ("0", "N: '0' is no number of a checkpoint"),
        ("last", "N: 'last' is no number of a checkpoint"),
        ("3 4", "it takes no '4' here: a conversation's name follows -c."),
        ("3 --dry", "there is no option --dry: did you mean --dry-run?"),
        ("--undo 3", "--undo takes no number, and here is 3."),
        ("--undo --files", "--undo takes back what the last rewind did"),
    ],
)
def test_a_rewind_that_cannot_be(line: str, message: str) -> None:
    """A sentence in the same style."""
    with pytest.raises(UsageError) as caught:
        read_rewind(line)
    assert str(caught.value).startswith(f"%claude_rewind: {message}")


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("", ExportAsked()),
        ("--ipynb -c a", ExportAsked(None, notebook=True, name="a")),
        ("talk.md", ExportAsked(Path("talk.md"))),
        ("talk.IPYNB", ExportAsked(Path("talk.IPYNB"), notebook=True)),
        ("'my talk'", ExportAsked(Path("my talk.md"))),
        ("--ipynb talk", ExportAsked(Path("talk.ipynb"), notebook=True)),
    ],
)
def test_an_export_is_read(line: str, asked: ExportAsked) -> None:
    """What is written is told by the file's name, or by the option."""
    assert read_export(line) == asked


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("talk.txt", "FILE: 'talk.txt' ends neither in .md nor in .ipynb."),
        ("talk.md --ipynb", "--ipynb writes a notebook, and talk.md names Markdown."),
        ("folder", "FILE: 'folder' is a folder."),
        ("none/talk.md", "FILE: 'none/talk.md' cannot be written: there is no folder 'none'."),
        ("a.md b.md", "it takes no 'b.md' here."),
        ("~nobody-at-all/a.md", "FILE: '~nobody-at-all/a.md' begins with a user who has no home"),
    ],
)
def test_an_export_that_cannot_be(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written for it."""
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    with pytest.raises(UsageError) as caught:
        read_export(line)
    assert str(caught.value).startswith(f"%claude_export: {message}")


def test_the_magics_without_much_to_say() -> None:
    """They refuse what they do not understand, too."""
    assert read_checkpoints("") is None
    assert read_checkpoints("-c 'my plot'") == "my plot"
    read_nothing(STATUS, " ")
    with pytest.raises(UsageError, match=r"^%claude_conversations: it takes no 'all' here\."):
        read_nothing(CONVERSATIONS, "all")
    with pytest.raises(UsageError, match=r"^%claude_status: there is no option --all\."):
        read_nothing(STATUS, "--all")


def test_help_shows_every_option_in_its_group() -> None:
    """No line is wider than a help pane."""
    lines = CLAUDE.help().splitlines()
    assert lines[:3] == [
        "Usage:",
        "    %%claude [options]",
        "    The prompt, on as many lines as it takes.",
    ]
    assert [line for line in lines[3:] if line and not line.startswith(" ")] == [
        "Which conversation:",
        "For this cell and the next ones of the conversation:",
        "For this cell alone:",
    ]
    assert "  -m, --model NAME         opus, sonnet, haiku or a full name" in lines
    assert (
        "      --fork [CHECKPOINT]  go on in a copy of it, as it was just before this prompt"
        in ("\n".join(lines))
    )
    for option in CLAUDE.table:
        assert any(line.strip().startswith(", ".join(option.flags)) for line in lines)
    assert max(map(len, lines)) <= 88
    assert "    %claude_rewind --undo [options]" in REWIND.help()
    assert STATUS.help() == "Usage:\n    %claude_status"


def test_a_magics_docstring_has_its_options() -> None:
    """Which is what `%%claude?` shows."""

    @EXPORT.documented
    def claude_export(line: str) -> None:
        """Write a conversation to a file.

        So that others can read it.
        """

    told: Any = claude_export.__doc__
    assert told.startswith(
        "Write a conversation to a file.\n\nSo that others can read it.\n\nUsage:"
    )
    assert "      --ipynb  write a notebook where FILE does not say" in told
