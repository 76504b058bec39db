"""``sfumato balance``: what is written, what the filters drop, and one line with nothing written for bad input."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato import kinds, recipes
from sfumato.cli.main import main
from sfumato.data import DataOptions, load
from sfumato.reporting import SILENT
from sfumato.runs import balance as balancing
from sfumato.runs import balance_evaluation, balance_filters
from sfumato.runs.balance import missing
from sfumato.runs.balance_filters import Filters, made
from sfumato.runs.balance_models import read
from sfumato.runs.balance_overlap import relabelled
from sfumato.runs.settings import BalanceSettings

pytest.importorskip("lightgbm", reason="LightGBM, the extra 'trees', is not installed")

SMALL = ["trees.levels=8", "trees.trees=6", "trees.rows=600"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """40 rows of "often" around (0, 5) and 12 of "rarely" around (3, 9); the second column is of whole numbers."""
    generator = np.random.default_rng(0)
    path = tmp_path / "table.csv"
    rows = [[f"{generator.normal():.4f}", round(generator.normal(5, 2)), "often"] for _ in range(40)]
    rows += [[f"{generator.normal(3, 0.5):.4f}", round(generator.normal(9, 2)), "rarely"] for _ in range(12)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["size", "count", "kind"], *rows])
    return path


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


def test_the_rare_class_is_filled_and_real_rows_stay_as_they_are(table, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["balance", str(table), *SMALL, "--out", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record == json.loads((out / "manifest.json").read_text())
    before, after = rows_of(table), rows_of(out / "data.csv")
    assert after[0] == ["size", "count", "kind"]
    for old, new in zip(before[1:], after[1:53], strict=True):
        assert (float(old[0]), float(old[1]), old[2]) == (float(new[0]), float(new[1]), new[2])
    described = json.loads((out / "croissant.json").read_text())
    assert described["distribution"][0]["sha256"] == hashlib.sha256((out / "data.csv").read_bytes()).hexdigest()
    columns = {field["name"]: field["dataType"] for field in described["recordSet"][0]["field"]}
    assert columns == {"size": "sc:Float", "count": "sc:Integer", "kind": "sc:Text"}
    assert f"samples 53 to {len(after) - 1} are synthetic" in described["description"]
    made = after[53:]
    assert record["synthetic"] == {"first": 53, "last": len(after) - 1, "counted": "from 1, below the names"}
    assert record["classes"]["rarely"] == record["classes"]["rarely"] | {"real": 12, "wanted": 28, "made": len(made)}
    assert record["classes"]["often"]["wanted"] == 0
    assert len(made) == 28
    assert {row[2] for row in made} == {"rarely"}
    x = np.array([row[:2] for row in made], dtype=float)
    real = np.array([row[:2] for row in before[1:]], dtype=float)
    assert (x[:, 1] == np.rint(x[:, 1])).all()
    assert (x.min(0) >= real.min(0)).all()
    assert (x.max(0) <= real.max(0) + 1e-6).all()
    assert abs(x[:, 0].mean() - 3) < 0.5  # of the rare class, not of all rows: 0.7


def test_the_same_seed_makes_the_same_rows_and_another_others(table, tmp_path):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(["balance", str(table), *SMALL, "--seed", seed, "--out", str(tmp_path / name)]) == 0
    a, b, c = ((tmp_path / name / "data.csv").read_bytes() for name in "abc")
    assert a == b != c


def test_filters_drop_copies_and_rows_of_the_other_class_and_keep_fresh_ones(table):
    dataset = load(str(table), recipes.read("trees").data.options())
    filters = Filters(dataset)
    assert dataset.labels is not None
    mine = dataset.values[dataset.labels == 1].double()
    assert filters.near_copies(mine + 1e-5, 1).all()
    far = torch.tensor([[-1.0, 3.0]], dtype=torch.float64)
    assert not filters.near_copies(far, 1).any()
    assert filters.implausible(far, 1).all()
    assert not filters.implausible(far, 0).any()
    assert filters.implausible(mine, 1).mean() < 0.2


def test_a_class_whose_model_repeats_its_rows_is_filled_with_as_little_noise_as_needed(table):
    dataset = load(str(table), recipes.read("trees").data.options())
    filters = Filters(dataset)
    mine = dataset.values[dataset.labels == 1]

    def repeated(count: int, first: int) -> torch.Tensor:
        return mine[torch.arange(first, first + count) % len(mine)]

    found, record = made(repeated, filters, 1, 30, 0)
    assert len(found) == record["made"] == 30
    assert record["noise"] > 0
    assert record["copies"] >= 45  # all of the first draw
    assert not filters.near_copies(torch.from_numpy(found), 1).any()

    def fresh(count: int, first: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(first)
        return torch.stack([torch.randn(count, generator=generator) * 0.5 + 3, torch.full((count,), 9.0)], 1)

    assert made(fresh, filters, 1, 30, 0)[1]["noise"] == 0


def test_what_stops_a_class_is_said(table, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(balance_filters, "NOISE", (0.0,))
    monkeypatch.setattr(Filters, "near_copies", lambda self, x, row: np.ones(len(x), bool))
    assert main(["balance", str(table), *SMALL, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "'rarely': only 0 of 28 samples passed; most were near copies of its 12 real ones" in said
    assert "--keep-copies" in said


def test_noise_keeps_the_mean_and_the_covariance_of_a_class(tmp_path):
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(4000, 2)) @ np.array([[2.0, 1.0], [0.0, 0.5]]) + [5, -3]
    kinds_of = np.where(np.arange(4000) < 3000, "a", "b")
    rows[3000:] += 4
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["x", "y", "kind"], *([*map(str, x), kind] for x, kind in zip(rows, kinds_of, strict=True))]
        )
    dataset = load(str(tmp_path / "t.csv"), recipes.read("trees", ["data.labels=kind"]).data.options())
    before = dataset.values[dataset.labels == 0].double()
    after = Filters(dataset, keep_implausible=True).noisy(before, 0, 1.0, 0)
    assert torch.allclose(after.mean(0), before.mean(0), atol=0.15)
    assert torch.allclose(after.mT.cov(), before.mT.cov(), rtol=0.1)
    assert 0.6 < float(torch.corrcoef(torch.stack([before[:, 0], after[:, 0]]))[0, 1]) < 0.8  # 1 / sqrt(2)


@pytest.mark.parametrize(
    ("target", "expected"),
    [("equal", [0, 28]), ("50", [10, 38]), ("rarely=20", [0, 8]), ("rarely=12,often=41", [1, 0])],
)
def test_targets(table, target, expected):
    assert missing(load(str(table), recipes.read("trees").data.options()).spec, target) == expected


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--target", "rare=20"], "did you mean rarely"),
        (["--target", "rarely=5"], "has 12 rows already"),
        (["--target", "30"], "has 40 rows already"),
        (["--target", "rarely=many"], "no number of rows"),
        (["data.labels=nothing"], "no column 'nothing'"),
    ],
)
def test_bad_targets_are_one_line_and_nothing_is_written(table, tmp_path, capsys, words, named):
    out = tmp_path / "out"
    assert main(["balance", str(table), *words, "--out", str(out)]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert named in error[-1]
    assert not out.exists()


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (["1,2,a", "2,3,a", "3,1,b", "5,2,a", "5,9,a"], "'b'"),  # a class with one row
        (["1,2", "2,3", "3,1"], "no classes"),
        (["1,,a", "2,,a", "3,,b", "4,,b"], "empty in all 4 rows"),  # a column that is all missing
        (["1,2,a", "2,5,b", "2,5,b"], "no classes"),  # three rows in all
    ],
)
def test_tables_that_cannot_be_balanced_are_one_line(tmp_path, capsys, rows, named):
    path = tmp_path / "bad.csv"
    path.write_text("\n".join([",".join("xyz"[: len(rows[0].split(","))]), *rows]) + "\n")
    assert main(["balance", str(path), "--out", str(tmp_path / "out")]) == 2
    assert named in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_evaluate_says_whether_it_helps_before_it_writes(table, tmp_path, capsys):
    out = tmp_path / "out"
    few = ["trees.levels=4", "trees.trees=4", "trees.rows=200", "--learners", "logistic", "--rows", "smote"]
    assert main(["balance", str(table), *few, "--out", str(out), "--evaluate", "--splits", "5"]) == 0
    said = capsys.readouterr().out
    assert "rarely against the rest, balanced accuracy in %, 5 splits" in said
    assert "smote, threshold" in said
    record = json.loads((out / "manifest.json").read_text())["evaluation"]
    assert record["sentence"] in said
    assert record["verdict"] in {"helped", "none", "hurt", "unknown"}
    assert set(record["scores"]) == {"logistic"}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Twelve dark images of 4 x 4 pixels and five bright ones, in a folder for each class."""
    generator = np.random.default_rng(0)
    for name, count, mean in (("dark", 12, 60), ("bright", 5, 200)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(count):
            pixels = generator.normal(mean, 15, (4, 4)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{i}.png")
    return tmp_path / "pictures"


TINY = [
    "network.kind=mlp",
    "network.width=8",
    "network.depth=1",
    "--keep-implausible",
    "--keep-copies",
    "--budget",
    "3s",
]


def test_images_are_filled_in_a_folder_for_each_class(images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked, drawn = [], balancing._drawn

    def spy(model, name, *rest):
        asked.append(name)
        return drawn(model, name, *rest)

    monkeypatch.setattr(balancing, "_drawn", spy)
    assert main(["balance", str(images), *TINY, "--out", "out", "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    before, after = load(str(images), DataOptions()), load("out/data", DataOptions())
    assert after.spec.class_counts == (12, 12)
    assert after.spec.class_names == before.spec.class_names == ("bright", "dark")
    kept = {tuple(x.flatten().tolist()) for x in after.values}
    assert {tuple(x.flatten().tolist()) for x in before.values} <= kept
    assert record["synthetic"] == {"first": 17, "last": 23, "counted": "from 0"}
    made = [Path(f"out/data/bright/{number}.png") for number in range(17, 24)]
    assert all(path.is_file() for path in made)
    assert asked == ["bright"]
    described = json.loads(Path("out/croissant.json").read_text())
    assert list(Path("out").glob(described["distribution"][0]["includes"]))
    assert main(["balance", str(images), "--run", record_of(capsys), *TINY[3:5], "--out", "again"]) == 0
    assert load("again/data", DataOptions()).spec.class_counts == (12, 12)
    assert main(["balance", str(images), "--run", record_of(capsys), "--evaluate", "--out", "no"]) == 2
    assert "--evaluate: models are trained for it" in capsys.readouterr().err
    assert not Path("no").exists()


def record_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The run that is there."""
    capsys.readouterr()
    return str(next(Path("runs").iterdir()))


def test_signals_are_filled_in_an_npz_file_with_their_axis(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(16, 8)).astype(np.float32)
    labels = np.array([3] * 11 + [7] * 5)
    np.savez("sounds.npz", samples=x, labels=labels, time=np.arange(8.0))
    words = [
        "data.layout=signal",
        "data.axis=time",
        "network.kind=mlp",
        "network.width=8",
        "network.depth=1",
        *TINY[3:],
    ]
    assert main(["balance", "sounds.npz", *words, "--target", "12"]) == 0
    with np.load("sounds-balanced/data.npz") as found:
        assert found["samples"].shape == (24, 8)
        assert found["samples"].dtype == np.float32
        assert (found["samples"][:16] == x).all()
        assert found["labels"].tolist() == [*labels.tolist(), 3, *[7] * 7]
        assert found["axis"].tolist() == list(range(8))


def test_a_run_of_other_data_and_a_budget_of_trees_are_refused(images, table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["balance", str(table), "--budget", "5s"]) == 2
    assert "which are grown to the end" in capsys.readouterr().err
    assert main(["train", str(table), "--recipe", "trees", *SMALL, "--out", "trees"]) == 0
    assert main(["balance", str(images), "--run", "trees"]) == 2
    assert "its samples or classes are not those of pictures" in capsys.readouterr().err
    assert main(["balance", str(table), "--run", "trees", "--out", "filled"]) == 0
    assert len(rows_of(Path("filled/data.csv"))) == 81


def test_rows_like_the_rare_class_get_a_label_of_their_own(tmp_path, capsys):
    generator = np.random.default_rng(0)
    path, far, near, rare = tmp_path / "t.csv", 60, 10, 14
    centres = [*[-3.0] * far, *[3.0] * near, *[3.0] * rare]
    names = [*["often"] * (far + near), *["rarely"] * rare]
    rows = [
        [f"{generator.normal(c):.3f}", f"{generator.normal(c):.3f}", k] for c, k in zip(centres, names, strict=True)
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["a", "b", "kind"], *rows])
    out = tmp_path / "out"
    assert main(["balance", str(path), *SMALL, "--overlap", "--target", "140", "--out", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(record["overlap"]) <= set(range(far + 1, far + near + 1))  # counted from 1
    assert len(record["overlap"]) >= near // 2
    after = rows_of(out / "data.csv")[1:]
    assert {row[2] for row in after} == {"often", "rarely"}  # the new label is for training alone
    first = record["synthetic"]["first"] - 1
    made = np.array([float(row[0]) for row in after[first:] if row[2] == "often"])
    assert record["classes"]["often"] == record["classes"]["often"] | {"real": far + near, "wanted": 70, "made": 70}
    # Synthetic rows of the class are of both labels, in their shares.
    assert (made > 0).mean() == pytest.approx(len(record["overlap"]) / (far + near), abs=0.03)


def test_few_rows_keep_their_label(table):
    dataset = load(str(table), recipes.read("trees").data.options())
    one, new = relabelled(dataset, np.array([3]), 1)
    assert new == {}
    assert one.spec.class_counts == (40, 12)
    two, new = relabelled(dataset, np.array([3, 5]), 1)
    assert new == {0: 2}
    assert two.spec.class_names == ("often", "rarely", "often like rarely")
    assert two.spec.class_counts == (38, 12, 2)
    assert two.labels is not None
    assert two.labels[[3, 4, 5]].tolist() == [2, 0, 2]


def test_images_are_evaluated_with_networks_of_the_training_part_alone(tmp_path, monkeypatch, capsys):
    generator = np.random.default_rng(0)
    x, labels = generator.integers(0, 256, (50, 4, 4)).astype(np.uint8), np.array([0] * 38 + [1] * 12)
    np.savez(tmp_path / "images.npz", samples=x, labels=labels)
    seen = []

    def trained_on(part, settings):
        seen.append((len(part), part.spec.class_counts))
        model = kinds.fresh(recipes.read("flow", ["network.kind=mlp", "network.width=8", "network.depth=1"]), part.spec)
        return model  # not trained: what it makes does not matter here

    monkeypatch.setattr(balance_evaluation, "trained_on", trained_on)
    settings = BalanceSettings(
        str(tmp_path / "images.npz"),
        splits=5,
        learners=("logistic",),
        rows=("real",),
        keep_implausible=True,
        keep_copies=True,
    )
    recipe, dataset = read(settings, SILENT)
    found = balance_evaluation.helped(dataset, settings, recipe, SILENT)
    assert len(seen) == 15
    assert {count for count, _ in seen} <= {29, 30, 31, 40}
    assert all(sum(counts) == count and len(counts) == 2 for count, counts in seen)
    assert "synthetic, threshold" in found.scores["logistic"]


def test_numbers_have_the_decimal_places_of_their_column(tmp_path: Path) -> None:
    """Values as a model makes them, between those of a column with two places and one of whole numbers."""
    rows = "".join(f"{10 + i / 100:.2f},{i},{'ab'[i % 2]}\n" for i in range(40))
    (tmp_path / "x.csv").write_text(f"price,n,kind\n{rows}")
    dataset = load(str(tmp_path / "x.csv"), DataOptions(labels="kind"))
    found = Filters(dataset, keep_implausible=True).typed(torch.tensor([[10.12345, 7.4], [99.0, -3.0]]).double())
    assert found.tolist() == [[10.12, 7.0], [10.39, 0.0]]
