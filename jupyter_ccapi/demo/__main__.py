"""`python -m jupyter_ccapi.demo`: the offline model alone, until Ctrl-C or SIGTERM."""

import argparse
import signal
import sys
import threading

from jupyter_ccapi.demo.server import OfflineModel


def main() -> int:
    """Serve and print the URL in one line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jupyter_ccapi.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument(
        "--word-delay", type=float, default=0.0, metavar="S", help="seconds after each word"
    )
    options = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        with OfflineModel(port=options.port, word_delay=options.word_delay) as model:
            print(model.url, flush=True)
            while not ended.wait(1):  # in steps, for Ctrl-C on Windows
                pass
    except (OSError, OverflowError) as error:
        print(f"The offline model cannot listen on port {options.port}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
