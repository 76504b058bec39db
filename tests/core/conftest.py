"""Every scaling with every schedule."""

import pytest

from sfumato.core import (
    VE,
    VP,
    Cosine,
    Cut,
    LinearBeta,
    LinearLogSNR,
    Logistic,
    Process,
    Straight,
    SubVP,
    SubVPBeta,
    Tabulated,
    cosine_betas,
    geometric,
    geometric_betas,
    linear_betas,
)

SCALINGS = [VP(), VE(), Straight(), SubVP()]
SCHEDULES = {
    "linear-betas": Tabulated(linear_betas(50)),
    "cosine-betas": Tabulated(cosine_betas(20)),
    "geometric-betas": Tabulated(geometric_betas(12, 0.02, 30.0)),
    "linear-beta": LinearBeta(),
    "subvp-beta": SubVPBeta(),
    "cosine": Cosine(),
    "line": LinearLogSNR(),
    "geometric": geometric(),
    "logistic": Logistic(),
    "logistic-cut": Logistic(-12.0, 14.0),
    "cut-out": Cut(Logistic(), -9.0, 11.0),
    "cut-chain": Cut(Tabulated(linear_betas(50)), 0.9, 7.0),
}
PROCESSES = {
    f"{type(scaling).__name__}-{name}": Process(scaling, schedule)
    for scaling in SCALINGS
    for name, schedule in SCHEDULES.items()
    if not (isinstance(scaling, VE) and name == "logistic")  # sigma would be infinite at t = 1
}


@pytest.fixture(scope="session", params=PROCESSES.values(), ids=PROCESSES.keys())
def process(request):
    return request.param


@pytest.fixture(scope="session", params=SCHEDULES.values(), ids=SCHEDULES.keys())
def schedule(request):
    return request.param


@pytest.fixture(scope="session", params=SCALINGS, ids=lambda scaling: type(scaling).__name__)
def scaling(request):
    return request.param
