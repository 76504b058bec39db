import time

import pytest
import torch

from sfumato.training.threads import PATIENCE, Threads


@pytest.fixture(autouse=True)
def restored() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("one", "two", "chosen"), [(0.01, 0.002, 2), (0.002, 0.01, 1)])
def test_the_faster_number_is_kept(one: float, two: float, chosen: int) -> None:
    torch.set_num_threads(2)
    threads = Threads(lambda: time.sleep(one if torch.get_num_threads() == 1 else two))
    assert threads.choose() == chosen
    assert torch.get_num_threads() == chosen


def test_a_neighbour_that_comes_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    crowded = False
    threads = Threads(lambda: time.sleep(0.03 if crowded and torch.get_num_threads() == 2 else 0.005))
    threads._most = 2
    torch.set_num_threads(2)
    threads.heed(0.005)
    crowded = True
    clock = time.monotonic() + PATIENCE + 1
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    threads.heed(0.006)
    assert torch.get_num_threads() == 2
    threads.heed(0.03)
    assert torch.get_num_threads() == 1


def test_one_thread_is_left_alone() -> None:
    torch.set_num_threads(1)
    threads = Threads(lambda: pytest.fail("tried"))
    assert threads.choose() == 1
