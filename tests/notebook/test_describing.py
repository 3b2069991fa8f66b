"""Any object is described in few words, and none can do harm by that."""

import collections
import dataclasses
import datetime
import enum
import io
import itertools
import signal
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.figure import Figure
from pydantic import BaseModel

from jupyter_ccapi.notebook.describing import describe, one_line, size
from jupyter_ccapi.notebook.variables import find, listing, variables_text

pd = pytest.importorskip("pandas")


def lines(value: object, **options: Any) -> list[str]:
    """The lines that describe a value, without the first, which names its type."""
    return describe("it", value, **options).splitlines()[1:]


def test_a_table_is_told_by_its_schema_and_its_first_rows() -> None:
    """Types, nulls, memory and index; never the whole of it."""
    table = pd.DataFrame({"id": range(1000), "name": ["Ann", None] * 500, "when": pd.NaT})
    text = describe("table", table)
    assert text.splitlines()[:4] == [
        "table: pandas.DataFrame",
        "1,000 rows x 3 columns",
        text.splitlines()[2],
        "index: RangeIndex of 1,000 int64, 0 … 999",
    ]
    assert text.splitlines()[2].startswith("memory: ")
    assert "  id: int64\n  name: " in text
    assert ", 500 null\n  when: datetime64" in text
    assert text.count("Ann") == 3
    assert len(text) < 600
    assert describe("table", table, most=20_000).count("Ann") == 13


def test_a_wide_table_is_told_in_part() -> None:
    """Its columns are counted, and some of them named."""
    text = describe("wide", pd.DataFrame(np.zeros((3, 1000))))
    assert "3 rows x 1,000 columns" in text
    assert "  39: float64\n  … and 960 more" in text
    assert "(… 980 more columns)" in text


def test_a_table_of_broken_or_huge_objects_is_told_all_the_same() -> None:
    """What cannot be shown says why; long cells are cut."""

    class Broken:
        def __repr__(self) -> str:
            raise ValueError("boom")

    told = lines(pd.DataFrame({"broken": [Broken()], "long": ["x" * 10**6]}))
    assert told[0] == "1 rows x 2 columns"
    assert "  broken: object" in told
    assert "first rows: (it raised ValueError: boom)" in told
    assert max(map(len, lines(pd.DataFrame({"long": ["x" * 10**6]})))) < 100


def test_what_belongs_to_tables_is_told() -> None:
    """A column, an index of several levels, groups, and an empty table."""
    table = pd.DataFrame({"kind": list("aab"), "weight": [1.0, 2.5, float("nan")]})
    column = lines(table["weight"])
    assert column[0].startswith("3 values of float64, named 'weight'")
    assert {"nulls: 1", "min: 1.0", "max: 2.5", "mean: 1.75"} < set(column)
    assert lines(table.groupby("kind")) == [
        "by: kind",
        "groups: 2",
        "of: 3 rows x 2 columns: kind, weight",
    ]
    levels = lines(table.set_index(["kind", "weight"]).index)
    assert levels[0].startswith("MultiIndex of 3 object, ('a', np.float64(1.0)) …")
    assert levels[0].endswith("named kind, weight")
    assert lines(pd.DataFrame())[0] == "0 rows x 0 columns"
    assert one_line(table) == "pandas.DataFrame: 3 rows x 2 columns: kind, weight"


def test_arrays_are_told_by_shape_range_and_first_values() -> None:
    """NaN apart; objects by their types alone."""
    assert lines(np.array([[1.0, np.nan], [3.0, 5.0]])) == [
        "shape (2, 2), dtype float64, 32 bytes",
        "1 NaN",
        "min 1.0, max 5.0, mean 3",
        "first values: 1, nan, 3, 5",
    ]
    assert lines(np.full(2, np.nan))[1:] == ["2 NaN", "first values: nan, nan"]
    assert lines(np.array([object()]))[1] == "of object"
    assert lines(np.array(["2020-01-01"], "datetime64[D]"))[1] == "min 2020-01-01, max 2020-01-01"
    assert lines(np.zeros((0, 3)))[1:] == ["empty"]
    assert lines(np.float32(1.5)) == ["1.5"]
    assert one_line(np.zeros((2, 3))) == "numpy.ndarray: 2 x 3, float64"
    assert size(np.zeros(2**20)) == "8.0 MB"


