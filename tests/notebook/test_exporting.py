"""A conversation as Markdown and as a notebook."""

import json
from datetime import datetime
from typing import Any

import nbformat
from hypothesis import given
from hypothesis import strategies as st

from jupyter_ccapi.claude import Message
from jupyter_ccapi.notebook.exporting import Told, to_markdown, to_notebook, told

PICTURE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
CALL = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls -l\necho <b>"}}


def result(content: Any, *, is_error: bool = False) -> Message:
    """What the tool answered to the call above."""
    block = {"type": "tool_result", "tool_use_id": "t1", "content": content, "is_error": is_error}
    return Message("user", [block])


CONVERSATION = [
    Message("user", "List the files.\n\nAll of them."),
    Message("assistant", [{"type": "thinking", "thinking": "Hm."}, CALL]),
    result("a.py\nb.py"),
    Message("assistant", "Two: **a** and **b**."),
    Message("user", [{"type": "text", "text": "And this?"}, {"type": "image", "source": PICTURE}]),
    Message("assistant", "A picture."),
]

MARKDOWN = """\
# Conversation with Claude

## 1

> List the files.
>
> All of them.

<details><summary>Thoughts</summary>

```text
Hm.
```

</details>

<details><summary>Bash: ls -l</summary>

```bash
ls -l
echo <b>
```

```text
a.py
b.py
```

</details>

Two: **a** and **b**.

## 2

> And this?
>
> *(image/png)*

A picture.
"""


def test_markdown_has_the_prompts_the_answers_and_the_tools_folded() -> None:
    """The whole document, as it is read."""
    assert to_markdown(told(CONVERSATION)) == MARKDOWN


def test_a_prompt_has_its_number_and_its_time() -> None:
    """Where they are known."""
    when = datetime(2026, 3, 1, 9, 5)
    turns = [Told(Message("user", "a"), (), 7, when), Told(Message("user", "b"))]
    document = to_markdown(turns, title="Sales\nof March")
    assert document.startswith("# Sales of March\n\n## 7 · 2026-03-01 09:05\n\n> a\n")
    assert "\n## Prompt\n\n> b\n" in document


def test_a_notebook_has_a_cell_for_each_prompt_with_its_answer() -> None:
    """It is a valid notebook, and can be run again."""
    notebook = nbformat.reads(to_notebook(told(CONVERSATION)), as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)

    title, setup, first, second = notebook.cells
    assert title.source == "# Conversation with Claude"
    assert setup.source == "%load_ext jupyter_ccapi"
    assert first.source == "%%claude\nList the files.\n\nAll of them."
    (answer,) = first.outputs
    assert answer.output_type == "display_data"
    assert answer.data["text/markdown"].endswith("Two: **a** and **b**.")
    assert second.source == "%%claude\nAnd this?"
    picture, answer = second.outputs
    assert picture.data["image/png"] == PICTURE["data"]
    assert answer.data["text/markdown"] == "A picture."


def test_a_picture_that_a_tool_gave_is_shown_in_the_notebook() -> None:
    """In MCP's form too."""
    shown = {"type": "image", "data": "iVBORw0KGgo=", "mimeType": "image/png"}
    turns = told([Message("user", "Plot."), Message("assistant", [CALL]), result([shown])])
    cells = json.loads(to_notebook(turns))["cells"]
    assert cells[-1]["outputs"][-1]["data"]["image/png"] == "iVBORw0KGgo="
    assert "*(image)*" in to_markdown(turns)


def test_a_call_that_failed_says_so_and_one_without_a_result_stands_alone() -> None:
    """What a tool of ours is called by the model is its own name here."""
    ours = {**CALL, "name": "mcp__client__run_python", "input": {"code": "1/0", "timeout": 3}}
    failed = to_markdown(
        told([Message("user", "a"), Message("assistant", [ours]), result("Oh.", is_error=True)])
    )
    assert "<summary>run_python: 1/0 (failed)</summary>" in failed
    assert (
        '```python\n1/0\n```\n\n```json\n{\n  "timeout": 3\n}\n```\n\n```text\nOh.\n```' in failed
    )
    alone = to_markdown(told([Message("user", "a"), Message("assistant", [{**CALL, "input": {}}])]))
    assert "<summary>Bash</summary>" in alone


def test_a_fence_is_longer_than_any_in_it() -> None:
    """So that what a tool said cannot end its block."""
    turns = told([Message("user", "a"), Message("assistant", [CALL]), result("````\n# no heading")])
    assert "`````text\n````\n# no heading\n`````" in to_markdown(turns)


def test_a_block_that_an_answer_left_open_is_closed() -> None:
    """An answer that was stopped swallows nothing that follows it."""
    for begun, end in [
        ("```python\nx = 1", "\n```"),
        ("~~~~\n```\nx", "\n~~~~"),
        ("```\na\n```", ""),
    ]:
        turns = [
            Told(Message("user", "a"), (Message("assistant", begun),)),
            Told(Message("user", "b")),
        ]
        assert f"\n\n{begun}{end}\n\n## Prompt\n" in to_markdown(turns)


def test_a_prompt_that_came_with_results_is_a_prompt() -> None:
    """As after a stopped turn; what Claude Code adds by itself is none, and is not shown."""
    note = {"type": "text", "text": "<system-reminder>Be good.</system-reminder>"}
    after = [*result("stopped").blocks, {"type": "text", "text": "Go on."}]
    turns = told(
        [
            Message("user", [{"type": "text", "text": "Begin."}, note]),
            Message("assistant", [CALL]),
            Message("user", [*result("fine").blocks, note]),
            Message("assistant", [CALL]),
            Message("user", after),
        ]
    )
    assert [turn.number for turn in turns] == [1, 2]
    assert turns[1].prompt.blocks == [{"type": "text", "text": "Go on."}]
    assert "> Begin.\n\n" in to_markdown(turns)
    assert "stopped" in to_markdown(turns[:1])
    assert "Be good" not in to_markdown(turns) + to_notebook(turns)


words = st.text(max_size=30)
blocks = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": words}),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": words}),
    st.fixed_dictionaries(
        {
            "type": st.just("tool_use"),
            "id": st.just("t1"),
            "name": words,
            "input": st.dictionaries(words, st.one_of(words, st.integers(), st.none()), max_size=2),
        }
    ),
    st.fixed_dictionaries(
        {"type": st.just("tool_result"), "tool_use_id": st.just("t1"), "content": words}
    ),
)
contents = st.one_of(words, st.lists(blocks, max_size=3))
conversations = st.lists(st.builds(Message, st.sampled_from(["user", "assistant"]), contents))


@given(conversations)
def test_any_conversation_can_be_written(messages: list[Message]) -> None:
    """Twice the same, as UTF-8, and as a notebook that is valid."""
    turns = told(messages)
    assert to_markdown(turns).encode() == to_markdown(told(messages)).encode()
    written = to_notebook(turns)
    assert written.encode() == to_notebook(told(messages)).encode()
    nbformat.validate(nbformat.reads(written, as_version=4))  # type: ignore[no-untyped-call]
