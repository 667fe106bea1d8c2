"""What signals do to a rank."""

import signal
import subprocess
import sys

import pytest
from launch import SOURCE_ROOTS

PROGRAM = """
import sys, threading, time
from gfm_pretrain.preemption import StopRequest, let_signals_end_us, noting_signals

request = StopRequest()
with noting_signals(request):
    if sys.argv[1] == "ends":
        thread = threading.Thread(target=let_signals_end_us)
        thread.start()
        thread.join()
    print("ready", flush=True)
    end = time.monotonic() + 60
    while not request and time.monotonic() < end:
        time.sleep(0.1)
print(request.reason)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_is_noted_until_a_thread_lets_it_end_the_process(number):
    assert signalled("notes", number) == (0, f"{number.name}\n")
    assert signalled("ends", number) == (-number, "")


def signalled(mode: str, number: signal.Signals) -> tuple[int, str]:
    """Status of the program that got the signal, and what it said afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, mode],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(map(str, SOURCE_ROOTS))},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said
