"""Sample i sees condition i: in every public function of sampling and likelihoods, batched as they like.

Three denoisers make a wrong row show: one that returns the condition's vector, so that every sample has its own known
end; one with a mixture per class, against calls of one class; one that is reflected by the sign of the condition, so
that reflected samples must give the same result to the last bit.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sfumato.bounds import ContinuousGaussian
from sfumato.core import VP, LinearLogSNR, Prediction, Process, SeededNoise, V, ValueGrid
from sfumato.denoisers import (
    Clamped,
    Condition,
    Denoiser,
    ExactDenoiser,
    GaussianMixture,
    NetworkDenoiser,
    NormBounded,
    Reprocessed,
)
from sfumato.denoisers.flow import ProbabilityFlow
from sfumato.errors import InputError
from sfumato.likelihood import Span, dequantised_likelihood, estimate, flow_likelihood, walk, walk_times
from sfumato.sampling import adams, ancestral, ddim, grids, iterate, posterior_spread, run, solve, uniform
from sfumato.sampling.certification import certify, reference
from sfumato.sampling.fitting import Trajectories, fit, fit_tableau, trajectories
from sfumato.sampling.fitting.derivatives import gradient, sensitivities
from sfumato.sampling.fitting.parameters import Parametrisation

F64 = torch.float64
PROCESS = Process(VP(), LinearLogSNR(-9.0, 9.0))
TABLE = adams(PROCESS, grids.angle(PROCESS, 6), order=3)
COUNT, BATCH = 11, 4  # two batches and a rest
DECODER = ContinuousGaussian()
TIMES = walk_times(PROCESS, 5)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def rows(cond: Condition | None, x_t: Tensor) -> Condition:
    assert cond is not None
    assert len(cond) == len(x_t), "a condition of another number of samples"
    return cond


class Told(Denoiser):
    """Data is the condition's vector, for certain."""

    process = PROCESS

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        x_0 = rows(cond, x_t).vector.to(x_t)
        level = PROCESS.level(t, like=x_t)
        return Prediction(x_0 + 0 * x_t, (x_t - level.alpha * x_0) / level.sigma)


MIXTURES = [GaussianMixture.isotropic(normal(3, 2, seed=k), 0.2 + 0.1 * k) for k in range(3)]
EXACT = [ExactDenoiser(PROCESS, mixture) for mixture in MIXTURES]


class ByClass(Denoiser):
    """A mixture of its own for each class."""

    process = PROCESS

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        chosen = rows(cond, x_t).classes, torch.arange(len(x_t))
        found = [exact(x_t, t) for exact in EXACT]
        return Prediction(*(torch.stack([getattr(p, name) for p in found])[chosen] for name in ("x_0", "eps")))


class Reflected(Denoiser):
    """Class 1 is the mirror image of class 0."""

    process = PROCESS

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        sign = signs(rows(cond, x_t))
        found = EXACT[1](sign * x_t, t)
        return Prediction(sign * found.x_0, sign * found.eps)


def signs(cond: Condition) -> Tensor:
    return 1.0 - 2.0 * cond.classes.to(F64)[:, None]


VECTOR = normal(COUNT, 2, seed=7)
TOLD = Condition(vector=VECTOR)
CLASSES = torch.tensor([0, 2, 1, 1, 0, 2, 2, 0, 1, 0, 2])
CLASSED = Condition(classes=CLASSES)
NOISE = SeededNoise.samples(2, COUNT)
X = normal(COUNT, 2, seed=9)


def mirrored(count: int) -> Condition:
    return Condition(classes=(torch.arange(count) * 7 % 5) % 2)


def by_class(call: Callable[[Denoiser], Tensor]) -> Tensor:
    """Row i of the call with the mixture of class i alone."""
    found = torch.stack([call(exact) for exact in EXACT])
    return found[CLASSES, torch.arange(found.shape[1])]


# ------------------------------------------------------------------------------------------------ samplers


def test_run_and_iterate():
    # DDIM is exact for data that is known.
    torch.testing.assert_close(run(Told(), ddim(PROCESS, uniform(6)), X, cond=TOLD), VECTOR, rtol=0, atol=1e-12)
    for table in (TABLE, ancestral(PROCESS, uniform(6))):
        got = run(ByClass(), table, X, noise=NOISE, cond=CLASSED)
        torch.testing.assert_close(
            got, by_class(lambda one, table=table: run(one, table, X, noise=NOISE)), rtol=1e-12, atol=1e-12
        )
        last = [result.next_x for result in iterate(ByClass(), table, X, noise=NOISE, cond=CLASSED)][-1]
        assert torch.equal(last, got)


def test_solve():
    torch.testing.assert_close(solve(Told(), X, cond=TOLD), VECTOR, rtol=0, atol=1e-9)
    got = solve(ByClass(), X, cond=CLASSED, tolerance=1e-7)
    torch.testing.assert_close(got, by_class(lambda one: solve(one, X, tolerance=1e-7)), rtol=1e-9, atol=1e-9)


