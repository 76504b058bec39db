"""The tableau and the loop that runs it, on tables made by hand."""

import math
import weakref

import pytest
import torch

from sfumato.core import VP, Cosine, Prediction, Process, SeededNoise
from sfumato.denoisers import Condition, Denoiser
from sfumato.errors import InputError
from sfumato.sampling import Tableau, ancestral, ddim, join, run, uniform
from sfumato.sampling.tableau import Rows, constant

NAN = math.nan


def tensor(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def alike(values) -> torch.Tensor:
    """The two columns of noise where no variance is learned."""
    return torch.stack((tensor(values), tensor(values)), dim=1)


class Curved(Denoiser):
    """A nonlinear belief that depends on the time."""

    process = Process(VP(), Cosine())

    def __init__(self) -> None:
        super().__init__()
        self.calls = []

    def forward(self, x_t, t, cond=None):
        self.calls.append(float(t))
        x_0 = torch.tanh(x_t + t) if cond is None else torch.tanh(x_t + t) + cond.vector[:, :, None]
        return Prediction(x_0, x_t - x_0)


class Holder(Curved):
    """Counts which of the states it saw, and of its own answers, are alive when it is called again."""

    def __init__(self) -> None:
        super().__init__()
        self.states, self.x_0, self.eps, self.alive = [], [], [], []

    def forward(self, x_t, t, cond=None):
        self.alive.append(
            tuple([i for i, ref in enumerate(refs) if ref() is not None] for refs in (self.states, self.x_0, self.eps))
        )
        prediction = super().forward(x_t, t)
        self.states.append(weakref.ref(x_t))
        self.x_0.append(weakref.ref(prediction.x_0))
        self.eps.append(weakref.ref(prediction.eps))
        return prediction


def start() -> torch.Tensor:
    return torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def multistep() -> Tableau:
    """Four rows with two terms of everything: the state two back, the estimate one back, noise in the middle."""
    return Tableau(
        times=tensor([1.0, 0.8, 0.5, 0.2]),
        states=tensor([[0.9, 0, 0, 0], [0.3, 0.6, 0, 0], [0, 0.2, 0.7, 0], [0, 0, 0.1, 0.5]]),
        estimates=tensor([[0.1, 0, 0, 0], [-0.4, 0.8, 0, 0], [0, -0.3, 0.9, 0], [0, 0, -0.2, 0.7]]),
        noise=alike([0, 0.5, 0.25, 0]),
    )


def test_a_two_term_multistep_table_against_a_loop_by_hand():
    x, source = start(), SeededNoise.samples(0, 3)
    before, before_hat = None, None
    current = x
    rows = [
        # t, own state, state before, own estimate, estimate before, noise
        (1.0, 0.9, 0, 0.1, 0, 0),
        (0.8, 0.6, 0.3, 0.8, -0.4, 0.5),
        (0.5, 0.7, 0.2, 0.9, -0.3, 0.25),
        (0.2, 0.5, 0.1, 0.7, -0.2, 0),
    ]
    for r, (t, own, past, hat, past_hat, std) in enumerate(rows):
        estimate = torch.tanh(current + t)
        after = own * current + hat * estimate
        if before is not None:
            after = after + past * before + past_hat * before_hat
        after = after + std * source(r + 1, x)
        before, before_hat, current = current, estimate, after
    got = run(Curved(), multistep(), x, noise=source)
    torch.testing.assert_close(got, current, rtol=1e-13, atol=1e-13)


def test_the_callers_state_is_left_as_it_is():
    x = start()
    kept = x.clone()
    got = run(Curved(), multistep(), x, noise=SeededNoise.samples(0, 3))
    assert torch.equal(x, kept)
    assert got.data_ptr() != x.data_ptr()
    # The identity for a row: still a state of its own.
    same = Tableau(tensor([NAN]), tensor([[1.0]]), tensor([[0.0]]), alike([0.0]))
    got = run(Curved(), same, x)
    assert torch.equal(got, x)
    assert got.data_ptr() != x.data_ptr()


def test_an_answer_of_the_denoiser_is_left_as_it_is():
    answers = []

    def keep(row, t, x, prediction):
        answers.append((prediction.x_0, prediction.x_0.clone(), x, x.clone()))

    run(Curved(), multistep(), start(), noise=SeededNoise.samples(0, 3), watch=keep)
    for x_0, x_0_then, x, x_then in answers:
        assert torch.equal(x_0, x_0_then)
        assert torch.equal(x, x_then)


def test_a_run_twice_is_the_same_run():
    tableau, x = multistep(), start()
    first = run(Curved(), tableau, x, noise=SeededNoise.samples(0, 3))
    assert torch.equal(first, run(Curved(), tableau, x, noise=SeededNoise.samples(0, 3)))


def test_rows_that_evaluate_nothing():
    # Move by an estimate, add noise and shrink without one, move again: as RePaint and predictor-correctors do.
    tableau = Tableau(
        times=tensor([1.0, NAN, 0.5]),
        states=tensor([[0.5, 0, 0], [0, 0.8, 0], [0.1, 0, 0.3]]),
        estimates=tensor([[0.5, 0, 0], [0, 0, 0], [0.2, 0, 0.4]]),
        noise=alike([0, 0.6, 0]),
    )
    assert tableau.evaluations == 2
    denoiser, x, source = Curved(), start(), SeededNoise.samples(1, 3)
    seen = []
    got = run(denoiser, tableau, x, noise=source, watch=lambda row, t, x, p: seen.append((row, float(t))))
    first = torch.tanh(x + 1.0)
    second = 0.8 * (0.5 * x + 0.5 * first) + 0.6 * source(2, x)
    expected = 0.1 * x + 0.3 * second + 0.2 * first + 0.4 * torch.tanh(second + 0.5)
    torch.testing.assert_close(got, expected, rtol=1e-13, atol=1e-13)
    assert denoiser.calls == [1.0, 0.5]
    assert seen == [(0, 1.0), (1, 0.5)]


def test_watch_sees_each_evaluation_with_its_time_state_and_prediction():
    denoiser, tableau, x = Curved(), multistep(), start()
    seen = []
    run(denoiser, tableau, x, noise=SeededNoise.samples(0, 3), watch=lambda *args: seen.append(args))
    assert [row for row, *_ in seen] == [0, 1, 2, 3]
    assert [float(t) for _, t, *_ in seen] == denoiser.calls == tableau.times.tolist()
    assert torch.equal(seen[0][2], x)
    for _, t, state, prediction in seen:
        assert t.shape == ()
        assert torch.equal(prediction.x_0, torch.tanh(state + t))


def test_a_condition_reaches_every_evaluation():
    cond = tensor([[[0.1]], [[0.2]], [[-3.0]]])
    tableau = ddim(Curved.process, uniform(2))
    got = run(Curved(), tableau, start(), cond=Condition(vector=cond[:, 0]))
    halfway = tableau.states[0, 0] * start() + tableau.estimates[0, 0] * (torch.tanh(start() + 1) + cond)
    expected = tableau.states[1, 1] * halfway + tableau.estimates[1, 1] * (torch.tanh(halfway + 0.5) + cond)
    torch.testing.assert_close(got, expected, rtol=1e-13, atol=1e-13)


def test_what_no_later_row_needs_is_dropped():
    # The first state is the caller's, and lives as long as the caller lets it.
    holder = Holder()
    run(holder, ddim(Curved.process, uniform(6)), start())
    assert [[i for i in states if i] for states, _, _ in holder.alive] == [[]] * 6
    holder = Holder()
    run(holder, multistep(), start(), noise=SeededNoise.samples(0, 3))
    # At row r the state and the estimate of row r - 1 are needed, and none before.
    assert [[i for i in states if i] for states, _, _ in holder.alive] == [[], [], [1], [2]]
    assert [x_0 for _, x_0, _ in holder.alive] == [[], [0], [1], [2]]


def test_nothing_of_a_spent_prediction_is_held_during_the_next_evaluation():
    holder = Holder()
    run(holder, ddim(Curved.process, uniform(6)), start())
    for _, x_0, eps in holder.alive:
        assert x_0 == []
        assert eps == []


def test_gradients_flow_through_a_run():
    x = start().requires_grad_()
    tableau = multistep()
    run(Curved(), tableau, x, noise=SeededNoise.samples(0, 3)).sum().backward()
    h = torch.zeros_like(x)
    h[1, 0, 1] = 1e-6
    ends = [float(run(Curved(), tableau, x.detach() + s * h, noise=SeededNoise.samples(0, 3)).sum()) for s in (1, -1)]
    assert float(x.grad[1, 0, 1]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-7)


def test_float32_states_stay_float32():
    x = start().float()
    got = run(Curved(), multistep(), x, noise=SeededNoise.samples(0, 3))
    assert got.dtype == torch.float32
    exact = run(Curved(), multistep(), x.double(), noise=SeededNoise.samples(0, 3))
    # Four rows of five operations with coefficients below one.
    torch.testing.assert_close(got.double(), exact, rtol=0, atol=20 * 6e-8 * 4)


def test_noise_that_is_needed_and_not_given_is_refused():
    with pytest.raises(InputError, match=r"^noise: .*SeededNoise"):
        run(Curved(), multistep(), start())


def two(times=(1.0, 0.5), states=((1, 0), (0, 1)), estimates=((0.5, 0), (0, 0.5)), noise=((0, 0), (0, 0))):
    return Tableau(tensor(times), tensor(states), tensor(estimates), tensor(noise))


def test_a_fair_table_is_taken():
    assert two().evaluations == 2
    assert two(times=(1.0, NAN), estimates=((0.5, 0), (0.5, 0))).evaluations == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": (1.0,)}, "shapes .* disagree"),
        ({"times": (1.0, 0.5, 0.2)}, "shapes .* disagree"),
        ({"noise": (0, 0)}, "shapes .* disagree"),
        ({"noise": ((0, 0), (0, 0), (0, 0))}, "shapes .* disagree"),
        ({"noise": ((0, 0, 0), (0, 0, 0))}, "shapes .* disagree"),
        ({"states": ((1, 0, 0), (0, 1, 0))}, "shapes .* disagree"),
        ({"estimates": (0.5, 0.5)}, "shapes .* disagree"),
        ({"states": ((1, 0), (0, NAN))}, "not finite"),
        ({"estimates": ((math.inf, 0), (0, 1))}, "not finite"),
        ({"noise": ((0, 0), (0, math.inf))}, "not finite"),
        ({"noise": ((0, 0), (NAN, 0))}, "not finite"),
        ({"noise": ((0, 0), (0, -0.1))}, "negative"),
        ({"noise": ((0, 0), (-0.1, 0))}, "negative"),
        ({"times": (1.0, NAN), "estimates": ((1, 0), (0, 0)), "noise": ((0, 0), (0.1, 0.2))}, "no learned variance"),
        ({"states": ((1, 0.1), (0, 1))}, "later row"),
        ({"estimates": ((1, 0.1), (0, 1))}, "later row"),
        ({"times": (1.0, NAN)}, "evaluates nothing"),
        ({"times": (NAN, 0.5), "estimates": ((0, 0), (0.1, 0.5))}, "evaluates nothing"),
        ({"states": ((0, 0), (0, 1)), "estimates": ((0, 0), (0, 0.5))}, "from nothing"),
        ({"states": ((0, 0), (0, 1)), "estimates": ((0, 0), (0, 0.5)), "noise": ((0, 0.1), (0, 0))}, "from nothing"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(InputError, match="^tableau: .*" + message):
        two(**change)


def test_an_empty_table_is_refused():
    with pytest.raises(InputError, match=r"^tableau: shapes"):
        Tableau(torch.zeros(0), torch.zeros(0, 0), torch.zeros(0, 0), torch.zeros(0, 2))


def test_messages_begin_with_the_name():
    table = two()
    assert table.name == "tableau"
    with pytest.raises(InputError, match=r"^mine: a standard deviation is negative"):
        Tableau(table.times, table.states, table.estimates, alike([0, -1]), "mine")


def test_rows_make_the_table_that_is_written_by_hand():
    rows = Rows()
    assert len(rows) == 0
    assert rows.add(1.0, {0: 0.9}, {0: tensor(0.1)}) == 1
    assert rows.add(None, {1: tensor(0.8)}, std=0.6) == 2
    assert rows.add(tensor(0.5), {0: 0.1, 2: 0.3}, {0: 0.2, 2: 0.4}, tensor(0.05)) == 3
    assert len(rows) == 3
    table = rows.table("mine")
    assert table.name == "mine"
    assert table.times.isnan().tolist() == [False, True, False]
    assert table.times[[0, 2]].tolist() == [1.0, 0.5]
    assert torch.equal(table.states, tensor([[0.9, 0, 0], [0, 0.8, 0], [0.1, 0, 0.3]]))
    assert torch.equal(table.estimates, tensor([[0.1, 0, 0], [0, 0, 0], [0.2, 0, 0.4]]))
    assert torch.equal(table.noise, alike([0, 0.6, 0.05]))


def test_tables_joined_run_in_turn_with_their_draws_numbered_through():
    source = SeededNoise.samples(4, 3)
    first, second = multistep(), two(times=(NAN, 0.1), estimates=((0, 0), (0, 0.5)), noise=((0.3, 0.3), (0.1, 0.1)))
    joined = join([first, second, first], "all")
    assert joined.name == "all"
    assert joined.evaluations == 9
    x = start()
    got = run(Curved(), joined, x, noise=source)
    for before, part in ((0, first), (4, second), (6, first)):
        x = run(Curved(), part, x, noise=lambda draw, like, before=before: source(before + draw, like))
    torch.testing.assert_close(got, x, rtol=1e-13, atol=1e-13)


def test_whether_noise_is_added():
    assert multistep().stochastic
    assert not two().stochastic
    assert two(noise=((0, 0), (0, 0.2))).stochastic  # a learned variance may be anything in between


def test_the_start_is_the_time_of_the_first_evaluation():
    assert multistep().start == 1.0
    assert two(times=(NAN, 0.7), estimates=((0, 0), (0, 1))).start == 0.7


class Learned(Curved):
    """Beliefs with a share of variance of their own for every element, 0 and 1 among them."""

    def __init__(self, share: torch.Tensor | None) -> None:
        super().__init__()
        self.share = share

    def forward(self, x_t, t, cond=None):
        prediction = super().forward(x_t, t)
        return Prediction(prediction.x_0, prediction.eps, self.share)


def test_a_learned_variance_is_interpolated_by_element_on_a_log_scale():
    share = torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    share[0, 0, 0], share[1, 1, 1] = 0, 1
    small, large = [0.02, 0.3], [0.05, 0.3]
    table = two(noise=tuple(zip(small, large, strict=True)))
    source, x, got = SeededNoise.samples(2, 3), start(), []
    run(Learned(share), table, x, noise=source, watch=lambda row, t, x, p: got.append(x))
    got.append(run(Learned(share), table, x, noise=source))
    # Nichol & Dhariwal's exp(v log beta + (1 - v) log beta-tilde) is a variance.
    variance = torch.exp(share * math.log(0.05**2) + (1 - share) * math.log(0.02**2))
    after = x + 0.5 * torch.tanh(x + 1) + variance.sqrt() * source(1, x)
    torch.testing.assert_close(got[1], after, rtol=1e-13, atol=1e-13)
    # Equal ends need no share: the second row.
    after = after + 0.5 * torch.tanh(after + 0.5) + 0.3 * source(2, x)
    torch.testing.assert_close(got[2], after, rtol=1e-13, atol=1e-13)


def test_a_learned_variance_between_nothing_and_something():
    # The limit of small^(1 - v) large^v: nothing, but for v = 1.
    share = torch.zeros(3, 2, 2, dtype=torch.float64)
    share[0], share[1] = 1, 0.999
    source, x = SeededNoise.samples(2, 3), start()
    got = run(Learned(share), two(noise=((0, 0.5), (0, 0))), x, noise=source)
    after = x + 0.5 * torch.tanh(x + 1)
    after[0] += 0.5 * source(1, x)[0]
    torch.testing.assert_close(got, after + 0.5 * torch.tanh(after + 0.5), rtol=1e-13, atol=1e-13)


def test_a_learned_variance_that_the_model_has_not_is_refused():
    table = two(noise=((0.1, 0.2), (0, 0)))
    with pytest.raises(InputError, match=r"^variance: .*not learned"):
        run(Learned(None), table, start(), noise=SeededNoise.samples(0, 3))


def test_a_learned_variance_is_nothing_on_the_step_to_data():
    process, source, x = Curved.process, SeededNoise.samples(0, 3), start()
    share = torch.full_like(x, 0.25)
    table = ancestral(process, uniform(3), "learned")
    assert table.noise[-1].tolist() == [0, 0]
    assert (table.noise[:-1, 0] < table.noise[:-1, 1]).all()
    last = []
    got = run(Learned(share), table, x, noise=source, watch=lambda row, t, x, p: last.append(p.x_0))
    torch.testing.assert_close(got, last[-1], rtol=1e-13, atol=1e-13)
    # One step to data needs no variance at all.
    run(Learned(None), ancestral(process, uniform(1), "learned"), x)


class Spoilt(Curved):
    """One element of one sample of the batch goes wrong from some time on."""

    def __init__(self, below: float, value: float) -> None:
        super().__init__()
        self.below, self.value = below, value

    def forward(self, x_t, t, cond=None):
        prediction = super().forward(x_t, t)
        if t < self.below:
            prediction.x_0[1, 0, 1] = self.value
        return prediction


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("below", "row", "time", "calls"), [(2.0, 0, "1", 1), (0.9, 1, "0.8", 2), (0.3, 3, "0.2", 4)])
def test_an_estimate_that_is_not_finite_stops_the_run_at_once_and_says_where(value, below, row, time, calls):
    denoiser, table, seen = Spoilt(below, value), multistep(), []
    table = Tableau(table.times, table.states, table.estimates, table.noise, "mine")
    with pytest.raises(FloatingPointError, match=rf"^mine: .* at row {row} \(t = {time}\) is not finite"):
        run(denoiser, table, start(), noise=SeededNoise.samples(0, 3), watch=lambda row, *_: seen.append(row))
    assert len(denoiser.calls) == calls
    assert seen == list(range(row))


def test_rows_that_evaluate_nothing_count_in_the_message():
    table = join([two(times=(1.0, NAN), estimates=((0.5, 0), (0.5, 0))), two(times=(0.4, 0.3))], "mine")
    with pytest.raises(FloatingPointError, match=r"^mine: .* at row 2 \(t = 0\.4\)"):
        run(Spoilt(0.9, math.nan), table, start())


def test_infinities_of_both_signs_do_not_cancel():
    class Both(Curved):
        def forward(self, x_t, t, cond=None):
            x_0 = torch.zeros_like(x_t)
            x_0[0, 0, 0], x_0[2, 1, 1] = math.inf, -math.inf
            return Prediction(x_0, x_0)

    with pytest.raises(FloatingPointError, match=r"^tableau: .* at row 0"):
        run(Both(), two(), start())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_many_finite_numbers_of_half_precision_are_finite(dtype):
    # Their sum, 80,000, is above float16's largest number, 65,504.
    class Flat(Curved):
        def forward(self, x_t, t, cond=None):
            return Prediction(torch.full_like(x_t, 0.5), x_t)

    got = run(Flat(), two(states=((0, 0), (0, 0)), estimates=((1, 0), (0, 1))), torch.zeros(1, 160_000, dtype=dtype))
    assert got.dtype == dtype
    assert (got == 0.5).all()


def test_constant_noise_has_the_same_number_in_both_columns():
    assert torch.equal(constant(tensor([0.1, 0.2])), alike([0.1, 0.2]))


def test_a_row_may_be_noise_alone():
    source, x = SeededNoise.samples(0, 3), start()
    table = two(times=(NAN, 0.5), states=((0, 0), (0, 1)), estimates=((0, 0), (0, 0.5)), noise=((2, 2), (0, 0)))
    got = run(Curved(), table, x, noise=source)
    z = 2 * source(1, x)
    torch.testing.assert_close(got, z + 0.5 * torch.tanh(z + 0.5), rtol=1e-13, atol=1e-13)
