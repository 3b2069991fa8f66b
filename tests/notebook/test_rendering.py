"""What is shown beside the cards, from the events alone."""

from dataclasses import replace

import pytest

from jupyter_ccapi.claude import TurnEnd, Usage
from jupyter_ccapi.notebook import rendering
from jupyter_ccapi.notebook.markdown import drawable

END = TurnEnd(
    reason="completed",
    text="Hi.",
    stop_reason="end_turn",
    model="claude-sonnet-4-5",
    usage=Usage(input_tokens=1200, output_tokens=56, cache_read_tokens=34000),
    cost_usd=0.01234,
    seconds=2.13,
)


@pytest.mark.parametrize(
    ("end", "summary"),
    [
        (END, "claude-sonnet-4-5 · 35,200 tokens in (34,000 cached), 56 out · $0.0123 · 2.1 s"),
        (
            replace(END, usage=Usage(10, 2, 300, 40), cost_usd=0.0, checkpoint=3),
            "claude-sonnet-4-5 · 350 tokens in (300 cached, 40 newly cached), 2 out · 2.1 s"
            " · checkpoint 3",
        ),
        (
            replace(END, usage=Usage(10, 2, 0, 40), cost_usd=0.0, seconds=0.0),
            "claude-sonnet-4-5 · 50 tokens in (40 newly cached), 2 out",
        ),
        (
            replace(END, reason="interrupted", usage=Usage(10, 2), cost_usd=0.0),
            "Stopped · claude-sonnet-4-5 · 10 tokens in, 2 out · 2.1 s",
        ),
        (replace(END, cost_usd=0.00001, usage=Usage()), "claude-sonnet-4-5 · < $0.0001 · 2.1 s"),
        (
            replace(END, stop_reason="max_tokens", usage=Usage(), cost_usd=0.0, seconds=0.0),
            "Cut off at the model's output limit · claude-sonnet-4-5",
        ),
        (None, "Stopped"),
    ],
)
def test_the_footer_says_how_the_turn_ended_and_what_it_took(
    end: TurnEnd | None, summary: str
) -> None:
    """What is not known is left out."""
    assert rendering.summary(end) == summary
    assert rendering.footer(end)["text/plain"] == summary


@pytest.mark.parametrize(
    ("budget", "sentence"),
    [
        (5.0, "Stopped: this cell's budget of $5.00 is spent."),
        (0.005, "Stopped: this cell's budget of $0.005 is spent."),
        (None, "Stopped: this cell's budget is spent."),
    ],
)
def test_a_spent_budget_is_said_with_how_to_go_on(budget: float | None, sentence: str) -> None:
    """On a line of its own, above the figures."""
    bundle = rendering.footer(replace(END, reason="max_budget"), budget)
    notice, figures = bundle["text/plain"].split("\n")

    assert notice == f"{sentence} Go on with the next %%claude cell, or give more with --budget."
    assert figures == rendering.summary(END)
    assert bundle["text/html"].count("<div") == 2
    assert sentence in bundle["text/html"]


def test_too_many_steps_are_said_with_the_option_that_bounds_them() -> None:
    """As a budget is."""
    notice = rendering.summary(replace(END, reason="max_turns")).split("\n")[0]

    assert notice.startswith("Stopped: the steps that --max-turns allows are used up.")


def test_a_long_thought_is_one_line_that_shows_its_end() -> None:
    """So that nothing below it jumps while the model thinks."""
    thoughts = "First thought.\n\n" + "and so on " * 50 + "to the end.\n"
    line = rendering.thinking(thoughts)["text/plain"]

    assert line == "Thinking… …so on " + "and so on " * 6 + "to the end."


def test_nothing_of_what_a_model_says_becomes_html_outside_the_answer() -> None:
    """Thoughts are text, whatever they look like."""
    evil = "</details><script>alert(1)</script>"

    for bundle in (rendering.thinking(evil), rendering.thought(evil, 1.0)):
        assert "<script>" not in bundle["text/html"]
        assert bundle["text/html"].count("</details>") <= 1


def test_everything_reads_as_plain_text_too() -> None:
    """For frontends and diffs that know no HTML."""
    bundles = [
        rendering.waiting(),
        rendering.stopping(),
        rendering.broken_off(),
        rendering.answer("**Hi**"),
        rendering.partial_answer("**Hi"),
        rendering.thinking("Hm"),
        rendering.thought("Hm", 3.4),
        rendering.footer(END),
    ]
    assert [bundle["text/plain"] for bundle in bundles] == [
        "Waiting for Claude…",
        "Stopping…",
        "Broken off",
        "**Hi**",
        "**Hi",
        "Thinking… Hm",
        "Thought for 3 s",
        rendering.summary(END),
    ]


@pytest.mark.parametrize(
    ("written", "drawn"),
    [
        ("Some text ", "Some text "),
        ("Look:\n```py", "Look:\n```py\n```"),
        ("```py\nx = '$'", "```py\nx = '$'\n```"),
        ("```py\nx = 1\n", "```py\nx = 1\n```"),
        ("```py\nx = 1\n``", "```py\nx = 1\n```"),
        ("```py\nx = 1\n```", "```py\nx = 1\n```"),
        ("```py\nx = 1\n```\nThat is *all", "```py\nx = 1\n```\nThat is *all"),
        ("````md\n```py\nx", "````md\n```py\nx\n````"),
        ("~~~\n```\nx", "~~~\n```\nx\n~~~"),
        ("A list:\n-", "A list:"),
        ("A list:\n- one\n2.", "A list:\n- one"),
        ("A rule:\n--", "A rule:"),
        ("Some\n#", "Some"),
        ("``", ""),
        ("It is **very", "It is **very**"),
        ("It is **very good*", "It is **very good**"),
        ("It is **very good**", "It is **very good**"),
        ("It is **", "It is"),
        ("2 ** 3", "2 ** 3"),
        ("Call `load", "Call `load`"),
        ("Call `", "Call "),
        ("Call `load()` or `a**b", "Call `load()` or `a**b`"),
        ("See [the page](https://exa", "See the page"),
        ("See [the page](https://example.org)", "See [the page](https://example.org)"),
        ("See [1]", "See [1]"),
    ],
)
def test_half_written_markdown_is_closed_for_drawing(written: str, drawn: str) -> None:
    """A block of code is a block, a list makes no heading of the line above it."""
    assert drawable(written) == drawn
    assert rendering.partial_answer(written)["text/plain"] == written
    assert rendering.answer(written)["text/markdown"] == written


def test_markdown_that_streams_in_never_draws_a_heading_that_does_not_stay() -> None:
    """Of each beginning of a text the lines but the last are those of the text."""
    text = "Steps:\n- first\n- **second**\n\n```py\nx = 1\n```\n\n# Result\nDone."

    for end in range(len(text)):
        before = text[:end].split("\n")[:-1]
        assert drawable(text[:end]).split("\n")[: len(before)] == before
