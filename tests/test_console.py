"""The terminal: a run's end in the columns that there are, and a display that lives through a resize of a real one."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from fake_report import fake_report
from rich.cells import cell_len
from rich.console import Console

from builder.report import terminal
from builder.report.assemble import complete
from builder.report.summary import summary
from builder.values import STATUSES

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\]8;[^\x1b]*\x1b\\")
WHERE = Path("/where/it is/report.html")


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return complete(fake_report())


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nobody had asked for colours: whoever runs these tests may have."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TERM", "CI"):
        monkeypatch.delenv(name, raising=False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(report: dict[str, Any], width: int, out: io.StringIO | None = None, **more: Any) -> str:
    out = out or io.StringIO()
    summary(report, Console(file=out, width=width, highlight=False, **more), WHERE)
    return out.getvalue()


# ---------------------------------------------------------------- the summary


@pytest.mark.parametrize("width", [220, 100, 80, 60, 40])
def test_the_summary_fits_and_loses_no_count(whole: dict[str, Any], width: int) -> None:
    lines = printed(whole, width).splitlines()
    assert lines[-1] == f"Report: {WHERE}"  # a path is whole, however long: it is clicked or copied
    assert max(map(cell_len, lines[:-1])) <= width
    text = "\n".join(lines)
    used = [status for status in STATUSES if whole["counts"][status]]
    counts = [whole["counts"][status] for status in used]
    total = next(i for i, line in enumerate(lines) if re.match(r"all\b", line))
    told = " ".join([lines[total].removeprefix("all"), *(lines[total + 1 : total + 3] if width < 60 else ())])
    assert [int(n) for n in re.findall(r"\d+", told)][: len(counts)] == counts
    stacks = {cell["engine"]["id"] for cell in whole["cells"]}
    for stack in stacks:
        head, tail = stack[:6], stack[-12:]
        assert any(line.startswith(head) and re.search(re.escape(tail) + r"(\s|$)", line) for line in lines), stack
    for finding in [f for f in whole["findings"] if not f["expected"]][:10]:
        assert f"enginematrix show {finding['cells'][0]}" in text  # ids are never shortened


def test_a_table_has_a_row_for_each_stack_with_all_its_numbers(whole: dict[str, Any]) -> None:
    lines = printed(whole, 80).splitlines()
    used = [status for status in STATUSES if whole["counts"][status]]
    rows = [line.split() for line in lines if re.match(r"\S+-py3\.\d+ ", line)]
    assert len(rows) == len({cell["engine"]["id"] for cell in whole["cells"]})
    for row in rows:
        assert len(row) == 1 + len(used)
    assert len({row[0] for row in rows}) == len(rows)  # shortened, and still told apart


def test_names_lose_their_middle() -> None:
    name = "onnxruntime-1.16.3-numpy2.2.6-py3.11"
    for width in range(1, 40):
        short = terminal.shortened(name, width)
        assert len(short) <= width
        assert short == name or width < 3 or (short.count("…") == 1 and name.startswith(short.split("…")[0])
                                              and name.endswith(short.split("…")[1]))  # fmt: skip
    assert terminal.shortened(name, 24) == "onnxruntim…y2.2.6-py3.11"


def test_colours_and_links_are_for_terminals(whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in printed(whole, 100)
    monkeypatch.setenv("TERM", "xterm-256color")
    shown = printed(whole, 100, Terminal())
    assert "\x1b[31m" in shown and WHERE.as_uri() in shown and "it%20is" in shown
    monkeypatch.setenv("NO_COLOR", "1")
    plain = printed(whole, 100, Terminal())
    assert not re.search(r"\x1b\[[0-9;]*[34][0-7]m", plain) and WHERE.as_uri() in plain
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in printed(whole, 100, Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    forced = printed(whole, 100)
    assert "\x1b[31m" in forced and "\x1b]8" not in forced


def test_a_stream_without_the_signs_gets_letters(whole: dict[str, Any]) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii", errors="replace")
    summary(whole, Console(file=out, width=80, highlight=False), WHERE)
    out.flush()
    text = raw.getvalue().decode("ascii")
    assert "v verified" in text and "x failed" in text and "! crashed" in text and "?" not in text.split("\n\n")[0]


def test_hostile_text_commands_no_terminal(whole: dict[str, Any]) -> None:
    bad = "\x1b]0;owned\x07\x1b[2J\rgone"
    findings = [{**whole["findings"][0], "title": bad, "remedy": bad, "expected": False}]
    assert "\x1b" not in printed({**whole, "findings": findings}, 80)


# ---------------------------------------------------------------- a real terminal

RUN = """
    import sys, threading, time
    from builder.report.console import Progress
    told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), told.set()), daemon=True).start()
    name = "build tensorrt-rtx-1.7.1.116-cuda12-py3.12.residual_cnn.opset17.fp16.static.sm{}"
    with Progress() as progress:
        progress.total(60, 60)
        for i in range(100, 104):
            progress.step_started(name.format(i))
        for i in range(60):
            progress.step_started(name.format(i))
            progress.step_finished(name.format(i), 0.025, True)
            progress.cell_finished(f"cell-{i}", "failed" if i % 20 == 7 else "verified", "why\\x1b[2J", False)
            if i % 10 == 9 and i < 50:
                told.wait(WAIT)
        told.wait(20 * WAIT)
        progress.message("the end")
    print("after")
