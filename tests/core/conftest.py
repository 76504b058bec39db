"""Every scaling with every schedule."""

import pytest

from sfumato.core import (
    VE,
    VP,
    Cosine,
    LinearBeta,
    LinearLogSNR,
    Logistic,
    Process,
    Straight,
    Tabulated,
    cosine_betas,
    geometric,
    linear_betas,
)

SCALINGS = [VP(), VE(), Straight()]
SCHEDULES = {
    "linear-betas": Tabulated(linear_betas(50)),
    "cosine-betas": Tabulated(cosine_betas(20)),
    "linear-beta": LinearBeta(),
    "cosine": Cosine(),
    "line": LinearLogSNR(),
    "geometric": geometric(),
    "logistic": Logistic(),
    "logistic-cut": Logistic(-12.0, 14.0),
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