def test_of_a_huge_array_only_a_part_is_read() -> None:
    """And it is said so. This one takes no memory, and would take a second to read."""
    huge = np.broadcast_to(np.int8(7), (10**9,))
    began = time.monotonic()
    assert lines(huge)[1] == "min 7, max 7, mean 7, of the first 10,000,000"
    assert time.monotonic() - began < 5


def test_a_figure_is_told_by_what_is_drawn() -> None:
    """Titles, labels and kinds of artists."""
    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 2])
    axes.set(title="Growth", xlabel="time")
    told = "title 'Growth', x 'time', 1 lines"
    assert lines(figure) == ["6.4 x 4.8 inches, 1 axes", f"  {told}"]
    assert lines(axes) == [told]


class Colour(enum.Enum):
    """An enumeration."""

    RED = 1


@dataclasses.dataclass
class Point:
    """A point."""

    x: int
    near: list[Any] = dataclasses.field(default_factory=list)


class Slotted:
    """No __dict__."""

    __slots__ = ("side", "unset")

    def __init__(self) -> None:
        self.side = 2


class Model(BaseModel):
    """Of pydantic."""

    a: int
    b: list[int]


Pair = collections.namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, ["None"]),
        pytest.param(10**4000, ["int of 13,288 bits"], id="a large int"),
        (True, ["True"]),
        (1.5, ["1.5"]),
        ("two\nlines", ["9 characters:", "two", "lines"]),
        (b"\x00\x01", ["2 bytes:", r"b'\x00\x01'"]),
        ([1, 2], ["2 entries, all int", "[1, 2]"]),
        ((1,), ["1 entry, all int", "(1,)"]),
        (set(), ["0 entries", "set()"]),
        (frozenset({1}), ["1 entry, all int", "frozenset({1})"]),
        ({"a": [1, {"b": 2}]}, ["1 entry, all list", "  'a': [1, {'b': 2}]"]),
        ([[[[1]]]], ["1 entry, all list", "  [0] [[<list of 1>]]"]),
        (collections.Counter("aab"), ["2 entries, all int", "  'a': 2", "  'b': 1"]),
        (Pair(1, "x"), ["2 entries: 1 int, 1 str", "  left = 1", "  right = 'x'"]),
        (Colour.RED, ["Colour.RED"]),
        (range(3), ["range(0, 3)"]),
        (datetime.date(2020, 1, 2), ["datetime.date(2020, 1, 2)"]),
        (Path("/nowhere"), ["repr: PosixPath('/nowhere')"]),
        (Model(a=1, b=[2]), ["  a: 1", "  b: [2]"]),
        (types.SimpleNamespace(a=1), ["repr: namespace(a=1)", "  .a: 1"]),
        (io.StringIO("text"), ["closed: False"]),
    ],
)
def test_values_are_told_as_python_writes_them(value: object, told: list[str]) -> None:
    """Of bounded depth."""
    assert lines(value) == told


def test_large_containers_and_texts_are_told_in_part() -> None:
    """With their length, and the types of what is in them."""
    assert lines(["a", 1] * 500)[0] == "1,000 entries: 500 str, 500 int"
    assert lines(["a", 1] * 500)[-1] == "  … and 980 more"
    assert lines({i: str(i) for i in range(1000)})[0] == "1,000 entries, all str"
    text = describe("text", "words " * 10_000)
    assert text.startswith("text: str\n60,000 characters, the beginning:\nwords words")
    assert len(text) <= 4000
    loop: list[Any] = []
    loop.append(loop)
    assert lines(loop) == ["1 entry, all list", "  [0] [[<list of 1>]]"]


def test_objects_are_told_by_what_they_hold() -> None:
    """A dataclass, and an object with slots."""
    assert lines(Point(1, [Point(2)])) == [
        "  .x: 1",
        "  .near: [<tests.notebook.test_describing.Point>]",
        "methods: none",
    ]
    assert lines(Slotted())[0] == "  .side: 2"


