"""Deterministic samplers against the algorithms as they are printed, in plain floats, with a small nonlinear network.

The network sees one sample of three numbers at a time; every algorithm below is typed from its paper, knows nothing of
tableaux, and calls the network through its own x_0 or eps. Both sides do the same
arithmetic in float64, in another order.
"""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from scipy.integrate import quad

from sfumato.core import VE, VP, Cosine, LinearLogSNR, Logistic, Prediction, Process, Straight
from sfumato.denoisers import Denoiser
from sfumato.errors import InputError
from sfumato.sampling import (
    adams,
    ddim,
    ddim_inversion,
    dpm_solver_pp,
    dpm_solver_singlestep,
    euler,
    heun,
    run,
    unipc,
)

# Process.sde differentiates forwards, for which torch imports a module of its own that warns of torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

PROCESSES = {
    "VP": Process(VP(), Cosine()),
    "VE": Process(VE(), LinearLogSNR(-6.0, 8.0)),
    "straight": Process(Straight(), Logistic()),
}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
# Uneven log-SNRs; the grids below go through them, and some then to data.
LOGSNRS = [-5.0, -3.9, -3.2, -2.0, -1.3, -0.1, 0.5, 1.7, 2.3, 3.6]
X = [[0.3, -1.2, 0.8], [1.5, 0.1, -0.4]]


