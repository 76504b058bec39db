"""What every test runs under: one torch thread, no display, no deadline that a busy machine would miss."""

import os
import tempfile

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
