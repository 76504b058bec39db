"""The console: nothing at first, lines where no bar can be drawn, a bar on a terminal, one process that speaks."""

import io
import sys
import time
from itertools import pairwise

import pytest

from sfumato.runs import console
from sfumato.runs.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """A clock that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_lines_of_a_log(clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Console().task("reading") as task:
        for seconds, done in ((1.9, 1), (2.5, 2), (4.9, 3), (5.1, 4), (9.9, 5), (10.3, 8)):
            clock[0] = 100 + seconds
            task.count(done, 16)
    # From 2 s on, at most one line every 5 s; the time left is that of the pace so far.
    assert capsys.readouterr() == ("", "reading  25%  4/16  15 s left\nreading  50%  8/16  10 s left\n")


def test_a_log_without_news_says_the_time_ever_more_seldom(clock, capsys: pytest.CaptureFixture[str]) -> None:
    """The first of 4 samples takes 100 s, during which the bar is drawn each second."""
    with Console().task("samples") as task:
        at = {}
        for second in range(101):
            clock[0] = 100 + second
            task._draw(clock[0])
            if line := capsys.readouterr().err:
                at[second] = line
        assert at == {second: f"samples   0%  {console.duration(second)} so far\n" for second in (5, 15, 35, 75)}
        clock[0] = 202
        task.count(1, 4)
        assert capsys.readouterr().err == "samples  25%  1/4  5 min 6 s left\n"
        clock[0] = 213
        task._draw(clock[0])
        assert capsys.readouterr().err == "samples  25%  1/4  1 min 53 s so far\n"


def test_a_log_never_has_the_same_line_twice_in_a_row(clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither of a task that is done for an hour before it ends, nor of equal tasks one after the other."""
    reporter = Console()
    with reporter.task("reading") as task:
        for second in range(3600):
            clock[0] = 100 + second
            task.update(1.0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 6
    assert all(one != other for one, other in pairwise(lines))
    for _ in range(3):
        with reporter.task("report") as task:
            clock[0] += 6
            task.update(3 / 8)
    assert capsys.readouterr().err == "report  38%  10 s left\n"


def test_a_bar_on_a_terminal(clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(console, "_shape", lambda: {"ncols": 100, "nrows": 24})
    with Console().task("training") as task:
        clock[0] = 101
        task.update(0.1)
        assert terminal.getvalue() == ""
        clock[0] = 103
        task.update(0.25, "loss 0.5", 90.0)
        drawn = terminal.getvalue()
        assert "training  25% |######   " in drawn  # a terminal without blocks gets signs
        assert drawn.endswith("| loss 0.5  1 min 30 s left")
        Console(terminal).info("a line")
        assert "\ra line\n" in terminal.getvalue().replace(" ", "").replace("aline", "a line")
    assert terminal.getvalue().rstrip(" ").endswith("\r")  # the bar is gone


def test_a_bar_follows_another_one_at_once_and_moves_on_its_own(clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(console, "_shape", lambda: {"ncols": 100, "nrows": 24})
    monkeypatch.setattr(console, "TICK", 0.02)
    reporter = Console()
    with reporter.task("training") as task:
        clock[0] = 103
        task.update(0.5, "", 9.0)
    clock[0] = 104
    with reporter.task("sampling") as task:
        task.update(0.1, "", 8.0)
        assert "sampling  10%" in terminal.getvalue()
        clock[0] = 107  # a long silence
        give_up = time.perf_counter() + 20
        while "5 s left" not in terminal.getvalue():
            assert time.perf_counter() < give_up
            time.sleep(0.01)


def test_short_work_draws_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Console().task("reading") as task:
        task.count(0, 0)
        task.count(1, 1)
    assert capsys.readouterr() == ("", "")


def test_lines_and_warnings_have_their_streams(capsys: pytest.CaptureFixture[str]) -> None:
    Console().info("found 3")
    Console().info()
    Console().warn("skipped 1")
    assert capsys.readouterr() == ("found 3\n\n", "warning: skipped 1\n")
    Console(sys.stderr).info("found 3")
    assert capsys.readouterr() == ("", "found 3\n")


def test_one_process_speaks_for_all(clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    reporter = Console()
    reporter.info("a")
    reporter.warn("b")
    with reporter.task("c") as task:
        clock[0] += 60
        task.count(1, 2)
    assert capsys.readouterr() == ("", "")
