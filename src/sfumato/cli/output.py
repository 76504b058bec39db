"""Output of the verbs: results on standard output, everything else on standard error."""

import argparse
import atexit
import gc
import sys
import time
from typing import Any

from sfumato.files import strict_json
from sfumato.reporting import Reporter

# At the end of the process, the collector would look at each of torch's objects again, which takes a second.
atexit.register(gc.freeze)


class Output:
    """Prints results. With --json, standard output holds one JSON object and nothing else.

    ``reporter`` is the console that the functions below report to; ``began`` is when the command began, by
    ``time.monotonic``, before torch was loaded.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.began = time.monotonic()
        from sfumato.runs.console import Console

        self._json: bool = args.json
        self.reporter: Reporter = Console(sys.stderr if args.json else sys.stdout)

    def say(self, *lines: str) -> None:
        """Print lines of the result; without one, an empty line."""
        for line in lines or ("",):
            self.reporter.info(line)

    def result(self, data: dict[str, Any]) -> None:
        """Print the machine-readable result if --json asked for it."""
        from sfumato.runs.console import is_main_process

        if self._json and is_main_process():
            print(strict_json(data))
