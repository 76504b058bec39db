"""Loops around ``iterate``: pausing, stopping, replacing and resampling, against runs that do the same another way."""

import gc
import math
import weakref

import pytest
import torch

from sfumato.core import VP, Cosine, Process, SeededNoise
from sfumato.denoisers import Condition, Denoiser, ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.sampling import Tableau, adams, ancestral, ddim, grids, heun, iterate, join, repaint, run, uniform
from sfumato.sampling.tableau import Rows

PROCESS = Process(VP(), Cosine())
MEANS = torch.tensor([[1.0, -0.5], [-0.8, 0.6], [0.2, 1.1]], dtype=torch.float64)
DENOISER = ExactDenoiser(PROCESS, GaussianMixture.isotropic(MEANS, 0.3))
NOISE = SeededNoise.samples(0, 5)
TABLES = {
    "ddim": ddim(PROCESS, uniform(6)),
    "ancestral": ancestral(PROCESS, uniform(6)),
    "adams": adams(PROCESS, grids.angle(PROCESS, 6), order=3),
    "heun": heun(PROCESS, grids.rho(PROCESS, 4), churn=2.0),
    "repaint": repaint(PROCESS, uniform(6), jump=2, repeats=2),  # with rows that evaluate nothing
}


def start() -> torch.Tensor:
    return torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Counting(Denoiser):
    """Counts evaluations."""

    process = PROCESS

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, x_t, t, cond=None):
        self.count += 1
        return DENOISER(x_t, t)


@pytest.mark.parametrize("name", TABLES)
def test_its_rows_are_those_of_the_table_and_its_end_is_the_runs(name):
    table, x = TABLES[name], start()
    states, hats, seen = [x], {}, []
    rows = iterate(DENOISER, table, x, noise=NOISE)
    while True:
        try:
            result = next(rows)
        except StopIteration as stop:
            last = stop.value
            break
        r = result.row
        assert r == len(seen)
        assert (result.t is None) == (result.prediction is None) == bool(table.times[r].isnan())
        if result.prediction is not None:
            assert float(result.t) == float(table.times[r])
            hats[r] = DENOISER(states[r], table.times[r]).x_0
            torch.testing.assert_close(result.prediction.x_0, hats[r], rtol=1e-13, atol=1e-13)
        # The definition: x_{r+1} = sum_j states x_j + estimates x0_hat_j + noise z_r.
        expected = sum(table.states[r, j] * states[j] for j in range(r + 1))
        expected = expected + sum(table.estimates[r, j] * hat for j, hat in hats.items())
        expected = expected + table.noise[r, 0] * NOISE(r + 1, x)
        assert torch.equal(result.x, states[r])
        torch.testing.assert_close(result.next_x, expected, rtol=1e-11, atol=1e-11)
        states.append(result.next_x)
        seen.append(r)
    assert len(seen) == len(table.times)
    assert torch.equal(last, states[-1])
    assert torch.equal(last, run(DENOISER, table, x, noise=NOISE))


def test_a_loop_can_pause_and_go_on():
    # Two runs that take turns do not disturb each other, and nothing is evaluated while nobody asks.
    denoiser = Counting()
    first = iterate(denoiser, TABLES["ddim"], start())
    second = iterate(denoiser, TABLES["adams"], 2 * start())
    assert denoiser.count == 0
    ends = [(a.next_x, b.next_x) for a, b in zip(first, second, strict=True)]
    assert denoiser.count == 12
    assert torch.equal(ends[-1][0], run(DENOISER, TABLES["ddim"], start()))
    assert torch.equal(ends[-1][1], run(DENOISER, TABLES["adams"], 2 * start()))


def test_a_loop_can_stop_and_the_memory_is_freed():
    denoiser = Counting()
    rows, held = iterate(denoiser, TABLES["adams"], start()), []
    for result in rows:
        held += [weakref.ref(result.next_x), weakref.ref(result.prediction.x_0), weakref.ref(result.prediction.eps)]
        if result.row == 2:
            break
    del result
    assert sum(ref() is not None for ref in held) >= 4  # the states and estimates that later rows would use
    rows.close()
    gc.collect()
    assert [ref() for ref in held] == [None] * 9
    assert denoiser.count == 3
    assert next(rows, None) is None


def test_between_rows_only_what_later_rows_need_is_alive():
    held = []
    for result in iterate(DENOISER, TABLES["ddim"], start()):
        alive = [ref() is not None for ref in held]
        assert not any(alive[:-1])  # all of earlier rows, but for the state that this one started from
        held += [weakref.ref(result.prediction.x_0), weakref.ref(result.prediction.eps), weakref.ref(result.next_x)]


