"""Freed memory is kept for the next step."""

import ctypes
import subprocess
import sys

import pytest


def test_memory_that_is_freed_is_kept() -> None:
    """Page faults of ten blocks of 64 MiB after twenty others: 16,384 pages each where they are handed back."""
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("not glibc")
    script = (
        "import resource, torch\n"
        "from sfumato.cli.malloc import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "for _ in range(20): torch.ones(1 << 24)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(10): torch.ones(1 << 24)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16_384
