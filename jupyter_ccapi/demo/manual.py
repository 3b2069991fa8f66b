"""The prompts of the manual's notebooks that ask for work, and how the offline model does it.

It understands nothing: it knows these prompts by heart, says so, and has Claude Code do what the
real Claude would be likely to. All other prompts get its usual answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jupyter_ccapi.demo import reading, words
from jupyter_ccapi.demo.replies import Reply, ToolCall

SEARCH = "ToolSearch"
"""Where this tool is, there are others that are not on offer until they are searched for."""

BY_HEART = (
    "*(The offline demo model knows this prompt of the manual by heart: it understands nothing.)*"
)

_NOTES = """The warmer the day, the more iced coffee: 41 cups at 19 degrees, 92 at 31.
Friday's 810 cups are probably a slip for 81.
"""
_IN_FAHRENHEIT = """day,degrees,cups
Mon,66,41
Tue,72,55
Wed,75,63
Thu,81,78
Fri,84,81
Sat,88,92
Sun,79,74
"""
_FAHRENHEIT = """day,fahrenheit
Mon,66
Tue,72
Wed,75
Thu,81
Fri,84
Sat,88
Sun,79
"""
_MENU = "# Iced coffee\n\n- Black{}\n- With milk{}\n- With ice cream{}\n"
_MEAN = """others = [sold for day, sold in zip(days, cups) if day != "Fri"]
usual = sum(others) / len(others)
usual
"""
_BEST_DAYS = """import csv

with open("coffee.csv") as file:
    rows = sorted(csv.DictReader(file), key=lambda row: -int(row["cups"]))
for row in rows[:3]:
    print(row["day"], row["cups"])
"""


def _call(name: str, /, **given: Any) -> Reply:
    return Reply(tools=(ToolCall(name, given),))


def _write(path: str, content: str) -> Reply:
    return _call("Write", file_path=path, content=content)


_READ = _call("Read", file_path="coffee.csv")

SCRIPTS: Mapping[str, Sequence[Reply]] = {
    # 01 First steps
    "What is in my variable point? Look at it.": [
        _call("mcp__client__inspect_variable", name="point"),
    ],
    # 02 Pictures and data
    "One number in cups has slipped. On which day, what is written, and what was probably meant?": [
        _call("StructuredOutput", day="Fri", written=810, meant=81),
    ],
    "Write a caption for the chart of the mended cups, in one sentence and without Markdown.": [
        Reply("A week of iced coffee, in cups: the hotter the day, the more of them."),
    ],
    # 03 Tools and approvals
    "How do the sales go with the heat? Look into coffee.csv.": [_READ, Reply(_NOTES)],
    "Write that into notes.md, in two sentences.": [
        _write("notes.md", _NOTES),
        Reply("It is in `notes.md`."),
    ],
    "See to it that notes.md has your two sentences, and a third one on which day was the "
    "warmest.": [
        _write("notes.md", f"{_NOTES}Saturday was the warmest day.\n"),
        Reply("`notes.md` has all three."),
    ],
    "Keep a copy of coffee.csv as coffee.orig.csv.": [
        _call("Bash", command="cp coffee.csv coffee.orig.csv", description="Keep a copy"),
        Reply("`coffee.orig.csv` is the copy."),
    ],
    "Compute the mean of cups without Friday in my kernel, and leave it in a variable called "
    "usual.": [
        _call("mcp__client__inspect_variable", name="cups"),
        _call("mcp__client__run_python", code=_MEAN),
        Reply("The mean is in `usual`."),
    ],
    "Propose a cell that prints the three best days of coffee.csv. Do not run it.": [
        _call("mcp__client__add_cell", source=_BEST_DAYS),
        Reply("It is below this cell, and yours to run."),
    ],
    # 04 Checkpoints and rewind
    "Friday's 810 cups in coffee.csv must be 81. Mend that.": [
        _READ,
        _call("Edit", file_path="coffee.csv", old_string="Fri,29,810", new_string="Fri,29,81"),
        Reply("Friday has 81 cups now."),
    ],
    "I need the degrees in Fahrenheit.": [
        _write("coffee.csv", _IN_FAHRENHEIT),
        Reply("The degrees in `coffee.csv` are in Fahrenheit now."),
    ],
    "Write the degrees in Fahrenheit into a new file, fahrenheit.csv, and leave coffee.csv as it "
    "is.": [
        _write("fahrenheit.csv", _FAHRENHEIT),
        Reply("They are in `fahrenheit.csv`."),
    ],
    # 05 The Python API
    "Write a menu.md for a small café, with three sorts of iced coffee.": [
        _write("menu.md", _MENU.format("", "", "")),
        Reply("The menu is in `menu.md`."),
    ],
    "Judge this note of a guest: The iced coffee was wonderful!": [
        _call("StructuredOutput", happy=True, about="coffee"),
    ],
    "Add the price of each sort to menu.md.": [
        _write("menu.md", _MENU.format(", 3.20", ", 3.60", ", 4.80")),
        Reply("Each sort has its price in `menu.md`."),
    ],
    "How many cups will we sell at 30 degrees? Ask the forecast.": [
        _call("mcp__cafe__forecast", degrees=30),
    ],
}
"""What the model says and does at a prompt, message by message."""


def script(body: Any) -> Sequence[Reply]:
    """Return the messages for a prompt of the manual; none for any other prompt, and where a tool
    that it takes is not to be had.
    """
    # What a cell tells of variables stands before its prompt.
    prompt = reading.user_text(body).rpartition("</variable>\n")[2]
    replies = SCRIPTS.get(prompt, ())
    offered = set(reading.tool_names(body))
    if SEARCH in offered:
        return replies
    return replies if all(name in offered for one in replies for name, _ in one.tools) else ()


def said_next(body: Any, replies: Sequence[Reply]) -> Reply:
    """Return the message of a script whose turn it is. Once a tool has failed, the script is over,
    and what was answered is quoted.
    """
    step = reading.answers_since_user(body)
    results = reading.tool_results(body)
    if any(result.error for result in results):
        step = len(replies)
    if step < len(replies) and replies[step].tools:
        return replies[step]
    text = replies[step].text.strip() if step < len(replies) else words.quoted(results)
    return Reply(f"{text or words.NOTED}\n\n{BY_HEART}")
