"""`run_sync` in plain Python, in a running loop, and in the cells of a real kernel."""

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from types import ModuleType
from typing import Any, cast

import pytest

from jupyter_ccapi.notebook.blocking import run_sync
from tests.notebook.kernels import ROOT, Kernel

SETUP = """
import asyncio
from jupyter_ccapi.notebook.blocking import run_sync

async def asks_back(loop):
    async def says(word):
        await asyncio.sleep(0.01)
        print(word)
    def other_thread():
        asyncio.run_coroutine_threadsafe(says("asked"), loop).result(30)
    await asyncio.to_thread(other_thread)
    print("answered")

async def endless():
    try:
        print("started", flush=True)
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.01)
        print("ended", flush=True)

clicks = []
get_ipython().kernel.comm_manager.register_target(
    "clicks", lambda comm, message: clicks.append(message["content"]["data"]["said"])
)
"""


@pytest.fixture(params=["nest_asyncio", "nest_asyncio2"])
def nesting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Either of the two modules, as if the other one were not installed."""
    module: ModuleType = pytest.importorskip(request.param)
    (other,) = {"nest_asyncio", "nest_asyncio2"} - {request.param}
    monkeypatch.setitem(sys.modules, other, None)
    return module


async def later(value: object) -> object:
    """Return a value, but not at once."""
    await asyncio.sleep(0.01)
    return value


def in_a_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a loop of its own."""
    with asyncio.Runner() as runner:
        return runner.run(coroutine)


def in_a_process(code: str) -> str:
    """What a Python prints that runs this with warnings as errors."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stderr == ""
    return done.stdout


def test_without_a_loop_it_is_plain_asyncio() -> None:
    """As in a script, and in a cell of terminal IPython."""
    assert run_sync(later(1)) == 1


@pytest.mark.usefixtures("nesting")
def test_a_running_loop_is_driven_from_within() -> None:
    """The caller's task, its sister tasks and what threads send to the loop all go on."""

    async def main() -> list[object]:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        sister = asyncio.create_task(later("sister"))

        async def from_a_thread() -> object:
            return await asyncio.to_thread(
                lambda: asyncio.run_coroutine_threadsafe(later("thread"), loop).result(30)
            )

        async def twice() -> object:
            return run_sync(later("twice"))

        told = [run_sync(later("once")), run_sync(from_a_thread()), run_sync(twice())]
        assert asyncio.current_task() is task
        assert asyncio.get_running_loop() is loop
        return [*told, await sister, await asyncio.wait_for(later("after"), 30)]

    assert in_a_loop(main()) == ["once", "thread", "twice", "sister", "after"]


@pytest.mark.usefixtures("nesting")
def test_an_error_is_raised_as_it_is() -> None:
    """And a cancellation from inside is no press of the stop button."""

    async def fails() -> None:
        raise LookupError("not there")

    async def waits_for_what_was_cancelled() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async def main() -> None:
        with pytest.raises(LookupError, match="not there"):
            run_sync(fails())
        with pytest.raises(asyncio.CancelledError):
            run_sync(waits_for_what_was_cancelled())

    in_a_loop(main())


@pytest.mark.usefixtures("nesting")
def test_sigint_cancels_and_waits_for_the_end() -> None:
    """Nothing of it goes on afterwards, and the handler is the one from before."""
    told: list[str] = []

    async def waits() -> None:
        try:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            told.append("tidied up")

    async def main() -> None:
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            run_sync(waits())
        assert told == ["tidied up"]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert signal.getsignal(signal.SIGINT) is before
        await later(None)

    in_a_loop(main())


