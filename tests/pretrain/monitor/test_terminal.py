import os
import pty
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from gfm_pretrain.monitor.terminal import Terminal
from made_up_run import made_up_state

HIDE_CURSOR = "\x1b[?25l"
OTHER_SCREEN = "\x1b[?1049h"


class Pty:
    """A terminal of its own, in place of stderr."""

    def __init__(self) -> None:
        self.outer, inner = pty.openpty()
        self.stream = os.fdopen(inner, "w", encoding="utf-8")
        self.shown = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def text(self) -> str:
        """Everything that was written to it; it is closed by this."""
        self.stream.close()
        self._reader.join(timeout=60)
        os.close(self.outer)
        return self.shown.decode()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self.outer, 65536)
            except OSError:  # what Linux says when the other end is closed
                return
            self.shown += part


@pytest.fixture
def terminal_of(monkeypatch) -> Iterator[Pty]:
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")
    window = Pty()
    yield window
    if not window.stream.closed:
        window.text()


@pytest.fixture
def on_stderr(terminal_of, monkeypatch) -> Callable[[], Pty]:
    """Puts it there; to be called in the test itself, since pytest sets stderr before each."""

    def put() -> Pty:
        monkeypatch.setattr(sys, "stderr", terminal_of.stream)
        return terminal_of

    return put


def test_a_terminal_is_drawn_on_and_messages_stand_above(on_stderr):
    window = on_stderr()
    terminal = Terminal(speaks=True)
    assert terminal.is_drawn_on
    with terminal.following(made_up_state("water")):
        terminal.say("a message [1] of the run")
        sys.stderr.write("a warning of someone else\n")
    text = window.text()
    assert "a message [1] of the run\r\n" in text
    assert "a warning of someone else\r\n" in text
    assert text.rindex("a warning") < text.rindex("water")


def test_nothing_is_left_to_restore(on_stderr):
    window = on_stderr()
    original = sys.stderr
    with (
        pytest.raises(ZeroDivisionError),
        Terminal(speaks=True).following(made_up_state("water")),
    ):
        raise ZeroDivisionError
    assert sys.stderr is original
    text = window.text()
    assert "water" in text
    assert HIDE_CURSOR not in text
    assert OTHER_SCREEN not in text
    assert text.endswith("\n")


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("TTY_INTERACTIVE", "0")])
def test_a_terminal_that_cannot_redraw_gets_lines(on_stderr, monkeypatch, name, value):
    on_stderr()
    monkeypatch.setenv(name, value)
    assert not Terminal(speaks=True).is_drawn_on


def test_other_ranks_draw_nothing(on_stderr):
    window = on_stderr()
    terminal = Terminal(speaks=False)
    with terminal.following(made_up_state("water")):
        terminal.say("hello")
    assert window.text() == ""


def test_without_a_terminal_nothing_is_drawn(capfd):
    terminal = Terminal(speaks=True)
    with terminal.following(made_up_state("water")):
        terminal.say("hello")
    assert not terminal.is_drawn_on
    assert capfd.readouterr() == ("", "hello\n")


def test_a_terminal_that_has_gone_is_no_reason_to_end(on_stderr):
    window = on_stderr()
    terminal = Terminal(speaks=True)
    with terminal.following(made_up_state("water")):
        window.stream.close()
        terminal.say("hello")
