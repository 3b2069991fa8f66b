"""What is shown, from the events alone."""

from dataclasses import replace

import pytest

from jupyter_ccapi.claude import TurnEnd, Usage
from jupyter_ccapi.notebook import rendering

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
        rendering.answer("**Hi**"),
        rendering.thinking("Hm"),
        rendering.thought("Hm", 3.4),
        rendering.footer(END),
    ]
    assert [bundle["text/plain"] for bundle in bundles] == [
        "Waiting for Claude…",
        "Stopping…",
        "**Hi**",
        "Thinking… Hm",
        "Thought for 3 s",
        rendering.summary(END),
    ]
