"""The house rules, held over the sources: sizes, docstrings, annotations, and what stands where."""

import ast
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jupyter_ccapi._version import __version__
from tests.house import ruler

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "jupyter_ccapi"
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(source, name) for name, source in SOURCES.items()}

TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "jupyter-config",
    "jupyter_ccapi",
    "labextension",
    "notebooks",
    "pyproject.toml",
    "tests",
}

# Written in halves, so that this file is searched like every other.
NOT_WRITTEN = {
    "a note to finish later": r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b",
    "a folder of one machine": r"(?<![\w.~-])/(wo" r"rk|ro" r"ot)/",
    "a package index's host": r"registry\.np"
    r"mjs|registry\.ya"
    r"rnpkg|\bpy"
    r"pi\.org|pythonho"
    r"sted",
}


def test_modules_have_at_most_500_lines() -> None:
    """A module is read in one sitting."""
    lengths = {name: len(source.splitlines()) for name, source in SOURCES.items()}
    assert {name: lines for name, lines in lengths.items() if lines > 500} == {}


def test_functions_have_at_most_80_lines() -> None:
    """Docstrings included."""
    long = [
        f"{name}: {function} has {lines} lines"
        for name, tree in TREES.items()
        for function, lines in ruler.function_lengths(tree)
        if lines > 80
    ]
    assert long == []


@pytest.mark.parametrize(
    ("measure", "share"),
    [
        pytest.param(ruler.public_things, 0.95, id="public things documented"),
        pytest.param(ruler.annotated_functions, 0.99, id="functions annotated"),
    ],
)
def test_nearly_all_of_the_package_is(
    measure: Callable[[ast.Module], Iterator[tuple[str, bool]]], share: float
) -> None:
    """The share of the package that is documented, and annotated; a failure lists what is not."""
    results = [
        (f"{module}: {name}", done)
        for module, tree in TREES.items()
        for name, done in measure(tree)
    ]
    missing = [name for name, done in results if not done]
    assert len(missing) <= (1 - share) * len(results), "\n".join(missing)


def test_the_wire_imports_neither_asyncio_nor_tornado() -> None:
    """`openai/` is pure translation: its tests need no event loop."""
    wire = {name: tree for name, tree in TREES.items() if name.startswith("jupyter_ccapi/openai/")}
    assert wire
    found = {
        name: ruler.imported_packages(tree) & {"asyncio", "tornado"} for name, tree in wire.items()
    }
    assert not any(found.values()), found


def tracked_files() -> list[str]:
    """What git tracks, as paths from the root; skips the test outside a git checkout."""
    answer = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    files = [name for name in answer.stdout.split("\0") if name]
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: the sdist holds other files")
    assert files, f"git tracks no file here: {answer.stderr}"
    return files


def test_the_top_level_is_exactly_as_listed() -> None:
    """A newcomer finds the room in ten seconds: nothing else lies in the hall."""
    assert {name.split("/")[0] for name in tracked_files()} == TOP_LEVEL


def test_no_file_holds_what_is_not_to_be_published() -> None:
    """Neither notes to finish later, nor paths of a machine, nor a package index's host."""
    found = []
    for name in tracked_files():
        try:
            text = (ROOT / name).read_text("utf-8")
        except (UnicodeDecodeError, FileNotFoundError):  # an image; deleted but not yet committed
            continue
        found += [
            f"{name}: {match[0]!r} is {what}"
            for what, pattern in NOT_WRITTEN.items()
            for match in re.finditer(pattern, text)
        ]
    assert found == []


def test_the_panel_has_the_version_of_the_package() -> None:
    """Both are released as one."""
    package = json.loads((ROOT / "labextension" / "package.json").read_text("utf-8"))
    assert package["version"] == __version__


def test_the_changelog_opens_with_the_version_of_the_package() -> None:
    """What is released is said there first."""
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## \[?(\d[^]\s]*)", changelog, re.MULTILINE)
    assert versions[:1] == [__version__]