def test_posterior_spread():
    times = torch.tensor([0.7, 0.3], dtype=F64)
    got = posterior_spread(Told(), VECTOR, times, NOISE, TOLD)
    for i, t in enumerate(times):  # eps-hat is the noise itself
        expected = PROCESS.level(t).ratio ** 2 * (1 - NOISE(i, X).square().mean()).clamp(0, 1)
        assert float(got[i]) == pytest.approx(float(expected), rel=1e-9)


def test_trajectories():
    paths = trajectories(ByClass(), (2,), COUNT, evaluations=20, cond=CLASSED, batch=BATCH)
    alone = by_class(lambda one: trajectories(one, (2,), COUNT, evaluations=20, batch=BATCH).x_0)
    torch.testing.assert_close(paths.x_0, alone, rtol=1e-12, atol=1e-12)
    assert paths.cond is CLASSED
    for index in (slice(3, 9), torch.tensor([10, 0, 4])):
        kept = paths.rows(index)
        assert torch.equal(kept.cond.classes, CLASSES[index])
        assert torch.equal(kept.x, paths.x[index])


def test_certify_and_its_reference():
    count = 301  # more than the 256 of a batch, and no even halves
    cond = Condition(vector=normal(count, 2, seed=3))
    paths, own = reference(Told(), (2,), count, cond=cond)
    torch.testing.assert_close(paths.x_0, cond.vector, rtol=0, atol=1e-9)
    assert own.rms < 1e-9
    ddim_entry, ancestral_entry = certify(Told(), paths, methods=["ddim", "ancestral"], budgets=[5])
    assert ddim_entry.errors.rms < 1e-9
    # The ends of the first half are its vectors, as the fine ones are.
    assert ancestral_entry.distance == pytest.approx(ancestral_entry.floor, rel=1e-9)
    assert ancestral_entry.floor > 0.01


def test_a_fit_and_its_derivatives(monkeypatch):
    monkeypatch.setattr(fit, "_CARRIED", 2 * 7)  # seven samples at a time
    plain = trajectories(EXACT[1], (2,), 32, evaluations=40)
    cond = mirrored(32)
    sign = signs(cond)
    paths = Trajectories(sign * plain.x, sign * plain.x_0, cond)
    expected, got = (fit_tableau(d, 4, p, iterations=3) for d, p in ((EXACT[1], plain), (Reflected(), paths)))
    assert expected.kept
    assert torch.equal(got.tableau.estimates, expected.tableau.estimates)
    assert torch.equal(got.tableau.times[1:], expected.tableau.times[1:])
    assert (got.errors, got.classical) == (expected.errors, expected.classical)
    form = Parametrisation(TABLE, 0.0)
    end, derivatives = sensitivities(Reflected(), form, form.initial, paths.x, cond)
    plain_end, plain_derivatives = sensitivities(EXACT[1], form, form.initial, plain.x)
    assert torch.equal(end, sign * plain_end)
    assert torch.equal(derivatives, sign * plain_derivatives)
    weights = torch.ones(32, dtype=F64)
    slope = gradient(Reflected(), form, form.initial, paths.x, paths.x_0, weights, cond)
    assert torch.equal(slope, gradient(EXACT[1], form, form.initial, plain.x, plain.x_0, weights))


# ------------------------------------------------------------------------------------------------ likelihoods