"""
"""Goes on until it is told to end, so that a test need not guess how long a painting takes."""


class Screen:
    """What a terminal shows: text, carriage returns, line feeds, cursor up, erasing. Lines do not fold again when it is resized
    (xterm's way)."""

    def __init__(self) -> None:
        self.lines, self.row, self.column = [""], 0, 0
        self.widest = 0

    def feed(self, text: str) -> None:
        for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x1b\x07]*(?:\x1b\\|\x07)|[^\x1b]", text):
            if token == "\n":
                self.row += 1
                self.column = 0
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif token == "\r":
                self.column = 0
            elif move := re.fullmatch(r"\x1b\[(\d*)A", token):
                self.row = max(0, self.row - int(move[1] or 1))
            elif token in ("\x1b[2K", "\x1b[0K", "\x1b[K"):
                self.lines[self.row] = self.lines[self.row][: 0 if "2" in token else self.column]
            elif token == "\x1b[2J":
                raise AssertionError("a library's message cleared the screen")
            elif len(token) == 1:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + token + line[self.column + 1 :]
                self.column += 1
                self.widest = max(self.widest, self.column)

    def text(self) -> list[str]:
        return [line.rstrip() for line in self.lines if line.strip()]


def on_terminal(
    program: str, sizes: Sequence[tuple[int, int]], paintings: int = 0, env: Mapping[str, str] = MappingProxyType({})
) -> tuple[dict[int, str], int]:
    """({columns: what was written while the terminal had them}, exit status) of a Python program on a pseudo-terminal. It is
    resized once the display was painted so often, and at the end the program is told so."""
    here, there = pty.openpty()
    attributes = termios.tcgetattr(there)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(there, termios.TCSANOW, attributes)
    left = list(sizes)

    def resized() -> int:
        columns, rows = left.pop(0)
        fcntl.ioctl(there if not written else here, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        written[columns] = ""
        return columns

    written = dict[int, str]()
    columns = resized()
    clean = {k: v for k, v in os.environ.items() if k not in ("CI", "COLUMNS", "LINES", "TTY_COMPATIBLE")}
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdin=there, stdout=there, stderr=there, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), env={**clean, "TERM": "xterm-256color", **env},
    )  # fmt: skip
    os.close(there)
    started = time.monotonic()
    told = not paintings
    while True:
        if select.select([here], [], [], 0.05)[0]:
            try:
                written[columns] += os.read(here, 65536).decode("utf-8", "replace")
            except OSError:  # the other end is closed
                break
        if not told and written[columns].count("/60 cells") >= paintings:
            if left:
                columns = resized()  # the kernel sends SIGWINCH
            else:
                os.write(here, b"\n")
                told = True
        assert time.monotonic() - started < 60
    os.close(here)
    return written, child.wait(timeout=10)


def test_the_display_lives_through_a_resize() -> None:
    written, code = on_terminal(RUN.replace("WAIT", "30"), [(120, 40), (60, 20), (40, 12), (90, 30)], paintings=5)
    assert code == 0
    for columns, text in written.items():
        lines = [ESCAPE.sub("", line) for line in re.split(r"[\r\n]+", text)]
        shown = [line for line in lines if re.search(r"\d+/60 |more running|build ten", line)]
        assert any("build ten" in line for line in shown) and any("steps" in line for line in shown)
        painting = 1 + len(
            [line for line in shown[:12] if "build ten" in line or "/60" in line]
        )  # it may be the old size's
        assert all(cell_len(line) < columns for line in shown[painting:]), (columns, shown)
    screen = Screen()
    screen.feed("".join(written.values()))
    # Nothing of the display is left: the failures, the message and what came after it, in their order.
    assert screen.text() == [*(f"✗ failed cell-{i}  why [2J" for i in (7, 27, 47)), "the end", "after"]
    whole = "".join(written.values())
    assert "\x1b[?25h" in whole and whole.rindex("\x1b[?25h") > whole.rindex("\x1b[?25l")  # the cursor is back


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"CI": "true"}])
def test_a_log_has_plain_lines(env: dict[str, str]) -> None:
    written, code = on_terminal(RUN.replace("WAIT", "0"), [(40, 10)], env=env)
    assert code == 0 and "\x1b" not in written[40]
    lines = written[40].replace("\r\n", "\n").splitlines()
    assert len(lines) == 60 + 60 + 2 and lines[-2:] == ["the end", "after"]
    assert "cell 8/60 failed: cell-7: why [2J" in lines


def test_an_interrupt_gives_the_cursor_back() -> None:
    program = RUN.replace("told.set()", "os.kill(os.getpid(), 2)").replace("import sys", "import os, sys")
    written, code = on_terminal(program.replace("WAIT", "30"), [(80, 24)], paintings=2)
    assert code != 0 and "KeyboardInterrupt" in written[80]
    assert written[80].rindex("\x1b[?25h") > written[80].rindex("\x1b[?25l")


def test_the_size_is_the_terminals_own(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = pty.openpty()
    try:
        monkeypatch.setenv("COLUMNS", "200")  # what a shell exported once is not what the window is now
        with os.fdopen(there, "w") as stream:
            fcntl.ioctl(stream, termios.TIOCSWINSZ, struct.pack("HHHH", 11, 47, 0, 0))
            assert terminal.size(stream) == (47, 11)
            fcntl.ioctl(stream, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
            assert terminal.size(stream) == (80, 25)
            assert terminal.linked(WHERE, stream).startswith("\x1b]8;;file:///where/it%20is/report.html\x1b\\")
    finally:
        os.close(here)
    assert terminal.size(io.StringIO())[0] == 200
    monkeypatch.delenv("COLUMNS")
    assert terminal.size(io.StringIO())[0] == terminal.PIPED and terminal.linked(WHERE, io.StringIO()) == str(WHERE)
