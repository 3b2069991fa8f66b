"""The stop button wakes a loop that waits: a signal that arrives right before it does, too."""

import asyncio
import signal

from jupyter_ccapi.notebook.stop_button import sigint_cancels


async def test_a_signal_wakes_the_loop_while_a_task_waits_and_not_after() -> None:
    """Python has a byte written for each signal, in the moment in which it arrives."""
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with sigint_cancels() as pressed:
            ours = signal.set_wakeup_fd(-1)
            signal.set_wakeup_fd(ours)
            assert ours not in (-1, before)
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(30)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
    assert pressed.yes
    after = signal.set_wakeup_fd(before)
    assert after == before
    assert signal.getsignal(signal.SIGINT) is handler


async def test_whoever_presses_twice_is_waited_for() -> None:
    """A cell ends when the clicks are over: ipykernel would lose its reply with a late one."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    with sigint_cancels() as pressed:
        try:
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            task.uncancel()
        second: list[float] = []

        def again() -> None:
            second.append(loop.time())
            signal.raise_signal(signal.SIGINT)

        loop.call_later(0.1, again)
        await pressed.over()
        assert second
        assert loop.time() - second[0] > 0.1
        assert task.cancelling() == 0