class Wave(Denoiser):
    """A belief about eps, nonlinear in x and in the level, that mixes the elements of a sample."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process

    def forward(self, x_t, t, cond=None):
        level = self.process.level(t)
        mixed = x_t + 0.5 * x_t.roll(1, -1) * torch.cos(x_t) + torch.sin(0.3 * level.logsnr)
        eps = torch.tanh(mixed) + 0.1 * torch.sin(2 * x_t)
        return Prediction((x_t - level.sigma * eps) / level.alpha, eps)


def eps_of(x: list[float], lam: float) -> list[float]:
    """The same in plain floats; lam is half the log-SNR."""
    before = [x[-1], *x[:-1]]
    mixed = [a + 0.5 * b * math.cos(a) + math.sin(0.6 * lam) for a, b in zip(x, before, strict=True)]
    return [math.tanh(m) + 0.1 * math.sin(2 * a) for m, a in zip(mixed, x, strict=True)]


class Levels:
    """alpha, sigma and lambda = log(alpha / sigma) by the definition of each process, at half log-SNRs."""

    def __init__(self, process: Process) -> None:
        self.kind = type(process.scaling).__name__

    def alpha(self, lam: float) -> float:
        rho = math.exp(-lam)
        return {"VP": 1 / math.sqrt(1 + rho**2), "VE": 1.0, "Straight": 1 / (1 + rho)}[self.kind]

    def sigma(self, lam: float) -> float:
        return math.exp(-lam) * self.alpha(lam)

    def x_0(self, x: list[float], lam: float) -> list[float]:
        return [(a - self.sigma(lam) * e) / self.alpha(lam) for a, e in zip(x, eps_of(x, lam), strict=True)]


def add(*terms: tuple[float, list[float]]) -> list[float]:
    return [sum(c * v[i] for c, v in terms) for i in range(len(terms[0][1]))]


def grid(process: Process, to_data: bool) -> torch.Tensor:
    times = process.schedule.time(torch.tensor(LOGSNRS, dtype=torch.float64))
    return torch.cat((times, times.new_zeros(1))) if to_data else times


def ours(process: Process, tableau) -> torch.Tensor:
    return run(Wave(process), tableau, torch.tensor(X, dtype=torch.float64))


def printed(algorithm, process: Process) -> torch.Tensor:
    levels, lams = Levels(process), [value / 2 for value in LOGSNRS]
    return torch.tensor([algorithm(levels, lams, list(x)) for x in X], dtype=torch.float64)


def agree(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


# --- Karras et al. 2022, algorithm 1, s(t) = 1: in x / alpha ---------------------------------------------------------


def edm_heun(levels: Levels, lams: list[float], x: list[float], to_data: bool) -> list[float]:
    ts = [math.exp(-lam) for lam in lams] + ([0.0] if to_data else [])

    def slope(y, t):  # d_i = (x_i - D(x_i; t_i)) / t_i
        lam = -math.log(t)
        state = [levels.alpha(lam) * v for v in y]
        return [(v - d) / t for v, d in zip(y, levels.x_0(state, lam), strict=True)]

    y = [v / levels.alpha(lams[0]) for v in x]
    for t, s in pairwise(ts):
        d = slope(y, t)
        after = add((1, y), (s - t, d))
        if s != 0:
            d_after = slope(after, s)
            after = add((1, y), ((s - t) / 2, d), ((s - t) / 2, d_after))
        y = after
    return y if to_data else [levels.alpha(lams[-1]) * v for v in y]


@each_process
@pytest.mark.parametrize("to_data", [False, True])
def test_heun_is_edms_algorithm_1(process, to_data):
    tableau = heun(process, grid(process, to_data))
    assert tableau.evaluations == 2 * (len(LOGSNRS) - 1) + to_data
    agree(ours(process, tableau), printed(partial(edm_heun, to_data=to_data), process))


# --- Lu et al. 2022b: DPM-Solver++ ------------------------------------------------------------------------------------


def dpmpp_2m(levels: Levels, lams: list[float], x: list[float]) -> list[float]:
    """Algorithm 2."""
    q_before = levels.x_0(x, lams[0])
    for i in range(1, len(lams)):
        h = lams[i] - lams[i - 1]
        push = -levels.alpha(lams[i]) * (math.exp(-h) - 1)
        shrink = levels.sigma(lams[i]) / levels.sigma(lams[i - 1])
        if i == 1:
            x = add((shrink, x), (push, q_before))
            two_before, q_before = q_before, levels.x_0(x, lams[i])
            continue
        r = (lams[i - 1] - lams[i - 2]) / h
        d = add((1 + 1 / (2 * r), q_before), (-1 / (2 * r), two_before))
        x = add((shrink, x), (push, d))
        two_before, q_before = q_before, levels.x_0(x, lams[i])
    return x


def dpmpp_2s(levels: Levels, lams: list[float], x: list[float]) -> list[float]:
    """Algorithm 1, r = 1/2."""
    for a, b in pairwise(lams):
        h, middle, r = b - a, a + (b - a) / 2, 0.5
        q = levels.x_0(x, a)
        u = add((levels.sigma(middle) / levels.sigma(a), x), (-levels.alpha(middle) * (math.exp(-r * h) - 1), q))
        d = add((1 - 1 / (2 * r), q), (1 / (2 * r), levels.x_0(u, middle)))
        x = add((levels.sigma(b) / levels.sigma(a), x), (-levels.alpha(b) * (math.exp(-h) - 1), d))
    return x


@each_process
def test_dpm_solver_pp_2m_is_its_algorithm_2(process):
    agree(ours(process, dpm_solver_pp(process, grid(process, False))), printed(dpmpp_2m, process))


@each_process
def test_dpm_solver_pp_of_order_1_is_ddim(process):
    agree(
        ours(process, dpm_solver_pp(process, grid(process, True), 1)), ours(process, ddim(process, grid(process, True)))
    )


@each_process
def test_dpm_solver_pp_2s_is_its_algorithm_1(process):
    agree(ours(process, dpm_solver_singlestep(process, grid(process, False))), printed(dpmpp_2s, process))


# --- Lu et al. 2022a: DPM-Solver, in eps ------------------------------------------------------------------------------


def dpm_solver_2(levels: Levels, lams: list[float], x: list[float]) -> list[float]:
    """Algorithm 1."""
    for a, b in pairwise(lams):
        h, s = b - a, (a + b) / 2
        u = add((levels.alpha(s) / levels.alpha(a), x), (-levels.sigma(s) * (math.exp(h / 2) - 1), eps_of(x, a)))
        x = add((levels.alpha(b) / levels.alpha(a), x), (-levels.sigma(b) * (math.exp(h) - 1), eps_of(u, s)))
    return x


def dpm_solver_3(levels: Levels, lams: list[float], x: list[float]) -> list[float]:
    """Algorithm 2, r1 = 1/3, r2 = 2/3."""
    r1, r2 = 1 / 3, 2 / 3
    for a, b in pairwise(lams):
        h = b - a
        s1, s2 = a + r1 * h, a + r2 * h
        eps = eps_of(x, a)
        u1 = add((levels.alpha(s1) / levels.alpha(a), x), (-levels.sigma(s1) * (math.exp(r1 * h) - 1), eps))
        d1 = add((1, eps_of(u1, s1)), (-1, eps))
        u2 = add(
            (levels.alpha(s2) / levels.alpha(a), x),
            (-levels.sigma(s2) * (math.exp(r2 * h) - 1), eps),
            (-levels.sigma(s2) * r2 / r1 * ((math.exp(r2 * h) - 1) / (r2 * h) - 1), d1),
        )
        d2 = add((1, eps_of(u2, s2)), (-1, eps))
        x = add(
            (levels.alpha(b) / levels.alpha(a), x),
            (-levels.sigma(b) * (math.exp(h) - 1), eps),
            (-levels.sigma(b) / r2 * ((math.exp(h) - 1) / h - 1), d2),
        )
    return x


@each_process
@pytest.mark.parametrize(("order", "algorithm"), [(2, dpm_solver_2), (3, dpm_solver_3)])
def test_dpm_solver_in_eps_is_its_algorithms_1_and_2(process, order, algorithm):
    tableau = dpm_solver_singlestep(process, grid(process, False), order, "eps")
    assert tableau.evaluations == order * (len(LOGSNRS) - 1)
    agree(ours(process, tableau), printed(algorithm, process))


@each_process
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("along", ["x_0", "eps"])
def test_single_steps_go_to_data_in_one_evaluation(process, order, along):
    tableau = dpm_solver_singlestep(process, grid(process, True), order, along)
    assert tableau.evaluations == order * (len(LOGSNRS) - 1) + 1
    before = ours(process, dpm_solver_singlestep(process, grid(process, False), order, along))
    levels = Levels(process)
    expected = [levels.x_0(x, LOGSNRS[-1] / 2) for x in before.tolist()]
    agree(ours(process, tableau), torch.tensor(expected, dtype=torch.float64))


def dpmpp_3s(levels: Levels, lams: list[float], x: list[float]) -> list[float]:
    """The same two stages in x_0: integrals of exp(lambda) over a line, taken by scipy."""
    for a, b in pairwise(lams):
        s1, s2 = a + (b - a) / 3, a + 2 * (b - a) / 3
        q = levels.x_0(x, a)
        stage = x
        nodes, values = [a], [q]
        for end, middle in ((s1, None), (s2, s1), (b, s2)):
            if middle is not None:
                nodes, values = [a, middle], [q, levels.x_0(stage, middle)]
            weights = exact_weights(levels, "x_0", nodes, a, end)
            stage = add((levels.sigma(end) / levels.sigma(a), x), *zip(weights, values, strict=True))
        x = stage
    return x


@each_process
def test_dpm_solver_pp_3s_has_the_exact_integrals_of_its_lines(process):
    agree(ours(process, dpm_solver_singlestep(process, grid(process, False), 3)), printed(dpmpp_3s, process))


# --- Multistep methods with exact integrals ---------------------------------------------------------------------------


def exact_weights(levels: Levels, along: str, nodes: list[float], a: float, b: float) -> list[float]:
    """Integrals of the Lagrange polynomials on ``nodes`` over [a, b] with the kernel of the exponential integrator.

    x_0: sigma_b times the integral of exp(lambda) L_j (Lu et al. 2022b, eq. 8); eps: -alpha_b times that of
    exp(-lambda) L_j (Lu et al. 2022a, eq. 4), all in lambda, the half log-SNR.
    """

    def lagrange(j, lam):
        return math.prod((lam - n) / (nodes[j] - n) for i, n in enumerate(nodes) if i != j)

    def integral(j):
        if along == "x_0":
            return levels.sigma(b) * quad(lambda v: math.exp(v) * lagrange(j, v), a, b, epsabs=0, epsrel=1e-12)[0]
        return -levels.alpha(b) * quad(lambda v: math.exp(-v) * lagrange(j, v), a, b, epsabs=0, epsrel=1e-12)[0]

    return [integral(j) for j in range(len(nodes))]


def step(levels, lams, origin, seen, along, i, newest, count):
    """From lams[i] to lams[i + 1] with ``count`` values up to the newest."""
    a, b = lams[i], lams[i + 1]
    places = range(newest, newest - count, -1)
    weights = exact_weights(levels, along, [lams[k] for k in places], a, b)
    keep = levels.sigma(b) / levels.sigma(a) if along == "x_0" else levels.alpha(b) / levels.alpha(a)
    return add((keep, origin), *((w, seen[k]) for w, k in zip(weights, places, strict=True)))


def multistep(levels, lams, x, along, order, corrector):
    """Predict with up to ``order`` values; with a corrector, redo the step with up to that many once at its end."""
    seen, origin = [], x
    for i in range(len(lams) - 1):
        seen.append(levels.x_0(x, lams[i]) if along == "x_0" else eps_of(x, lams[i]))
        if i > 0 and corrector:
            x = step(levels, lams, origin, seen, along, i - 1, i, min(corrector, i + 1))
        origin = x
        x = step(levels, lams, origin, seen, along, i, i, min(order, i + 1))
    return x


@pytest.mark.parametrize("process", [PROCESSES["VP"], PROCESSES["straight"]], ids=["VP", "straight"])
@pytest.mark.parametrize("along", ["x_0", "eps"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("corrector", [False, True])
def test_adams_in_the_log_snr_has_exact_integrals(process, along, order, corrector):
    algorithm = partial(multistep, along=along, order=order, corrector=order + 1 if corrector else 0)
    agree(ours(process, adams(process, grid(process, False), order, along, corrector)), printed(algorithm, process))


@each_process
def test_dpm_solver_pp_3m_has_exact_integrals(process):
    algorithm = partial(multistep, along="x_0", order=3, corrector=0)
    agree(ours(process, dpm_solver_pp(process, grid(process, False), 3)), printed(algorithm, process))


def dpmpp_3m_phi(levels: Levels, lams: list[float], x: list[float]) -> list[float]:
    """The same by phi-functions: m_0 + D_1 u + D_2 u^2, u the share of the step, D_1 and D_2 Newton's differences."""
    seen = []
    for i, (a, b) in enumerate(pairwise(lams)):
        seen.append(levels.x_0(x, a))
        h = b - a
        # h times the integrals of exp(-(1 - u) h) u^k over [0, 1]
        first = 1 - math.exp(-h)
        second = 1 - first / h
        third = 1 - 2 * second / h
        terms = [(first, seen[-1])]
        if i >= 1:
            r0 = (a - lams[i - 1]) / h
            d0 = add((1 / r0, seen[-1]), (-1 / r0, seen[-2]))
            terms.append((second, d0))
            if i >= 2:
                r1 = (lams[i - 1] - lams[i - 2]) / h
                d1 = add((1 / r1, seen[-2]), (-1 / r1, seen[-3]))
                bent = add((1 / (r0 + r1), d0), (-1 / (r0 + r1), d1))
                terms += [(second * r0, bent), (third, bent)]
        x = add((levels.sigma(b) / levels.sigma(a), x), *((levels.alpha(b) * c, v) for c, v in terms))
    return x


