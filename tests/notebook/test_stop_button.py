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
