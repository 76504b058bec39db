"""What a certificate of a reconstruction says of methods and networks whose faults are known."""

import math
from dataclasses import asdict, replace

import pytest
import torch

from sfumato import Model
from sfumato.allowance import Allowance
from sfumato.core import VP, Cosine, Process
from sfumato.data import LAYOUTS, Affine, DataSpec
from sfumato.denoisers import ExactDenoiser
from sfumato.errors import InputError
from sfumato.reconstruction_certificate import (
    DRAWS,
    LEVELS,
    HeldOut,
    Scores,
    _Row,
    _scores,
    compare,
    conformal,
    covered,
    held_out,
    ranks,
    sliced,
    stretch,
)
from sfumato.restoration import Function, Matrix, Twin
from sfumato.runs.reconstruction_certification import best, lines, verdict

SPEC = DataSpec(
    LAYOUTS["vector"], (2,), "float32", Affine((3.0,), (2.0,)), (), 1.0, 8.0, (), (), 100, "0" * 64, "points"
)  # fmt: skip
CENTRES = 3 + 2 * torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
MATRIX, NOISE = Matrix(torch.tensor([[1.0, 0.5]]), (2,)), 0.3
MODEL = Model(ExactDenoiser(Process(VP(), Cosine()), Twin.of(SPEC.encode(CENTRES)).mixture), SPEC)


def annealed(model, y, seed):
    return model.reconstruct(y, MATRIX, noise=NOISE, draws=DRAWS, particles=DRAWS, steps=6, seed=seed)


def too_narrow(model, y, seed):
    found = annealed(model, y, seed)
    mean = found.draws.mean(1, keepdim=True)
    return replace(found, draws=mean + 0.3 * (found.draws - mean))


def test_the_twin_tells_a_narrow_method_from_an_exact_one():
    found = {s.method: s for s in compare(MODEL, CENTRES, MATRIX, NOISE, {"a": annealed, "n": too_narrow}, 12, seed=1)}
    at = LEVELS.index(0.9)
    assert found["a"].coverage[at] > 0.75
    assert found["n"].coverage[at] < 0.6
    assert found["a"].distance < 0.6 * found["n"].distance
    assert found["a"].error == found["n"].error
    assert found["a"].off < 0.5
    assert best(list(found.values())) == "a"


def test_held_out_data_tells_by_how_much_bands_are_too_narrow():
    g = torch.Generator().manual_seed(3)
    twin = Twin.of(SPEC.encode(CENTRES))
    samples = SPEC.decode_unclipped(twin.sample(40, g)).float()
    found = held_out(MODEL, samples, MATRIX, NOISE, "n", too_narrow, seed=2)
    assert 2 < found.widening < 6  # 1 / 0.3 = 3.3
    assert found.widened > found.scores.coverage[LEVELS.index(0.9)] + 0.2
    assert sum(found.ranks) == pytest.approx(1)
    assert found.ranks[0] + found.ranks[-1] > 0.4  # a bowl
    assert "too narrow" in verdict([], found)[0]
    with pytest.raises(InputError, match="too few"):
        held_out(MODEL, samples[:3], MATRIX, NOISE, "n", too_narrow, seed=2)