@pytest.mark.parametrize("name", TABLES)
def test_a_state_that_is_sent_is_used_from_there_on(name):
    # Known pixels are replaced after row 2. By hand: the rest of the table, written in the states and estimates so far.
    table, x, cut = TABLES[name], start(), 3
    known = torch.tensor([[True, False]]).expand(5, 2)
    pixels = torch.full((5, 2), 0.37, dtype=torch.float64)
    states, hats = [], []
    rows = iterate(DENOISER, table, x, noise=NOISE)
    for result in rows:
        if result.row == cut - 1:
            mixed = torch.where(known, pixels, result.next_x)
            changed = rows.send(mixed)
            assert changed.next_x is mixed
            assert changed[:4] == result[:4]
        last = result.next_x
        if result.row < cut:
            states.append(result.x)
            hats.append(None if result.prediction is None else result.prediction.x_0)
    states.append(mixed)
    for r in range(cut, len(table.times)):
        hats.append(None if table.times[r].isnan() else DENOISER(states[r], table.times[r]).x_0)
        new = sum(table.states[r, j] * states[j] for j in range(r + 1)) + table.noise[r, 0] * NOISE(r + 1, x)
        states.append(new + sum(table.estimates[r, j] * hats[j] for j in range(r + 1) if hats[j] is not None))
    torch.testing.assert_close(last, states[-1], rtol=1e-10, atol=1e-10)
    assert not torch.allclose(last, run(DENOISER, table, x, noise=NOISE))


def test_a_state_sent_after_the_last_row_is_the_end():
    rows, x = iterate(DENOISER, TABLES["ddim"], start()), None
    for _ in range(6):
        x = next(rows).next_x
    rows.send(x + 1)
    assert torch.equal(rows.send(x + 2).next_x, x + 2)  # the last one counts
    with pytest.raises(StopIteration) as stop:
        next(rows)
    assert torch.equal(stop.value.value, x + 2)


def test_pixels_replaced_at_every_level_inpaint():
    # The first number is kept at its noisy true value; data is one Gaussian, so the second given the first is known.
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    denoiser = ExactDenoiser(PROCESS, GaussianMixture.gaussian(torch.zeros(2, dtype=torch.float64), covariance))
    count, table = 4000, repaint(PROCESS, uniform(20), jump=1, repeats=12)
    noise, x_0 = SeededNoise.samples(1, count), torch.full((count, 2), 1.2, dtype=torch.float64)
    rows = iterate(denoiser, table, noise(0, x_0), noise=noise)
    times = [float(t) for t in table.times] + [0.0]
    for result in rows:
        t = times[result.row + 1] if not math.isnan(times[result.row + 1]) else None
        if t is not None:
            given = PROCESS.perturb(x_0, t, noise(1000 + result.row, x_0)) if t else x_0
            last = rows.send(torch.stack((given[:, 0], result.next_x[:, 1]), dim=1)).next_x
    # Conditional mean 0.8 x 1.2 = 0.96. RePaint's samples agree with the given number up to what its jumps leave; with
    # none of the replacements the mean is 0.
    assert float(last[:, 1].mean()) == pytest.approx(0.96, abs=0.1)
    assert float(last[:, 1].std()) == pytest.approx(0.6, abs=0.1)


def test_particles_are_resampled_by_a_loop():
    # x_0 ~ N(0, 1) and y = x_0 + N(0, 1) observed as 1: the posterior is N(1/2, 1/2). At each level particles are
    # weighted by N(1; E[x_0 | x_t], 1 + Var[x_0 | x_t]), and "beta" is the exact variance of the reverse chain.
    denoiser = ExactDenoiser(PROCESS, GaussianMixture.gaussian(*(torch.tensor(v).double() for v in ([0.0], [[1.0]]))))
    count, table = 40_000, ancestral(PROCESS, uniform(30), "beta")
    noise, generator = SeededNoise.samples(3, count), torch.Generator().manual_seed(0)
    rows = iterate(denoiser, table, noise(0, torch.zeros(count, 1, dtype=torch.float64)), noise=noise)
    likelihood = torch.zeros(count, dtype=torch.float64)
    for result in rows:
        t = [*table.times.tolist(), 0.0][result.row + 1]
        level = PROCESS.level(t) if t else None
        mean, spread = (result.next_x, 0.0) if level is None else (level.alpha * result.next_x, level.sigma**2)
        new = -((mean - 1) ** 2)[:, 0] / (2 * (1 + spread)) - 0.5 * math.log(1 + spread)
        chosen = torch.multinomial((new - likelihood).softmax(0), count, replacement=True, generator=generator)
        likelihood, last = new[chosen], rows.send(result.next_x[chosen]).next_x
    # Over seeds mean and variance vary by 0.014; without resampling they are 0 and 1.
    assert float(last.mean()) == pytest.approx(0.5, abs=0.06)
    assert float(last.var()) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (torch.zeros(4, 2, dtype=torch.float64), r"shape \(4, 2\).*\(5, 2\)"),
        (torch.zeros(5, 2), "float32.*float64"),
        (torch.zeros(5, 2, dtype=torch.float64, device="meta"), "meta.*cpu"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(sent, said):
    rows = iterate(DENOISER, TABLES["ddim"], start())
    next(rows)
    with pytest.raises(InputError, match=f"^send: .*{said}"):
        rows.send(sent)


def test_what_is_missing_is_refused_before_the_first_row():
    with pytest.raises(InputError, match=r"^noise: "):
        iterate(DENOISER, TABLES["ancestral"], start())
    with pytest.raises(InputError, match=r"^cond: has 4 rows for 5 samples"):
        iterate(DENOISER, TABLES["ddim"], start(), cond=Condition(classes=torch.zeros(4, dtype=torch.int64)))


def test_a_table_of_a_row_that_evaluates_nothing():
    rows = Rows()
    rows.add(None, {0: 2.0})
    table: Tableau = join([rows.table("twice")], "twice")
    (result,) = iterate(DENOISER, table, start())
    assert result.t is result.prediction is None
    assert torch.equal(result.next_x, 2 * start())