def area(radius: float, *, pi: float = 3.0) -> float:
    """The area of a circle."""
    return pi * radius**2


def test_functions_classes_and_modules_are_told_by_their_code() -> None:
    """Signature and source; docstrings and names."""
    told = lines(area)
    assert told[0] == "area(radius: float, *, pi: float = 3.0) -> float"
    assert told[-1] == "    return pi * radius**2"
    assert lines(len)[1] == "Return the number of items in a container."
    assert lines(Point)[:2] == [
        "class Point(x: int, near: list[typing.Any] = <factory>) -> None",
        "A point.",
    ]
    assert "names: " in lines(dataclasses)[-1]
    assert one_line(area).startswith("function area(radius")


def test_what_is_read_only_once_is_not_read() -> None:
    """Generators, coroutines, iterators."""

    def count() -> Iterator[int]:
        yield 1
        yield 2

    async def later() -> None: ...

    generator, iterator, coroutine = count(), iter([1, 2]), later()
    assert lines(generator)[0].endswith("it was not consumed")
    assert lines(iterator) == ["an iterator; it was not consumed"]
    assert "not consumed" in lines(coroutine)[0]
    assert lines(itertools.count())[-1] == "an iterator; it was not consumed"
    assert (list(generator), list(iterator)) == ([1, 2], [1, 2])
    coroutine.close()
    assert "at its end" in lines(generator)[0]


def test_lazy_data_is_not_computed() -> None:
    """Not even by its repr."""

    def compute(self: object) -> str:
        raise AssertionError("computed")

    kind = type("DataFrame", (), {"__repr__": compute, "__module__": "dask.dataframe.core"})
    assert lines(kind()) == ["stands for work that is not done yet; nothing of it was computed"]
    assert one_line(kind()) == "dask.dataframe.core.DataFrame"


def raiser(error: BaseException) -> Callable[..., Any]:
    """A method that raises."""

    def method(*_: object) -> Any:
        raise error

    return method


class Unspeakable(Exception):
    """An error whose message cannot be had."""

    __str__ = raiser(ValueError("no"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("boom"), "repr: (it raised ValueError: boom)"),
        (Unspeakable(), "repr: (it raised Unspeakable, whose message cannot be read)"),
        (RecursionError(), "repr: (it raised RecursionError)"),
    ],
)
def test_an_object_that_raises_breaks_nothing(error: Exception, said: str) -> None:
    """What it raised is said; the rest is told."""
    names = ("__repr__", "__len__", "__getattr__", "__bool__", "__eq__", "__hash__", "__iter__")
    kind = type("Bad", (), {"__module__": "bad", **dict.fromkeys(names, raiser(error))})
    told = lines(kind())
    assert told[0] == said
    assert one_line(kind()) == "<bad.Bad>".strip("<>")
    assert one_line([kind()]) == "[<bad.Bad>]"


def test_a_builtins_subclass_is_read_by_the_builtins_methods() -> None:
    """What its class overrides does not run."""
    names = ("__repr__", "__len__", "__iter__", "__getitem__", "items", "__str__", "__format__")
    for base, value in ((dict, {"a": 1}), (list, [1]), (tuple, (1,)), (str, "a"), (int, 5)):
        kind: Any = type("Sub", (base,), dict.fromkeys(names, raiser(ValueError())))
        told = "\n".join(lines(kind(value)))
        assert "raised" not in told
        assert ("1" in told) or base is int
    lying = Mock(spec=dict)
    assert lines(lying)[0].startswith("repr: <Mock spec='dict'")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no such timer")
def test_an_object_that_takes_for_ever_is_given_up() -> None:
    """Though it catches every exception; the timer that runs already goes on."""

    class Slow:
        def __repr__(self) -> str:
            while True:
                try:
                    time.sleep(600)
                except Exception:
                    continue

    before = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    assert lines(Slow()) == ["(more takes longer than 2 s to find out)"]
    after = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    assert after[0] is before[0]
    assert before[1][0] - 30 < after[1][0] <= before[1][0]  # the test run's own time limit