@pytest.mark.parametrize("count", [7, COUNT])  # without a pilot and with one
def test_walk(count):
    told = walk(Told(), VECTOR[:count], DECODER, TIMES, draws=2, cond=TOLD.rows(slice(0, count)), batch=BATCH)
    # Every x_0-hat is right, so no step costs anything, and in the pilot neither.
    assert float(told.contributions.abs().max()) < 1e-20
    assert float(told.errors.abs().max()) < 1e-20
    assert float(told.steps.abs().max()) < 1e-20
    x = X[:count]
    got = walk(ByClass(), x, DECODER, TIMES, draws=2, cond=CLASSED.rows(slice(0, count)), batch=BATCH)
    alone = [walk(one, x, DECODER, TIMES, draws=2, batch=BATCH) for one in EXACT]
    for name in ("contributions", "errors", "prior") + (("steps", "decoder", "variance") if count < 8 else ()):
        expected = torch.stack([getattr(bound, name) for bound in alone])[CLASSES[:count], torch.arange(count)]
        torch.testing.assert_close(getattr(got, name), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("times", [TIMES, Span(0.0)], ids=["times", "span"])
def test_estimate(times):
    told = estimate(Told(), VECTOR, DECODER, times, evaluations=30, cond=TOLD, batch=BATCH)
    assert float(told.contributions.abs().max()) < 1e-20
    assert float(told.errors.abs().max()) < 1e-20
    # A pilot with the condition of others would have found terms, and their size would be subtracted and added.
    assert float(told.steps.abs().max()) < 1e-20
    # Values are right in the mean over copies: of each sample under its own class, 4 sigma.
    copies = 60
    cond = Condition(classes=CLASSES.repeat(copies))
    few = estimate(ByClass(), X.repeat(copies, 1), DECODER, times, evaluations=40, cond=cond, batch=250)
    full = [
        estimate(one, X.repeat(copies, 1), DECODER, times, evaluations=40, seed=1, batch=660).nats.reshape(copies, -1)
        for one in EXACT
    ]
    found = few.nats.reshape(copies, -1)
    expected = torch.stack(full, 2)[:, torch.arange(COUNT), CLASSES]
    error = torch.sqrt((found.var(0) + expected.var(0)) / copies)
    assert bool(((found.mean(0) - expected.mean(0)).abs() < 4 * error).all())
    other = torch.stack(full, 2)[:, torch.arange(COUNT), (CLASSES + 1) % 3]
    assert float(((found.mean(0) - other.mean(0)).abs() / error).median()) > 10


@pytest.mark.parametrize("probes", [None, 2])
def test_flow_likelihood(probes):
    settings = {"tolerance": 1e-2, "probes": probes, "batch": 8}  # the same steps either way
    got = flow_likelihood(ByClass(), X, cond=CLASSED, **settings)
    expected = by_class(lambda one: flow_likelihood(one, X, **settings).nats)
    torch.testing.assert_close(got.nats, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("by", "draws"), [("noise", 2), ("uniform", 1)])
def test_dequantised_likelihood(by, draws):
    grid = ValueGrid(-4.0, 0.5, 17)
    x_0 = (X / 0.5).round() * 0.5
    settings = {"by": by, "draws": draws, "tolerance": 1e-2, "batch": 8}
    got = dequantised_likelihood(ByClass(), x_0, grid, cond=CLASSED, **settings)
    expected = by_class(lambda one: dequantised_likelihood(one, x_0, grid, **settings).nats)
    torch.testing.assert_close(got.nats, expected, rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------------------------------------ denoisers


def test_wrappers_and_the_flow_pass_it_on():
    t = torch.full((COUNT,), 0.4, dtype=F64)
    wide = Process(VP(), LinearLogSNR(-8.0, 8.0))
    for wrapped in (Clamped(Told(), -9.0, 9.0), NormBounded(Told(), 99.0), Reprocessed(Told(), wide)):
        torch.testing.assert_close(wrapped(X, t, TOLD).x_0, VECTOR, rtol=1e-12, atol=1e-12)
    flow = ProbabilityFlow(Told(), X.shape[1:], F64, TOLD)
    angle = torch.full((COUNT,), 0.7, dtype=F64)
    torch.testing.assert_close(flow.predict(angle, X).x_0, VECTOR, rtol=1e-12, atol=1e-12)


def test_a_network_gets_the_numbers_of_each_sample():
    class Adds(torch.nn.Module):
        def forward(self, x: Tensor, label: Tensor, numbers: Tensor) -> Tensor:
            return numbers + 0 * x

    denoiser = NetworkDenoiser(Adds(), PROCESS, V())
    t = torch.tensor(0.4, dtype=F64)
    torch.testing.assert_close(denoiser.output(X, t, Condition(augmentation=VECTOR)), VECTOR)


# ------------------------------------------------------------------------------------------------ the door

DOORS: dict[str, Callable[[Condition], object]] = {
    "run": lambda cond: run(Told(), TABLE, X, cond=cond),
    "iterate": lambda cond: iterate(Told(), TABLE, X, cond=cond),
    "solve": lambda cond: solve(Told(), X, cond=cond),
    "posterior_spread": lambda cond: posterior_spread(Told(), X, torch.tensor([0.5]), NOISE, cond),
    "trajectories": lambda cond: trajectories(Told(), (2,), COUNT, evaluations=5, cond=cond),
    "Trajectories": lambda cond: Trajectories(X, X, cond),
    "reference": lambda cond: reference(Told(), (2,), COUNT, cond=cond),
    "walk": lambda cond: walk(Told(), X, DECODER, TIMES, cond=cond),
    "estimate": lambda cond: estimate(Told(), X, DECODER, TIMES, cond=cond),
    "flow_likelihood": lambda cond: flow_likelihood(Told(), X, cond=cond),
    "dequantised_likelihood": lambda cond: dequantised_likelihood(
        Told(), torch.zeros(COUNT, 2, dtype=F64), ValueGrid(-1.0, 0.5, 5), cond=cond
    ),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("count", [1, COUNT - 1, COUNT + 1])
def test_a_condition_of_another_number_of_samples_is_refused(door, count):
    cond = Condition(vector=torch.zeros(count, 2, dtype=F64))
    with pytest.raises(InputError, match=rf"^cond: has {count} rows for {COUNT} samples; give one row per sample$"):
        DOORS[door](cond)


def test_ends_and_starts_of_trajectories_agree():
    with pytest.raises(InputError, match=r"^trajectories: starts have shape \(11, 2\) and ends \(10, 2\)"):
        Trajectories(X, X[:10])