@pytest.mark.usefixtures("nesting")
def test_an_interrupt_elsewhere_on_the_loop_ends_it_too() -> None:
    """User code that runs on the loop meanwhile has Python's own handler."""
    told: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            told.append("ended")

    async def main() -> None:
        def interrupted() -> None:
            raise KeyboardInterrupt

        asyncio.get_running_loop().call_later(0.01, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_sync(waits())
        assert told == ["ended"]

    in_a_loop(main())


def test_only_the_one_loop_is_changed(nesting: ModuleType) -> None:
    """`asyncio` and all other loops are as before: the core's thread runs on one of them."""
    names = ("asyncio", "asyncio.events", "asyncio.tasks", "asyncio.futures", "tornado.concurrent")
    asyncio.get_event_loop_policy()  # made when it is first asked for
    places: list[Any] = [sys.modules[name] for name in names]
    places += [type(asyncio.get_event_loop_policy()), asyncio.SelectorEventLoop]
    before = [dict(vars(place)) for place in places]

    async def main() -> None:
        run_sync(later(1))
        assert "_nest_patched" in vars(type(asyncio.get_running_loop()))

    in_a_loop(main())
    assert [dict(vars(place)) for place in places] == before
    assert not hasattr(asyncio.SelectorEventLoop, "_nest_patched")
    assert nesting.__name__ in sys.modules


@pytest.mark.parametrize("name", ["nest_asyncio", "nest_asyncio2"])
def test_a_loop_that_the_user_made_nestable_is_taken_as_it_is(name: str) -> None:
    """Nothing warns. In a process of its own: the user's way changes all of it."""
    pytest.importorskip(name)
    told = in_a_process(
        f"import asyncio, {name}\n"
        f"{name}.apply(loop := asyncio.new_event_loop())\n"
        "from jupyter_ccapi.notebook.blocking import run_sync\n"
        "async def later(): await asyncio.sleep(0.01); return 'nested'\n"
        "async def main(): return run_sync(later())\n"
        "kind = type(loop)\n"
        "print(loop.run_until_complete(main()), type(loop) is kind)\n"
        "loop.close()"
    )
    assert told == "nested True\n"


def test_importing_it_changes_nothing() -> None:
    """Neither module is even imported before it is needed."""
    told = in_a_process(
        "import asyncio, sys\n"
        "before = dict(vars(asyncio))\n"
        "import jupyter_ccapi.notebook.blocking\n"
        "changed = [name for name in before if vars(asyncio)[name] is not before[name]]\n"
        "print(changed, [name for name in sys.modules if name.startswith('nest_asyncio')])"
    )
    assert told == "[] []\n"


def test_a_loop_that_cannot_be_nested_is_a_sentence() -> None:
    """Such as uvloop's. The coroutine is not left lying about."""
    coroutine = later(1)
    asyncio._set_running_loop(cast(asyncio.AbstractEventLoop, object()))
    try:
        with pytest.raises(RuntimeError, match=r"builtins\.object\) cannot be driven .*`await "):
            run_sync(coroutine)
    finally:
        asyncio._set_running_loop(None)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


WAYS = {"a sync cell": "run_sync({})", "an async cell": "await asyncio.sleep(0)\nrun_sync({})"}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


@pytest.fixture
def working_kernel(running_kernel: Kernel) -> Iterator[Kernel]:
    """A kernel that has what the cells below need, and that works as ever after each test."""
    assert running_kernel.run(SETUP).status == "ok"
    yield running_kernel
    running_kernel.run("await asyncio.sleep(0)")
    assert running_kernel.run("print('works', asyncio.get_running_loop().is_running())").stdout == (
        "works True\n"
    )


@ways
def test_a_cell_waits_for_what_the_kernels_loop_has_to_do(working_kernel: Kernel, way: str) -> None:
    """Another thread has the kernel's loop do something meanwhile, as the core's does."""
    cell = working_kernel.run(f"loop = asyncio.get_running_loop()\n{way.format('asks_back(loop)')}")
    assert (cell.status, cell.stderr, cell.stdout) == ("ok", "", "asked\nanswered\n")


@ways
def test_cells_that_wait_in_line_are_run_after_it(working_kernel: Kernel, way: str) -> None:
    """As Run All sends them: all at once."""
    code = f"loop = asyncio.get_running_loop()\n{way.format('asks_back(loop)')}\nclicks.append(1)"
    asking, waiting = working_kernel.start(code), working_kernel.start("print(clicks)")
    asking.wait_until(lambda shown: "answered" in shown.stdout)
    assert waiting.finish().stdout == "[1]\n"


@ways
def test_the_stop_button_ends_it(working_kernel: Kernel, way: str) -> None:
    """The cell ends as an interrupted one does, and nothing of it goes on."""
    cell = working_kernel.start(way.format("endless()"))
    cell.wait_until(lambda shown: "started" in shown.stdout)
    working_kernel.interrupt()
    cell.finish()

    assert cell.reply["ename"] == "KeyboardInterrupt"
    assert cell.stdout == "started\nended\n"
    left = "[t.get_coro().__name__ for t in asyncio.all_tasks() if 'endless' in repr(t)]"
    assert working_kernel.run(f"print({left})").stdout == "[]\n"


@ways
def test_a_comm_message_arrives_when_the_cell_has_ended(working_kernel: Kernel, way: str) -> None:
    """One that was sent meanwhile, and one after it; nothing is printed of either."""
    client = working_kernel.client
    cell = working_kernel.start(way.format("endless()"))
    cell.wait_until(lambda shown: "started" in shown.stdout)
    for number in ("meanwhile", "afterwards"):
        content = {"comm_id": number, "target_name": "clicks", "data": {"said": number}}
        client.shell_channel.send(client.session.msg("comm_open", content))
        if number == "meanwhile":
            working_kernel.interrupt()
            cell.finish()

    told = working_kernel.run(
        "async with asyncio.timeout(60):\n"
        "    while len(clicks) < 2: await asyncio.sleep(0.01)\n"
        "print(clicks)"
    )
    assert told.stdout == "['meanwhile', 'afterwards']\n"
    assert (cell.stdout, cell.stderr) == ("started\nended\n", "")
