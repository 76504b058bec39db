"""Verbs that draw compute with the threads that training chose, or with those that are asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.cli.main import main
from sfumato.runs.folder import RunFolder
from sfumato.runs.threads import threads


@pytest.fixture(autouse=True)
def _most() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def inside(wanted: int | None, run: Path | None) -> int:
    with threads(wanted, run):
        found = torch.get_num_threads()
    assert torch.get_num_threads() == 3
    return found


def test_what_training_chose_among_as_many_is_taken(tmp_path: Path) -> None:
    assert inside(None, None) == inside(None, tmp_path) == 3
    RunFolder(tmp_path).write_measurement("threads", {"threads": 1, "among": 3})
    assert inside(None, tmp_path) == 1
    assert inside(2, tmp_path) == inside(2, None) == 2


@pytest.mark.parametrize(
    "found", ['{"threads": 1, "among": 8}', '{"threads": 4, "among": 3}', '{"threads": "1", "among": 3}', "{}", "not"]
)
def test_what_was_chosen_on_another_machine_or_is_damaged_is_not(tmp_path: Path, found: str) -> None:
    (tmp_path / "threads.json").write_text(found)
    assert inside(None, tmp_path) == 3


def test_an_error_inside_restores_the_number(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), threads(1):
        raise RuntimeError
    assert torch.get_num_threads() == 3


class Reached(Exception):
    """The heavy part of a verb was called."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, no_pages: None) -> Path:
    path = tmp_path_factory.mktemp("runs") / "moons"
    tiny = ["network.kind=mlp", "network.width=8", "network.depth=1", "training.batch=16", "sampling.steps=3"]
    before = torch.get_num_threads()
    assert main(["train", "moons", *tiny, "--steps", "2", "--threads", "2", "--out", str(path)]) == 0
    torch.set_num_threads(before)
    assert RunFolder(path).measurement("threads") == {"threads": 2, "among": before}
    return path


HEAVY = {
    "sample": "sfumato.model.Model.sample",
    "likelihood": "sfumato.runs.scoring.score",
    "tune": "sfumato.sampling.fitting.trajectories",
    "certify": "sfumato.runs.certification.reference",
    "report": "sfumato.runs.lifecycle.make_gallery",
}


@pytest.mark.parametrize("verb", HEAVY)
@pytest.mark.parametrize(("flags", "expected"), [([], 2), (["--threads", "1"], 1)])
def test_every_verb_uses_them(
    run: Path, verb: str, flags: list[str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def heavy(*args: Any, **named: Any) -> Any:
        found.append(torch.get_num_threads())
        raise Reached

    monkeypatch.setattr(HEAVY[verb], heavy)
    RunFolder(run).gallery.unlink(missing_ok=True)
    RunFolder(run).write_measurement("threads", {"threads": 2, "among": 3})
    assert main([verb, str(run), *flags]) == 1
    assert found == [expected]
    assert torch.get_num_threads() == 3
