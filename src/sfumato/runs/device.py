"""The device that work runs on."""

import os

import torch

from sfumato.errors import InputError


def pick_device(name: str) -> torch.device:
    """The device called ``name``.

    Arguments:
        name: "cpu", "cuda", "cuda:1", ..., or "auto" for a GPU if there is one.

    Raises:
        InputError: this machine has no such device.
    """
    # Not mps: it has no float64, the type of times and noise levels.
    available = {"cpu": True, "cuda": torch.cuda.is_available()}
    if name == "auto":
        name = "cuda" if available["cuda"] else "cpu"
    kind = name.partition(":")[0]
    if not available.get(kind, False):
        usable = ", ".join(k for k, there in available.items() if there)
        raise InputError(f"--device {name}: not available here; this machine has {usable}")
    if kind == "cpu":
        return torch.device(name)
    # Under torchrun each process of a machine takes its own GPU, unless a number is given.
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if name == "cuda" else torch.device(name)
    torch.cuda.set_device(device)
    return device
