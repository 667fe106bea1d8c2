"""The command line of a program of several ranks: what is wrong with it is said once."""

import argparse
import io
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

from gfm_pretrain.launcher import announced_rank, detect_launcher


def parse_once(parse: Callable[[], argparse.Namespace], *, program: str) -> argparse.Namespace:
    """What `parse`, of argparse, returns; if it fails, one rank speaks for all.

    Call on every rank. Alone nothing is different, and nothing slow is imported.

    Raises:
        SystemExit: 0 after --help, 2 after a mistake.
    """
    if detect_launcher(os.environ) == "single":
        return parse()
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            return parse()
    except SystemExit as stop:
        if stop.code:
            sys.exit(_say_once(said.getvalue(), program))
        if announced_rank(os.environ) == 0:
            sys.stdout.write(said.getvalue())
        raise


def _say_once(text: str, program: str) -> int:
    """Meet first: a rank that ends before rank 0 has spoken would take it down in silence."""
    from gfm_pretrain.failure import UsageError, run_main

    def main(_: object) -> None:
        raise UsageError(text)

    return run_main(main, program=program, device="cpu")
