"""Gaps that are filled: in arrays, and in tables as the command writes them."""

import csv
import json
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch

from sfumato import SfumatoImputer
from sfumato.cli.main import main
from sfumato.errors import InputError
from sfumato.imputation.imputer import COMPONENTS, NARROWEST, factor
from sfumato.imputation.priors import Corrected, Forests, Mixtures, Scores, Told


def correlated(n: int = 300, share: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    group = generator.integers(0, 2, n)
    x = generator.normal(size=(n, 4)) @ np.array([[1, 0.9, 0, 0], [0, 0.4, 0, 0], [0, 0, 1, 0.8], [0, 0, 0, 0.6]])
    x[:, 2] += 4 * group
    x = x * [1, 10, 2, 0.1] + [0, 50, 0, 3]
    return x, np.where(generator.random(x.shape) < share, np.nan, x)


def test_draws_cover_what_was_hidden_and_the_mean_is_better_than_the_column() -> None:
    x, seen = correlated()
    hidden = np.isnan(seen)
    imputer = SfumatoImputer(draws=40).fit(seen)
    draws = imputer.draw(seen)
    assert draws.shape == (40, *x.shape)
    assert (draws[:, ~hidden] == x[~hidden]).all()
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    assert 0.82 < ((x >= low) & (x <= high))[hidden].mean() < 0.96
    filled, spread = imputer.transform(seen), x.std(0)
    error = np.sqrt((((filled - x) / spread)[hidden] ** 2).mean())
    column = np.sqrt((((np.nanmean(seen, 0) - x) / spread)[hidden] ** 2).mean())
    assert error < 0.83 * column  # gaps of both correlated columns leave nothing to know


def test_the_seed_says_what_is_drawn() -> None:
    _, seen = correlated(40)
    a, b, c = (SfumatoImputer(draws=3, seed=seed, prior="mixture").fit_transform(seen) for seed in (0, 0, 1))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def bent(n: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """A column that two others know, by a curve that no few Gaussians follow."""
    generator = np.random.default_rng(3)
    angle = generator.uniform(-3, 3, n)
    x = np.stack([np.cos(6 * angle), angle, angle**3], 1)
    return x, np.where(generator.random(x.shape) < 0.15, np.nan, x)


def test_forests_are_chosen_for_curves() -> None:
    x, seen = bent()
    hidden = np.isnan(seen)
    forests = SfumatoImputer(draws=30).fit(seen)
    mixture = SfumatoImputer(draws=30, prior="mixture").fit(seen)
    assert set(forests.way_.parts) & {"forests", "corrections"}
    assert mixture.way_.components in COMPONENTS

    def error(imputer: SfumatoImputer) -> float:
        return float(np.sqrt((((imputer.transform(seen) - x) / x.std(0))[hidden] ** 2).mean()))

    assert error(forests) < 0.95 * error(mixture)
    low, high = np.quantile(forests.draw(seen), [0.05, 0.95], axis=0)
    assert 0.84 < ((x >= low) & (x <= high))[hidden].mean() < 0.97


@pytest.mark.parametrize("beyond", [False, True])
def test_the_gaps_of_a_row_are_drawn_together_and_as_wide_as_they_are_unknown(beyond: bool) -> None:
    """Two columns that are nearly the same, and lack in the same rows: there each is as unknown as without the other.

    Forests meet no such row when they are grown: they see one of the two in all rows that have the other.
    """
    generator = np.random.default_rng(5)
    x = generator.normal(size=(400, 3))
    x[:, 1] = x[:, 0] + 0.1 * x[:, 1]
    x[:60, :2] = np.nan
    z = torch.from_numpy((x - np.nanmean(x, 0)) / np.nanstd(x, 0))
    mixtures = Mixtures.fit(z, 1, 3, 0)
    forests = Forests.fit(z, Told.fit(z, 1, mixtures, 0), beyond, 0)
    prior = Corrected(mixtures, (forests,))
    draws = prior.draw(z, 400, torch.Generator().manual_seed(0))[:, :60, :2]
    assert torch.allclose(draws.mean(0), forests.mean(z)[:60, :2], atol=5 / 400**0.5)
    rest = draws - draws.mean(0)
    assert rest.std(0).mean() == pytest.approx(1, abs=0.15)
    assert (rest[..., 0] * rest[..., 1]).mean() / (rest[..., 0].std() * rest[..., 1].std()) > 0.97


def test_normal_scores_are_those_of_ranks() -> None:
    """0, 5, 5 and 1000 have the mean ranks 0.5, 2, 2 and 3.5 of 4; a gap stays one, and what is beyond gets the end."""
    scores = Scores.of(np.array([[5.0], [0.0], [np.nan], [1000.0], [5.0]]))
    found = scores(torch.tensor([[0.0], [5.0], [1000.0], [2.5], [2000.0], [np.nan]], dtype=torch.float64))[:, 0]
    normal = NormalDist()
    low, middle, high = (normal.inv_cdf(rank / 4) for rank in (0.5, 2, 3.5))
    assert found[:5].tolist() == pytest.approx([low, middle, high, (low + middle) / 2, high], abs=1e-12)
    assert bool(found[5].isnan())


def test_with_values_very_far_from_the_others_forests_stay_between_values_that_occur() -> None:
    """Two columns are 1000 in one row, where a steep line leads, and a second row has only one of these values."""
    generator = np.random.default_rng(6)
    x = generator.normal(size=(120, 3))
    x[0, :2] = 1000
    x[1, 0], x[1, 1] = 900, 0
    seen = x.copy()
    seen[1, 1] = np.nan
    imputer = SfumatoImputer(draws=5).fit(seen)
    assert imputer.priors_ == ["forests"]
    mixture = SfumatoImputer(draws=5, prior="mixture").fit(seen)
    assert abs(imputer.transform(seen)[1, 1]) < 0.7 * abs(mixture.transform(seen)[1, 1])


def test_draws_are_widened_to_hold_hidden_values() -> None:
    """Draws of half the spread they should have: the factor is 2."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(3000, 1, generator=generator, dtype=torch.float64)
    draws = 0.5 * torch.randn(400, 3000, generator=generator, dtype=torch.float64)
    assert factor(draws, z[:, 0]) == pytest.approx(2, abs=0.12)
    assert factor(2 * draws, z[:, 0]) == pytest.approx(1, abs=0.06)
    assert factor(20 * draws, z[:, 0]) == NARROWEST


def test_it_works_within_scikit_learn() -> None:
    from sklearn.base import clone
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    x, seen = correlated(120)
    found = make_pipeline(clone(SfumatoImputer(draws=3)), LinearRegression()).fit(seen[:, :3], x[:, 3])
    assert found.predict(seen[:5, :3]).shape == (5,)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((2, 2)), "2 rows are too few"),
        (np.array([[1.0, np.nan]] * 5), "column 1 has no values"),
        ([["a"]] * 5, "has text"),
        (np.zeros(5), "shape"),
        (np.full((5, 2), np.inf), "infinite"),
    ],
)
def test_arrays_that_cannot_be_filled(x: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        SfumatoImputer().fit(x)
    with pytest.raises(InputError, match="call fit first"):
        SfumatoImputer().transform(np.zeros((5, 2)))
    with pytest.raises(InputError, match="prior 'trees': there is none; choose from auto"):
        SfumatoImputer(prior="trees").fit(np.eye(5))


def table(path: Path) -> list[dict[str, str]]:
    generator = np.random.default_rng(4)
    group = generator.integers(0, 2, 80)
    rows = []
    for i, g in enumerate(group):
        row = {
            "id": f"row {i}",
            "size": f"{generator.normal(5 * g):.2f}",
            "n": str(3 + 4 * g + generator.integers(0, 2)),
        }
        row |= {"colour": "red" if g else "blue", "note": "" if i % 2 else f"note {i}"}
        for name in ("size", "n", "colour"):
            if generator.random() < 0.15:
                row[name] = "NA" if name == "n" else ""
        rows.append(row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_a_table_is_filled_and_the_rest_stays_as_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, out = table(tmp_path / "t.csv"), tmp_path / "out"
    assert main(["impute", str(tmp_path / "t.csv"), "--draws", "3", "--out", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record == json.loads((out / "manifest.json").read_text())
    assert record["draws"] == ["draw-1.csv", "draw-2.csv", "draw-3.csv"]
    assert record["left"] == {"note": 40}
    found = {
        name: list(csv.DictReader((out / name).read_text().splitlines())) for name in ("filled.csv", *record["draws"])
    }
    right = wrong = 0
    for i, row in enumerate(rows):
        for name, cell in row.items():
            cells = {tables[i][name] for tables in found.values()}
            if cell not in ("", "NA") or name == "note":
                assert cells == {cell}
            elif name == "colour":
                assert cells <= {"red", "blue"}
                known = row["size"] or row["n"] not in ("NA",)
                right += bool(known) and found["filled.csv"][i][name] == (
                    "red" if float(row["size"] or 0) > 2.5 else "blue"
                )
                wrong += bool(known)
            elif name == "n":
                assert cells <= {"3", "4", "7", "8"}
    assert right > 0.6 * wrong
    assert sum(record["filled"].values()) == sum(row[n] in ("", "NA") for row in rows for n in ("size", "n", "colour"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3,4\n5,6\n", "has no gaps"),
        ("a,b\n1,\n3,\n5,\n", "empty in all 3 rows"),
        ("a,b\n1,2\n,4\n", "too few"),
    ],
)
def test_tables_that_cannot_be_filled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    (tmp_path / "t.csv").write_text(text)
    assert main(["impute", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
