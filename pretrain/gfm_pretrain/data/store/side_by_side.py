"""Processes on one machine that work side by side; if one fails, all end."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess


def run_side_by_side(share: Callable[[int], None], n_processes: int) -> None:
    """Call `share(number)` in processes 0 … n − 1.

    Args:
        share: Can be pickled, as a `functools.partial` of a module's function can.
        n_processes: At least 1.

    Raises:
        Exception: what one of them raised; the others are ended.
        ChildProcessError: one was ended from outside.
    """
    context = multiprocessing.get_context("spawn")  # fork would copy locks that threads hold
    running: dict[Connection, BaseProcess] = {}
    for number in range(n_processes):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_report, args=(share, number, there), daemon=True)
        process.start()
        there.close()  # so that `here` ends when the process does
        running[here] = process
    everyone = list(running.values())
    try:
        while running:
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                _check(ready, running.pop(ready))
    finally:
        for process in everyone:
            process.terminate()
            process.join()


def _report(share: Callable[[int], None], number: int, parent: Connection) -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        share(number)
    except Exception as error:  # any: it is raised again in the parent
        parent.send(error)
    else:
        parent.send(None)


def _end_with_the_parent() -> None:
    """Do not go on alone when the parent was killed: the same command may run again by then."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _check(connection: Connection, process: BaseProcess) -> None:
    try:
        error = connection.recv()
    except EOFError:
        process.join()
        raise ChildProcessError(
            f"a process was ended from outside (exit status {process.exitcode}), perhaps for want "
            "of memory; the same command continues the work"
        ) from None
    if error is not None:
        raise error
