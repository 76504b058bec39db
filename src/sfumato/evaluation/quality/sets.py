"""Two sets of points in one feature space, and the distances between them, which several measures share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from sfumato.errors import InputError


@dataclass(frozen=True, eq=False)
class Sets:
    """Samples and real data to compare them with.

    Arguments:
        samples: features of the samples (n, *), computed with in float64.
        real: features of real data (m, *).

    Raises:
        InputError: points of two shapes, fewer than two in a set, or values that are not finite.
    """

    samples: Shaped[Tensor, "n ..."]
    real: Shaped[Tensor, "m ..."]

    def __post_init__(self) -> None:
        for name in ("samples", "real"):
            points = getattr(self, name).detach().cpu().double().flatten(1)
            if len(points) < 2:
                raise InputError(f"{name}: {len(points)} of them cannot be compared; give at least 2")
            if not points.isfinite().all():
                raise InputError(f"{name}: some values are NaN or infinite; remove those samples")
            object.__setattr__(self, name, points)
        ours, theirs = self.samples.shape[1], self.real.shape[1]
        if ours != theirs:
            raise InputError(f"samples of {ours} numbers and real data of {theirs} cannot be compared; give one shape")

    @cached_property
    def among_samples(self) -> Float[Tensor, "n n"]:
        """Euclidean distances of the samples to each other; exactly 0 to themselves."""
        return _distances(self.samples, self.samples).fill_diagonal_(0)

    @cached_property
    def among_real(self) -> Float[Tensor, "m m"]:
        """Euclidean distances of the real points to each other; exactly 0 to themselves."""
        return _distances(self.real, self.real).fill_diagonal_(0)

    @cached_property
    def across(self) -> Float[Tensor, "n m"]:
        """Euclidean distance of each sample to each real point."""
        return _distances(self.samples, self.real)

    @cached_property
    def _known(self) -> dict[str, Tensor]:
        return {}

    def once(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """What ``compute`` returns, computed when it is first asked for by this name."""
        if name not in self._known:
            self._known[name] = compute()
        return self._known[name]

    def only(self, rows: Int64[Tensor, "a"], columns: Int64[Tensor, "b"]) -> "Sets":
        """The sets of the samples and real points with these numbers. Distances that are known are taken over."""
        fewer = Sets(self.samples[rows], self.real[columns])
        kept = {"among_samples": (rows, rows), "among_real": (columns, columns), "across": (rows, columns)}
        for name, (first, second) in kept.items():
            if name in self.__dict__:
                fewer.__dict__[name] = self.__dict__[name][first][:, second]
        return fewer


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist")
