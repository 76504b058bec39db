"""Output without a console, in ASCII and as strict JSON."""

import argparse
import io
import json
import sys

import pytest

from sfumato.cli.main import main
from sfumato.cli.output import Output
from sfumato.errors import DiskFullError, FailedError, InputError
from sfumato.runs import console
from sfumato.runs.console import Console


class Plain:
    """A stream with no more than ``write`` and ``flush``."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str, /) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("closed", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_a_process_without_a_console_runs_silently(closed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for samples, status in ((4, 0), (1, 2)):
        for name in closed:
            monkeypatch.setattr(sys, name, None)
        assert main(["certify", "--nfe", "5", "--methods", "ddim", "--samples", str(samples)]) == status
        for name in closed:
            getattr(sys, name).close()


def test_a_stream_that_does_not_say_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "PATIENCE", 0.0)
    monkeypatch.setattr(console, "BETWEEN_LINES", 0.0)
    out, err = Plain(), Plain()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    reporter = Console()
    reporter.info("found")
    with reporter.task("sampling") as task:
        task.count(1, 2)
    assert out.text == "found\n"
    assert err.text.startswith("sampling  50%")


def test_no_stream_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "PATIENCE", 0.0)
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    reporter = Console()
    reporter.info("found")
    reporter.warn("found")
    with reporter.task("sampling") as task:
        task.count(1, 2)


def test_json_is_strict_and_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", errors="backslashreplace"))
    data = {"run": "naïve ±", "nan": float("nan"), "nested": [{"inf": float("inf")}, (1, -float("inf"))], "x": 0.5}
    Output(argparse.Namespace(json=True)).result(data)
    sys.stdout.flush()

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    found = json.loads(raw.getvalue().decode("ascii"), parse_constant=refuse)
    assert found == {"run": "naïve ±", "nan": None, "nested": [{"inf": None}, [1, None]], "x": 0.5}


@pytest.mark.parametrize(("error", "status"), [(DiskFullError, 1), (FailedError, 1), (InputError, 2)])
def test_a_full_disk_is_a_failure(
    error: type[Exception], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> int:
        raise error("run: no space")

    monkeypatch.setattr("sfumato.cli.certify.run", fail)
    assert main(["certify"]) == status
    assert f"{'failed' if status == 1 else 'error'}: run: no space" in capsys.readouterr().err
