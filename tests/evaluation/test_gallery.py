"""The samples of a report: as many as there is time for, by a clock that an evaluation moves."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sfumato import recipes
from sfumato.allowance import ENDLESS, Allowance
from sfumato.data import DataOptions, Dataset, load
from sfumato.denoisers import Condition
from sfumato.evaluation import make_gallery
from sfumato.evaluation.gallery import _good_samples
from sfumato.evaluation.neighbours import nearest
from sfumato.evaluation.progressive import FEWEST, draw
from sfumato.generative_model import GenerativeModel
from sfumato.model import Model
from sfumato.runs.folder import RunFolder


@dataclass
class Now:
    seconds: float = 0.0
    evaluation: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load("digits", DataOptions(limit=300))


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def model(dataset: Dataset, now: Now) -> GenerativeModel:
    """A model whose evaluations move the clock."""
    made = Model.fresh(recipes.read("ddpm", ["network.kind=mlp", "network.width=4", "network.depth=1"]), dataset.spec)
    forward = made.denoiser.forward

    def slow(x_t: Tensor, t: Tensor, cond: Condition | None = None) -> object:
        now.seconds += len(x_t) * now.evaluation
        return forward(x_t, t, cond)

    made.denoiser.forward = slow  # type: ignore[method-assign]
    return made


def allowed(seconds: float, now: Now) -> Allowance:
    return Allowance.of(seconds, now)


@pytest.mark.parametrize(("seconds", "fewest", "most"), [(100.0, 200, 256), (10.0, 20, 50), (3.0, FEWEST, 15)])
def test_as_many_samples_as_fit(model: GenerativeModel, now: Now, seconds: float, fewest: int, most: int) -> None:
    now.evaluation = 0.01  # 20 evaluations a sample: 0.2 s
    seen: list[tuple[int, int]] = []
    drawn = draw(model, 64, 256, 20.0, 0, lambda done, total: seen.append((done, total)), allowed(seconds, now))
    assert now.seconds <= seconds
    assert fewest <= len(drawn.samples) <= most
    assert drawn.record["evaluations"] == 20
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (20 * len(drawn.samples),) * 2
    whole = draw(model, 64, 64, 0.0, 0, lambda done, total: None, ENDLESS)
    count = min(64, len(drawn.samples))
    torch.testing.assert_close(drawn.samples[:count], whole.samples[:count], atol=1e-3, rtol=1e-3)


def test_evaluations_are_saved_where_no_sample_fits(model: GenerativeModel, now: Now) -> None:
    now.evaluation = 0.1
    drawn = draw(model, 64, 256, 20.0, 0, lambda done, total: None, allowed(10.0, now))
    assert FEWEST <= len(drawn.samples) < 20
    assert 4 <= drawn.record["evaluations"] < 20
    assert now.seconds <= 10


def test_without_a_limit_only_samples_that_are_not_shown_are_left_out(model: GenerativeModel, now: Now) -> None:
    now.evaluation = 0.01
    patient = Allowance(clock=now)
    assert len(draw(model, 64, 256, 1_000.0, 0, lambda done, total: None, patient).samples) == 256
    assert 64 < len(draw(model, 64, 256, 20.0, 0, lambda done, total: None, patient).samples) < 256
    assert len(draw(model, 64, 256, 5.0, 0, lambda done, total: None, patient).samples) == 64


def test_the_gallery_says_how_much_the_samples_are_worth(
    model: GenerativeModel, dataset: Dataset, now: Now, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path)
    gallery = make_gallery(model, dataset, run, allowance=allowed(60.0, now))
    about = run.measurement("gallery")
    assert about is not None
    assert about["good_samples"] < 0.05  # the network is not trained
    assert len(gallery.distances) == len(gallery.samples) == 256
    assert (len(gallery.neighbours), len(gallery.held_out_distances)) == (16, 30)


def test_blurred_samples_and_noise_are_worth_nothing_and_true_ones_are(dataset: Dataset) -> None:
    x = dataset.spec.encode(load("digits", DataOptions()).values)
    x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
    true, real = x[:256], x[256:512]
    noise = torch.randn(true.shape, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    assert _good_samples(true, real) == pytest.approx(1, abs=0.25)
    assert _good_samples(torch.cat([true[:128], noise[128:]]), real) == pytest.approx(0.5, abs=0.15)
    blurred = torch.nn.functional.avg_pool2d(true, 3, 1, 1, count_include_pad=False)
    grey = true.mean(0).expand_as(true) + 0.01 * noise
    for bad in (noise, blurred, grey):
        assert _good_samples(bad, real) == pytest.approx(0, abs=0.05)
    assert _good_samples(noise[:4], real) == 0
    assert _good_samples(true[:4], real) > 0.1
    assert _good_samples(true[:3], real) is None


def test_the_nearest_are_found_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    references = torch.randn(3_000, 2, 5, generator=generator) + 100  # far from the origin, where products round
    queries = torch.randn(300, 2, 5, generator=generator) + 100
    queries[7], queries[270] = references[2_900], references[12]
    distances, at = nearest(queries, references, block=700)
    exact = (queries[:, None].double() - references.double()).square().mean((-1, -2)).sqrt()
    torch.testing.assert_close(distances.double(), exact.min(1).values, rtol=1e-5, atol=0)
    assert (distances[7], distances[270]) == (0, 0)
    assert (at[7], at[270]) == (2_900, 12)
    torch.testing.assert_close(exact.gather(1, at[:, None])[:, 0], exact.min(1).values, rtol=1e-6, atol=0)