def test_the_score_of_the_model_tells_its_own_draws_from_narrow_ones():
    """Bands of exact draws from another prior than that of the samples: the model is at fault, and not the method."""

    def exact(model, y, seed):
        return model.reconstruct(y, MATRIX, noise=NOISE, draws=DRAWS, method="exact", seed=seed)

    def narrow(model, y, seed):
        found = exact(model, y, seed)
        return replace(found, draws=found.mean[:, None] + 0.5 * (found.draws - found.mean[:, None]))

    samples = 6 + 6 * torch.randn(12, 2, generator=torch.Generator().manual_seed(5))
    right, wrong = (held_out(MODEL, samples, MATRIX, NOISE, "a", run, seed=2) for run in (exact, narrow))
    assert right.scores.stein.discrepancy.p_value > 0.05
    assert wrong.scores.stein.discrepancy.p_value < 0.01
    assert "what bands miss is the model's fault" in verdict([], right)[-1]
    assert verdict([], wrong)[-1].endswith("draws of a are not those of the model's posterior.")
    curved = Function(lambda x: x[:, :1] ** 2, (2,))
    assert held_out(MODEL, samples, curved, NOISE, "a", exact, seed=2).scores.stein is None

    runs = {"annealed": exact, "mmps": narrow}
    good, bad = compare(MODEL, CENTRES, MATRIX, NOISE, runs, 12, seed=1)
    assert good.stein.discrepancy.p_value > 0.05
    assert bad.stein.discrepancy.p_value < 0.01
    astray = replace(good, method="a", distance=3.0)
    assert "the distance on the twin says that a errs" in verdict([astray], right)[-1]
    assert "do not agree" in verdict([replace(good, method="a")], wrong)[-1]
    few = replace(wrong, scores=replace(wrong.scores, method="annealed"))
    assert "64 particles are few" in verdict([replace(bad, method="annealed")], few)[-1]


