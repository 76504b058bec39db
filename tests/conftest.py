"""What every test runs under: one torch thread, no display, no deadline that a busy machine would miss."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

# The workers of pytest-xdist share the cores: a second torch thread in each makes all of them slower.
torch.set_num_threads(1)

# Also for the processes that tests start.
os.environ["MPLBACKEND"] = "Agg"
_home = tempfile.TemporaryDirectory()  # what is remembered of a machine is not for the tests to write
os.environ["XDG_CACHE_HOME"] = _home.name

settings.register_profile("sfumato", deadline=None)
settings.load_profile("sfumato")


@pytest.fixture(scope="module")
def no_pages() -> Iterator[None]:
    """Runs end without a report page, which takes ten times as long as a tiny training."""
    from sfumato.runs import training  # here, because jaxtyping's hook is not installed when this file is read

    def touch(folder: Any, **_: Any) -> Path:
        folder.report.touch()
        return folder.report

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "write_report", touch)
        yield
