"""Binomial diffusion (examples/binomial.py) against enumeration of everything that can happen."""

import itertools
import math

import pytest
import torch
from binomial import (
    Beliefs,
    BinomialChain,
    BinomialDiffusion,
    NetworkBeliefs,
    SequenceOracle,
    heartbeats,
    reciprocal_betas,
)

from sfumato.errors import InputError
from sfumato.networks import MLP

from .conftest import seeded, shaken

ENTROPY = math.log(5)  # nats a heartbeat sequence
BETAS = (0.2, 0.5, 0.9)


class Fixed(Beliefs):
    """Logits that are given, whatever is seen."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, x_t, t):
        return self.logits.expand_as(x_t)


def paths(x_0, betas):
    """Every path of one bit from x_0 with its probability, step by step as the chain is defined."""
    for path in itertools.product((0, 1), repeat=len(betas)):
        probability, before = 1.0, x_0
        for beta, after in zip(betas, path, strict=True):
            one = before * (1 - beta) + beta / 2
            probability *= one if after else 1 - one
            before = after
        yield path, probability


def bits(*values):
    return torch.tensor([values], dtype=torch.float64).T


@pytest.mark.parametrize("betas", [BETAS, (0.1, 0.3, 0.05, 1.0)], ids=len)
def test_marginals_and_posteriors_are_bayes_rule_over_all_paths(betas):
    chain = BinomialChain(betas)
    for t, x_0, x_t in itertools.product(range(1, len(betas) + 1), (0, 1), (0, 1)):
        at = torch.tensor([t])
        seen = sum(p for path, p in paths(x_0, betas) if path[t - 1] == x_t)
        marginal = float(chain.marginal(bits(x_0), at))
        assert (marginal if x_t else 1 - marginal) == pytest.approx(seen, rel=1e-12)
        before = x_0 if t == 1 else sum(p for path, p in paths(x_0, betas) if path[t - 1] == x_t and path[t - 2])
        expected = before if t == 1 else before / seen
        assert float(chain.posterior(bits(x_t), bits(x_0), at)) == pytest.approx(expected, rel=1e-12, abs=1e-15)
        # The reverse step for a belief, by mixing paths from both values with it as the chance of the first.
        ones = float(chain.posterior(bits(x_t), bits(1), at))
        zeros = float(chain.posterior(bits(x_t), bits(0), at))
        reverse = float(chain.reverse(bits(x_t), bits(0.3), at))
        assert reverse == pytest.approx(0.3 * ones + 0.7 * zeros, rel=1e-12)


def joint(sequences, betas, t):
    """P(x_0 = k, x_{t-1}, x_t) over all pairs of words, as a table; by the definition of the steps."""
    words = list(itertools.product((0, 1), repeat=sequences.shape[1]))

    def step(a, b, beta):
        return math.prod(beta / 2 + (1 - beta) * (i == j) for i, j in zip(a, b, strict=True))

    table = {}
    for k, start in enumerate(sequences.int().tolist()):
        now = {tuple(start): 1 / len(sequences)}
        for beta in betas[: t - 1]:
            now = {w: sum(p * step(u, w, beta) for u, p in now.items()) for w in words}
        for u, p in now.items():
            for w in words:
                table[k, u, w] = p * step(u, w, betas[t - 1])
    return table, words


def test_the_oracle_is_bayes_rule_and_its_step_back_is_that_of_each_number():
    """Three words of three bits: all is counted out. It also shows why the posterior is averaged over the belief."""
    sequences = torch.tensor([[0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=torch.float64)
    chain = BinomialChain(BETAS)
    oracle = SequenceOracle(sequences, chain)
    for t in (1, 2, 3):
        table, words = joint(sequences, BETAS, t)
        for w in words:
            x_t, at = torch.tensor([w], dtype=torch.float64), torch.tensor([t])
            total = sum(p for (_, _, seen), p in table.items() if seen == w)
            belief = oracle(x_t, at).sigmoid()
            reverse = chain.reverse(x_t, belief, at)
            for i in range(3):
                clean = sum(p for (k, _, seen), p in table.items() if seen == w and sequences[k, i] == 1)
                before = sum(p for (_, u, seen), p in table.items() if seen == w and u[i] == 1)
                assert float(belief[0, i]) == pytest.approx(clean / total, rel=1e-12)
                assert float(reverse[0, i]) == pytest.approx(before / total, rel=1e-12)


def test_the_terms_are_the_bound_counted_out():
    """One number, three steps, a belief of 0.7: the ELBO by its definition over all 8 paths."""
    chain = BinomialChain(BETAS)
    logit = math.log(0.7 / 0.3)
    model = BinomialDiffusion(chain, Fixed(torch.tensor(logit, dtype=torch.float64)))
    for x_0 in (0, 1):
        exact = 0.0
        for path, probability in paths(x_0, BETAS):
            log_p = math.log(0.5)
            for t in (3, 2, 1):
                one = 0.7 if t == 1 else float(chain.reverse(bits(path[t - 1]), bits(0.7), torch.tensor([t])))
                before = x_0 if t == 1 else path[t - 2]
                log_p += math.log(one if before else 1 - one)
            exact += probability * (math.log(probability) - log_p)
        count = 40_000
        terms = model.terms(bits(x_0).float().expand(count, 1), seeded(count))
        error = float(terms.nats.std()) / math.sqrt(count)
        assert abs(float(terms.nats.mean()) - exact) < 4 * error
        assert error < 0.005
        assert float(model.loss(bits(x_0).float(), seeded(1))) == pytest.approx(float(terms.nats[0]), rel=1e-6)
        assert float(terms.bits_per_number(1)[0]) == pytest.approx(float(terms.nats[0]) / math.log(2), rel=1e-12)


def test_the_bound_of_the_oracle_falls_to_the_entropy_as_steps_get_shorter():
    """What is lost by drawing numbers apart, given x_t, is of first order in the step."""
    sequences, count = heartbeats(), 4000
    x = sequences.repeat(count // 5, 1)
    gaps, errors = [], []
    for steps in (5, 20, 80):
        chain = BinomialChain(reciprocal_betas(steps))
        terms = BinomialDiffusion(chain, SequenceOracle(sequences, chain)).terms(x, seeded(count, 1))
        assert float(terms.prior.abs().max()) == 0  # the last beta leaves nothing
        gaps.append(float(terms.nats.mean()) - ENTROPY)
        errors.append(float(terms.nats.std()) / math.sqrt(count))
    assert gaps[0] > 10 * errors[0]
    assert gaps[1] > 4 * errors[1]
    assert gaps[2] > -4 * errors[2]
    assert 2.5 < gaps[0] / gaps[1] < 8
    assert gaps[2] < gaps[1] / 4 + 4 * math.hypot(errors[1] / 4, errors[2])
    assert errors[2] < 0.01


def test_samples_of_the_oracle_are_heartbeats_of_all_phases():
    sequences, count = heartbeats(), 2000
    chain = BinomialChain(reciprocal_betas(80))
    model = BinomialDiffusion(chain, SequenceOracle(sequences, chain))
    drawn = model.sample(count, 20, seeded(count))
    hits = (drawn[:, None] == sequences).all(2)
    # The bound is 0.04 nats above the entropy, which bounds KL(data || samples) >= -log P(heartbeat).
    assert hits.any(1).double().mean() > 0.95
    phases = hits.double().sum(0)
    # Chi-square, 4 degrees: 33 at p = 1e-6.
    assert ((phases - phases.mean()) ** 2 / phases.mean()).sum() < 33
    assert torch.equal(model.sample(3, 20, seeded(3)), drawn[:3])


def test_a_fresh_network_is_the_exact_model_of_fair_coins():
    """Its bound is then -log p(x) itself, log 2 a number, on average over the draws."""
    chain, count = BinomialChain(BETAS), 20_000
    model = BinomialDiffusion(chain, NetworkBeliefs(MLP((3,), width=8, depth=1), chain))
    with torch.no_grad():
        total = model.terms(torch.tensor([[0.0, 1.0, 1.0]]).expand(count, 3), seeded(count)).nats
    assert abs(float(total.mean()) - 3 * math.log(2)) < 4 * float(total.std()) / math.sqrt(count)
    assert float(total.std()) / math.sqrt(count) < 0.01


def test_a_network_learns_heartbeats_in_seconds():
    """A bound above the entropy, as every bound on this source is, and within 0.8 bits of it after 250 steps.

    The exact belief itself is 0.24 bits above it in a chain of 20 steps.
    """
    torch.manual_seed(0)
    sequences, chain = heartbeats(), BinomialChain(reciprocal_betas(20))
    model = BinomialDiffusion(chain, NetworkBeliefs(MLP((20,), width=64, depth=2), chain))
    optimiser = torch.optim.Adam(model.parameters(), lr=4e-3)
    x = sequences.repeat(4, 1)
    for step in range(250):
        optimiser.zero_grad()
        model.loss(x, seeded(20, step)).mean().backward()
        optimiser.step()
    with torch.no_grad():
        total = model.terms(sequences.repeat(400, 1), seeded(2000, 10**6)).nats / math.log(2)
    error = float(total.std()) / math.sqrt(2000)
    assert math.log2(5) - 4 * error < float(total.mean()) < math.log2(5) + 0.8
    drawn = model.sample(500, 20, seeded(500))
    assert (drawn[:, None] == sequences).all(2).any(1).double().mean() > 0.8


def test_gradients_reach_the_network_also_where_a_belief_is_certain():
    torch.manual_seed(0)
    chain = BinomialChain(BETAS)
    model = BinomialDiffusion(chain, NetworkBeliefs(shaken(MLP((4,), width=8, depth=1), by=30.0), chain))
    x = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    model.loss(x, seeded(1)).backward()
    assert all(p.grad is not None and not p.grad.isnan().any() for p in model.parameters())
    assert float(model.beliefs.network.linear_out.bias.grad.abs().max()) > 0


def test_heartbeats_have_a_one_at_every_fifth_place():
    assert heartbeats(10, 5).int().tolist() == [[int(i % 5 == k) for i in range(10)] for k in range(5)]
    kept = BinomialChain(reciprocal_betas(4)).kept
    torch.testing.assert_close(kept, torch.tensor([1, 0.75, 0.5, 0.25, 0], dtype=torch.float64), rtol=0, atol=1e-15)


@pytest.mark.parametrize("betas", [[], [1.0, 0.5], [0.0], [1.2], [float("nan"), 0.5]], ids=str)
def test_betas_of_a_binomial_chain_may_end_in_one(betas):
    with pytest.raises(InputError, match=r"^betas: .* only the last may be 1$"):
        BinomialChain(betas)


def test_other_wrong_arguments_are_refused():
    chain = BinomialChain(BETAS)
    model = BinomialDiffusion(chain, Fixed(torch.zeros((), dtype=torch.float64)))
    with pytest.raises(InputError, match=r"^data: 1 numbers are neither 0 nor 1, the first 0.5; give bits$"):
        model.terms(torch.tensor([[0.5, 1.0]]), seeded(1))
    with pytest.raises(InputError, match=r"^data: 1 numbers are neither"):
        SequenceOracle(torch.tensor([[2.0, 1.0]]), chain)
    with pytest.raises(InputError, match=r"^count: -1 is negative"):
        model.sample(-1, 4, seeded(0))
    with pytest.raises(InputError, match=r"^length=0 is not allowed"):
        model.sample(1, 0, seeded(1))
    with pytest.raises(InputError, match=r"^length=4 is shorter than a period of 5"):
        heartbeats(4, 5)
    with pytest.raises(InputError, match=r"^steps=0 is not allowed"):
        reciprocal_betas(0)
