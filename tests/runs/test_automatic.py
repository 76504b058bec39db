"""Which recipe a training takes that names none."""

import sys
from pathlib import Path

import numpy as np
import pytest

from sfumato.data import count_rows
from sfumato.reporting import Reporter
from sfumato.runs.automatic import ROWS, with_recipe
from sfumato.runs.settings import TrainSettings

pytest.importorskip("lightgbm", reason="the extra 'trees' is not installed")


class Heard(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)


def table(path: Path, rows: int, names: str = "a,b") -> str:
    path.write_text("\n".join([names, *(f"{i},{i * i % 17}" for i in range(rows))]) + "\n")
    return str(path)


def chosen(source: str, *overrides: str, **others: object) -> tuple[str | None, list[str]]:
    heard = Heard()
    settings = TrainSettings(source=source, overrides=overrides, **others)  # type: ignore[arg-type]
    return with_recipe(settings, heard).recipe, heard.lines


def test_small_tables_are_for_trees_and_large_ones_for_a_network(tmp_path: Path) -> None:
    recipe, (line,) = chosen(table(tmp_path / "t.csv", ROWS - 1))
    assert recipe == "trees"
    assert "4,999 rows are few, so trees are grown" in line
    assert "--recipe flow" in line
    recipe, (line,) = chosen(table(tmp_path / "l.csv", ROWS))
    assert recipe == "flow"
    assert "--recipe trees grows trees instead" in line


@pytest.mark.parametrize(
    ("overrides", "others", "recipe"),
    [
        ((), {"steps": 5}, "flow"),
        ((), {"budget": 60.0}, "flow"),
        (("training.steps=5",), {}, "flow"),
        (("network.kind=mlp",), {}, "flow"),
        (("process.schedule.kind=learned-logsnr",), {}, "flow"),
        (("data.conditions=b",), {}, "flow"),
        (("training.held_out=0.2", "data.limit=20"), {}, "trees"),
        (("trees.levels=3",), {}, "trees"),
        ((), {"recipe": "edm"}, "edm"),
    ],
)
def test_what_is_given_decides(
    tmp_path: Path, overrides: tuple[str, ...], others: dict[str, object], recipe: str
) -> None:
    found, lines = chosen(table(tmp_path / "t.csv", 50), *overrides, **others)
    assert found == recipe
    assert bool(lines) == (recipe == "trees" and "trees.levels=3" not in overrides)


def test_all_else_is_for_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen("moons") == ("flow", [])
    np.save(tmp_path / "a.npy", np.zeros((9, 2)))
    assert chosen(str(tmp_path / "a.npy")) == ("flow", [])
    spectra = ",".join(map(str, range(400, 420)))
    (tmp_path / "s.csv").write_text("\n".join([spectra] * 9))
    assert chosen(str(tmp_path / "s.csv")) == ("flow", [])
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert chosen(table(tmp_path / "t.csv", 50))[0] == "flow"
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    recipe, (line,) = chosen(table(tmp_path / "t.csv", 50))
    assert recipe == "flow"
    assert "pip install 'sfumato[trees]'" in line


def test_rows_are_counted_without_reading(tmp_path: Path) -> None:
    assert count_rows(Path(table(tmp_path / "t.csv", 12))) == 12
    arrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"x": list(range(9))}), tmp_path / "t.parquet")
    assert count_rows(tmp_path / "t.parquet") == 9