class Clock:
    """A time that passes while methods run."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("sfumato.reconstruction_certificate.time.monotonic", lambda: self.now)

    def run(self, seconds):
        def method(model, y, seed):
            self.now += seconds
            return annealed(model, y, seed)

        return method


def test_a_slow_method_gets_fewer_problems_and_a_fast_one_those_that_were_asked_for(monkeypatch):
    clock, seen = Clock(monkeypatch), []
    runs = {"slow": clock.run(10.0), "fast": clock.run(1.0), "stuck": clock.run(500.0)}
    allowance = Allowance.of(600.0, lambda: clock.now)  # 511 are over when each has had one problem
    found = {
        s.method: s
        for s in compare(MODEL, CENTRES, MATRIX, NOISE, runs, 5, 1, lambda *done: seen.append(done), allowance)
    }
    assert {name: s.problems for name, s in found.items()} == {"slow": 5, "fast": 5, "stuck": 2}
    assert [s.seconds for s in found.values()] == [10.0, 1.0, 500.0]
    assert all(s.distance_uncertainty > 0 for s in found.values())
    assert seen == sorted(seen)
    assert seen[-1] == (15, 15)


def test_held_out_samples_end_with_the_time(monkeypatch):
    clock = Clock(monkeypatch)
    samples = SPEC.decode_unclipped(Twin.of(SPEC.encode(CENTRES)).sample(12, torch.Generator().manual_seed(3))).float()
    for seconds, number in ((75.0, 7), (5.0, 4), (1e9, 12)):
        allowance = Allowance.of(seconds, lambda: clock.now)
        found = held_out(MODEL, samples, MATRIX, NOISE, "a", clock.run(10.0), seed=2, allowance=allowance)
        assert found.problems == found.scores.problems == number


def test_the_table_says_which_method_had_fewer_problems():
    few, many = (
        Scores(name, (0.5, 0.8, 0.9, 0.95), 0.01, 1.0, 2.0, 1.1, 0.1, n, 0.2) for name, n in (("f", 2), ("m", 5))
    )
    record = {"target": "r", "operator": "blur:1", "noise": 0.1, "problems": 5, "twin": [asdict(few), asdict(many)]}
    stein = {"ratio": 1.234, "scatter": 0.05, "p_value": 0.002}
    held = {"problems": 4, "scores": asdict(many) | {"stein": stein}}
    found = lines(record | {"held_out": held, "verdict": []})
    assert "The time ended before 5 problems for f: --budget gives more" in found
    assert any("1.10 ± 0.20" in line for line in found)
    assert any("posterior 1.23, of exact draws 1.00 ± 0.05: p = 0.002" in line for line in found)
    found = lines(record | {"held_out": held | {"scores": asdict(many)}, "verdict": []})
    assert any("no Stein discrepancy" in line for line in found)


@pytest.mark.parametrize("law", [torch.randn, lambda *n, generator: torch.rand(*n, generator=generator).mul(3).floor()])
def test_bands_between_draws_cover_what_they_promise_though_values_are_often_equal(law):
    g = torch.Generator().manual_seed(0)
    shares = torch.stack([covered(ranks(law(DRAWS, 1, generator=g), law(1, generator=g), g)) for _ in range(4000)])
    assert torch.allclose(shares.mean(0), torch.tensor(LEVELS).double(), atol=0.025)


def test_the_distance_of_shifted_draws_is_the_shift():
    x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0)).double()
    assert sliced(x, (x + 2).repeat(4, 1)) == pytest.approx(2)


def of_shares(shares, values=64):
    no = torch.empty(0)
    rows = [_Row(torch.full((len(LEVELS),), share, dtype=torch.float64), 0.0, 0.0, no) for share in shares]
    return HeldOut(_scores("a", rows, values, None), (0.1,) * 10, math.nan, math.nan, len(shares))


@pytest.mark.parametrize("samples", [4, 8, 40])
def test_calibrated_bands_are_called_wrong_in_one_certificate_of_twenty(samples):
    """Shares of samples scatter by 0.2 around 0.9; of 4,000 certificates 5 % are wrong, 0.35 % by chance."""
    g = torch.Generator().manual_seed(0)
    shares = 0.9 + 0.2 * torch.randn(4000, samples, generator=g, dtype=torch.float64)
    wrong = sum("too" in verdict([], of_shares(row.tolist(), 10_000))[0] for row in shares)
    assert wrong / 4000 == pytest.approx(0.05, abs=0.012)


def test_equal_shares_of_few_small_samples_say_little():
    """Two numbers each: bands of 90 % hold all of both in 4 samples of 10 million with a chance of 43 %."""
    assert "as they should, as far as 4 samples can tell, which is to 34%" in verdict([], of_shares([1.0] * 4, 2))[0]
    assert "too wide" in verdict([], of_shares([1.0] * 40, 64))[0]


def test_few_samples_choose_no_factor_and_say_how_many_do():
    found = of_shares([0.5, 0.52, 0.48, 0.51, 0.5])
    assert "5 samples are too few to choose a factor for them and to check it: it takes 18" in verdict([], found)[0]
    known = replace(found, widening=1.5, widened=0.91, problems=18)
    assert "Both halves times 1.50 cover 91% on 9 samples" in verdict([], known)[0]
    assert "No factor widens them enough" in verdict([], replace(known, widening=math.inf))[0]


def test_the_factor_covers_a_further_sample_as_promised_though_values_are_dependent():
    """Over 2,000 sets of 10 samples, each of 5 equal values: 90 %, which the 0.9 quantile of the values misses."""
    g = torch.Generator().manual_seed(0)
    needed = torch.randn(2000, 11, 1, generator=g, dtype=torch.float64).abs().expand(2000, 11, 5)
    covers = [float((row[10] <= conformal(row[:10])).double().mean()) for row in needed]
    assert sum(covers) / 2000 >= 0.9 - 0.015
    naive = [float((row[10] <= row[:10].quantile(0.9)).double().mean()) for row in needed]
    assert sum(naive) / 2000 < 0.89
    assert math.isnan(conformal(needed[0, :8]))
    assert conformal(needed[0, :9]) == float(needed[0, :9].max())


def test_values_whose_band_has_no_width_have_no_factor():
    """A row of ten values of which one counts weighs as much as one of ten that count."""
    needed = torch.full((10, 10), math.nan, dtype=torch.float64)
    needed[:9, 0] = torch.arange(9)
    needed[9] = 20 + torch.arange(10)
    assert conformal(needed) == 28  # 9.9 of 10 samples: all but a tenth of the last one
    result = annealed(MODEL, torch.tensor([[4.0]]).double(), 0)
    result = replace(result, draws=result.draws.clone())
    result.draws[..., 0] = 2.0
    factors = stretch(result, result.mean[0].double())
    assert math.isnan(float(factors[0]))
    assert float(factors[1]) == 0