@each_process
def test_dpm_solver_pp_3m_by_phi_functions(process):
    agree(ours(process, dpm_solver_pp(process, grid(process, False), 3)), printed(dpmpp_3m_phi, process))


@pytest.mark.parametrize(
    ("order", "corrector", "weights"),
    [
        (1, False, [1]),
        (2, False, [3 / 2, -1 / 2]),
        (3, False, [23 / 12, -16 / 12, 5 / 12]),
        (4, False, [55 / 24, -59 / 24, 37 / 24, -9 / 24]),
        (1, True, [1 / 2, 1 / 2]),
        (2, True, [5 / 12, 8 / 12, -1 / 12]),
        (3, True, [9 / 24, 19 / 24, -5 / 24, 1 / 24]),
        (4, True, [251 / 720, 646 / 720, -264 / 720, 106 / 720, -19 / 720]),
    ],
)
@pytest.mark.parametrize("along", ["sigma", "straight", "angle"])
def test_even_steps_of_a_path_have_the_textbook_weights(along, order, corrector, weights):
    # Each path in its own units, where the velocity along it is what its name says.
    process = {"sigma": Process(VE(), LinearLogSNR(-4.0, 8.0)), "straight": PROCESSES["straight"]}.get(
        along, PROCESSES["VP"]
    )
    tau = torch.linspace(1.0, 0.4, 9, dtype=torch.float64)
    if along == "straight":
        tau = tau * 0.9
    ratio = {"sigma": tau, "straight": tau / (1 - tau), "angle": torch.tan(tau)}[along]
    times = process.schedule.time(-2 * torch.log(ratio))
    h = float(tau[1] - tau[0])
    tableau = adams(process, times, order, along, corrector)

    # The velocity as rows of (x, x_0), to write the printed method as a table.
    level = process.level(times[:-1])
    a, b = {
        "sigma": (0 * tau, 1 + 0 * tau),
        "straight": (-1 + 0 * tau, 1 + 0 * tau),
        "angle": (-torch.sin(tau), torch.cos(tau)),
    }[along]
    a, b = a[:-1], b[:-1]
    from_x, from_x_0 = b / level.sigma, a - b * level.alpha / level.sigma
    r = 7
    state, estimate = torch.zeros(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    state[r] = 1
    if corrector:
        # x_{r+1} = x_r(corrected) + AB(order); x_r(corrected) - x_r = AM(order + 1) - AB(order) of the step before.
        bashforth = {1: [1], 2: [3, -1], 3: [23, -16, 5], 4: [55, -59, 37, -9]}[order]
        bashforth = [w / {1: 1, 2: 2, 3: 12, 4: 24}[order] for w in bashforth]
        total = torch.zeros(8, dtype=torch.float64)
        for j, w in enumerate(weights):
            total[r - j] += w
        for j, w in enumerate(bashforth):
            total[r - 1 - j] -= w
            total[r - j] += w
    else:
        total = torch.zeros(8, dtype=torch.float64)
        for j, w in enumerate(weights):
            total[r - j] += w
    state, estimate = state + h * total * from_x, estimate + h * total * from_x_0
    torch.testing.assert_close(tableau.states[r], state, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(tableau.estimates[r], estimate, rtol=1e-10, atol=1e-11)


# --- Zhao et al. 2023: UniPC, algorithms 5 (UniC) and 6 (UniP), data prediction, B(h) = exp(h) - 1 with h negated -----


def solve_small(R: list[list[float]], b: list[float]) -> list[float]:
    """Gauss elimination; the systems have at most three rows."""
    rows = [[*r, v] for r, v in zip(R, b, strict=True)]
    n = len(rows)
    for i in range(n):
        pivot = max(range(i, n), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for k in range(n):
            if k != i:
                factor = rows[k][i] / rows[i][i]
                rows[k] = [p - factor * q for p, q in zip(rows[k], rows[i], strict=True)]
    return [rows[i][n] / rows[i][i] for i in range(n)]


def uni(levels, lams, origin, seen, i, order, after):
    """One UniP-p step (``after`` None) or UniC-p step from lams[i], with the differences D_m / r_m of the paper."""
    a, b = lams[i], lams[i + 1]
    h, m0 = b - a, seen[i]
    ratios = [(lams[i - m] - a) / h for m in range(1, order)]
    differences = [add((1 / r, seen[i - m]), (-1 / r, m0)) for m, r in zip(range(1, order), ratios, strict=True)]
    if after is not None:
        ratios.append(1.0)
        differences.append(add((1, after), (-1, m0)))
    B = math.exp(-h) - 1
    p = len(ratios)
    if p == 1:
        weights = [0.5]
    elif p > 1:
        # a_n = n! phi_{n+1}(-h) (-h) / B with phi_{n+1}(z) = (phi_n(z) - 1 / n!) / z, phi_0 = exp
        z, phi, right = -h, math.exp(-h), []
        for n in range(p + 1):
            if n > 0:
                right.append(math.factorial(n) * z * ((phi - 1 / math.factorial(n)) / z) / B)
            phi = (phi - 1 / math.factorial(n)) / z
        weights = solve_small([[r**n for r in ratios] for n in range(p)], right)
    else:
        weights = []
    return add(
        (levels.sigma(b) / levels.sigma(a), origin),
        (-levels.alpha(b) * B, m0),
        *((-levels.alpha(b) * B * w, d) for w, d in zip(weights, differences, strict=True)),
    )


def printed_unipc(levels: Levels, lams: list[float], x: list[float], order: int) -> list[float]:
    seen, origin, before = [], x, 0
    for i in range(len(lams) - 1):
        value = levels.x_0(x, lams[i])
        if i > 0:
            x = uni(levels, lams, origin, seen, i - 1, before, value)
        seen.append(value)
        origin, before = x, min(order, i + 1)
        x = uni(levels, lams, origin, seen, i, before, None)
    return x


@each_process
@pytest.mark.parametrize("order", [2, 3])
def test_unipc_is_its_algorithms(process, order):
    agree(
        ours(process, unipc(process, grid(process, False), order)),
        printed(partial(printed_unipc, order=order), process),
    )


# --- All of them, to data; Euler; DDIM's inversion --------------------------------------------------------------------

IN_LOGSNR = {
    "dpm++2m": dpm_solver_pp,
    "dpm++3m": partial(dpm_solver_pp, order=3),
    "unipc2": partial(unipc, order=2),
    "unipc3": unipc,
    "eps": partial(adams, order=3, along="eps", corrector=False),
    "x_0": partial(adams, order=3, along="x_0", corrector=False),
}


@each_process
@pytest.mark.parametrize("name", IN_LOGSNR)
def test_the_step_to_data_hands_over_the_belief(process, name):
    # Polynomials in the log-SNR have no integral up to data. With a corrector the last state is corrected first: seen
    # by the row being x_0-hat of the state before, alone.
    tableau = IN_LOGSNR[name](process, grid(process, True))
    seen = {}
    denoiser = Wave(process)
    x = torch.tensor(X, dtype=torch.float64)
    got = run(denoiser, tableau, x, watch=lambda row, t, x, p: seen.update({row: p.x_0.clone()}))
    agree(got, seen[len(LOGSNRS) - 1])


def euler_in_time(levels: Levels, lams: list[float], x: list[float], process: Process) -> list[float]:
    """dx/dt = f x - g^2 score / 2 = f x + g^2 eps / (2 sigma), f and g by finite differences of the definitions."""
    times = grid(process, False).tolist()

    def log_alpha(t):
        return math.log(levels.alpha(float(process.level(t).logsnr) / 2))

    def lam_at(t):
        return float(process.level(t).logsnr) / 2

    for (t, s), lam in zip(pairwise(times), lams, strict=False):
        d = 1e-4  # five points: error d^4

        def rate(f, t=t, d=d):
            return (8 * (f(t + d) - f(t - d)) - (f(t + 2 * d) - f(t - 2 * d))) / (12 * d)

        g2 = -2 * levels.sigma(lam) ** 2 * rate(lam_at)
        x = add((1 + (s - t) * rate(log_alpha), x), ((s - t) * g2 / 2 / levels.sigma(lam), eps_of(x, lam)))
    return x


@each_process
def test_euler_is_eulers_step_of_equation_13(process):
    got = ours(process, euler(process, grid(process, False)))
    expected = printed(partial(euler_in_time, process=process), process)
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7)  # the finite differences


def test_euler_hands_over_the_belief_at_data():
    process = PROCESSES["VP"]
    before = ours(process, euler(process, grid(process, False))).tolist()
    expected = [Levels(process).x_0(x, LOGSNRS[-1] / 2) for x in before]
    agree(ours(process, euler(process, grid(process, True))), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p, t: adams(p, t, 0), r"^order: 0 .*1 to 4"),
        (lambda p, t: adams(p, t, 5), r"^order: 5 .*1 to 4"),
        (lambda p, t: dpm_solver_pp(p, t, 4), r"^order: 4 .*1 to 3"),
        (lambda p, t: dpm_solver_pp(p, t, 2, 1.5), r"^eta: 1\.5"),
        (lambda p, t: dpm_solver_pp(p, t, 2, math.nan), r"^eta: nan"),
        (lambda p, t: unipc(p, t, 1), r"^order: 1 .*2 or 3"),
        (lambda p, t: dpm_solver_singlestep(p, t, 1), r"^order: 1 .*2 or 3"),
        (lambda p, t: ddim_inversion(p, t, 0), r"^iterations: 0 .*at least 1"),
        (lambda p, t: heun(p, t, churn=-1.0), r"^churn -1\.0"),
        *[
            (lambda p, t, f=f: f(p, t.flip(0)), r"^times: entry 1")
            for f in (adams, dpm_solver_pp, unipc, dpm_solver_singlestep, heun, euler, ddim_inversion)
        ],
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make(PROCESSES["VP"], grid(PROCESSES["VP"], True))


@pytest.mark.parametrize(
    "method",
    [
        heun,
        euler,
        dpm_solver_pp,
        unipc,
        partial(adams, along="x_0"),
        partial(adams, along="eps"),
        partial(adams, along="sigma"),
        partial(dpm_solver_singlestep, along="eps"),
    ],
)
def test_pure_noise_is_refused_where_a_method_has_no_step_from_it(method):
    times = torch.tensor([1.0, 0.6, 0.3, 0.0], dtype=torch.float64)
    with pytest.raises(InputError, match="start below pure noise"):
        method(PROCESSES["straight"], times)
