"""The ruler sees what the house rules are about: a blind measure would hold any rule."""

import ast

import pytest

from tests.house import ruler


def test_a_public_thing_without_docstring_is_seen_and_a_private_one_is_not_asked() -> None:
    """Modules, classes, functions and methods count; names with an underscore do not."""
    tree = ast.parse(
        "class Turn:\n"
        "    'A turn.'\n"
        "    def end(self): ...\n"
        "    def _end(self): ...\n"
        "def query():\n"
        "    'Ask once.'\n"
        "class _Queue: ...\n"
    )
    assert list(ruler.public_things(tree)) == [
        ("module", False),
        ("Turn", True),
        ("end", False),
        ("query", True),
    ]


def test_a_setter_needs_no_docstring_beside_its_property() -> None:
    """The property itself does."""
    tree = ast.parse(
        "class Turn:\n"
        "    @property\n"
        "    def model(self): ...\n"
        "    @model.setter\n"
        "    def model(self, value): ...\n"
    )
    assert list(ruler.public_things(tree))[2:] == [("model", False)]


@pytest.mark.parametrize(
    ("source", "annotated"),
    [
        ("def f(a: int, *b: int, c: int, **d: int) -> None: ...", True),
        ("async def f() -> None: ...", True),
        ("def f(): ...", False),
        ("def f(a) -> None: ...", False),
        ("def f(a, /) -> None: ...", False),
        ("def f(*a) -> None: ...", False),
        ("def f(*, a) -> None: ...", False),
        ("def f(**a) -> None: ...", False),
        ("def f(self) -> None: ...", False),
        ("class C:\n    def f(self) -> None: ...", True),
        ("class C:\n    def f(self, a) -> None: ...", False),
        ("class C:\n    @staticmethod\n    def f(a) -> None: ...", False),
    ],
)
def test_a_missing_annotation_is_seen(source: str, annotated: bool) -> None:
    """Whichever kind of parameter lacks it, or the return."""
    assert list(ruler.annotated_functions(ast.parse(source))) == [("f", annotated)]


def test_lines_of_a_function_count_from_def_to_its_end() -> None:
    """Nested functions count by themselves and for the one around them."""
    tree = ast.parse("def f():\n    'Doc.'\n\n    def g():\n        return 1\n    return g\n")
    assert list(ruler.function_lengths(tree)) == [("f", 6), ("g", 2)]


def test_an_import_inside_a_function_is_seen() -> None:
    """A late import is an import."""
    tree = ast.parse("import json\nfrom . import x\ndef f():\n    from asyncio.tasks import Task\n")
    assert ruler.imported_packages(tree) == {"json", "asyncio"}