def test_describing_works_in_any_thread() -> None:
    """Where no signal can be had."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(describe("x", [1])))
    thread.start()
    thread.join()
    assert found == ["x: list\n1 entry, all int\n[1]"]


def test_a_huge_repr_is_cut() -> None:
    """To half of what a description may take."""
    kind = type("Huge", (), {"__repr__": lambda _: "x" * 10**7})
    assert 1900 < len(describe("huge", kind())) < 2200


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.dates()
    | st.complex_numbers(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers())
    ),
)


@given(anything, st.integers(200, 3000))
def test_no_description_is_longer_than_it_may_be(value: object, most: int) -> None:
    """Whatever is described."""
    assert len(describe("it", value, most=most)) <= most
    assert "\n" not in one_line(value)


@pytest.fixture(scope="module")
def running_shell() -> Iterator[InteractiveShell]:
    """A shell in this process."""
    running = InteractiveShell.instance()
    yield running
    running.restore_sys_module_state()  # type: ignore[no-untyped-call]
    InteractiveShell.clear_instance()


@pytest.fixture
def shell(running_shell: InteractiveShell) -> Iterator[InteractiveShell]:
    """The shell; variables of the test before are gone."""
    names = dict(running_shell.user_ns)
    yield running_shell
    running_shell.user_ns.clear()
    running_shell.user_ns.update(names)


def test_variables_for_a_prompt_are_told_apart(shell: InteractiveShell) -> None:
    """Each once, with what it is called; dotted names too."""
    shell.user_ns.update(zoo=["ape"], point=Point(4))
    text = variables_text(shell, ["zoo", "point.x", "zoo"])
    assert text == (
        "Variables of the notebook's kernel as they are now:\n"
        "<variable>\nzoo: list\n1 entry, all str\n  [0] 'ape'\n</variable>\n"
        "<variable>\npoint.x: int\n4\n</variable>"
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("zo", "-v zo: There is no variable 'zo': did you mean zoo?"),
        ("nothing", "-v nothing: There is no variable 'nothing'."),
        ("zoo[0]", "-v zoo[0]: 'zoo[0]' is no name: names and dotted names can be looked at"),
        ("zoo.appendd", "-v zoo.appendd: zoo has no attribute 'appendd': did you mean append?"),
        ("", "-v : '' is no name"),
    ],
)
def test_a_name_that_is_none_is_a_usage_error(
    shell: InteractiveShell, name: str, said: str
) -> None:
    """Which names the option, and the name that was probably meant."""
    shell.user_ns["zoo"] = []
    with pytest.raises(UsageError) as error:
        variables_text(shell, [name])
    assert str(error.value).startswith(said)


def test_names_are_looked_up_without_running_a_users_code(shell: InteractiveShell) -> None:
    """Of a class that is not known neither properties nor `__getattr__` run."""
    ran = []

    class Tricky:
        def __init__(self) -> None:
            self.plain = 1

        @property
        def computed(self) -> None:
            ran.append("property")

        def __getattr__(self, name: str) -> None:
            ran.append(name)

        def method(self) -> None: ...

    shell.user_ns.update(tricky=Tricky(), pair=Pair(1, 2), table=pd.DataFrame({"a": [1]}))
    assert find(shell, "tricky.plain") == 1
    assert find(shell, "pair.left") == 1
    assert callable(find(shell, "tricky.method"))
    assert list(find(shell, "table.columns")) == ["a"]  # type: ignore[call-overload]
    for name in ("computed", "absent"):
        with pytest.raises(LookupError):
            find(shell, f"tricky.{name}")
    assert ran == []


def test_a_listing_runs_no_code_of_the_objects(shell: InteractiveShell) -> None:
    """One that raises is listed by its type."""
    names = ("__repr__", "__len__", "__getattr__", "__class__", "__sizeof__", "__eq__")
    error = property(raiser(KeyError()))
    bad = type("Bad", (), {"__module__": "bad", **dict.fromkeys(names, error)})
    shell.user_ns.update(bad=bad(), table=pd.DataFrame({"a": [1]}))
    assert listing(shell).splitlines() == [
        "bad: bad.Bad",
        "table: pandas.DataFrame: 1 rows x 1 columns: a [140 bytes]",
    ]
