"""A part of the data as training sees it, and the noise that goes with its samples."""

from dataclasses import dataclass

from jaxtyping import Int64
from torch import Tensor

from sfumato.core import NoiseSource, SeededNoise
from sfumato.objectives import Pairing, given


@dataclass(frozen=True, eq=False)
class Part:
    """Samples (N, *) in model units, and the noise (N, *) that each is paired with, if it is."""

    values: Tensor
    noise: Tensor | None = None

    def pick(self, indices: Int64[Tensor, "n"]) -> "Part":
        """Those of these indices."""
        indices = indices.to(self.values.device, non_blocking=True)
        return Part(self.values[indices], None if self.noise is None else self.noise[indices])

    def dealt(self, pairing: Pairing | None, keys: Int64[Tensor, "n"]) -> "Part":
        """This part, a whole batch with these keys, after ``pairing`` has dealt out its noise; as it is without."""
        return self if pairing is None else Part(self.values, pairing(source(keys, self.noise))(1, self.values))

    def rows(self, first: int, last: int) -> "Part":
        """Those from ``first`` to before ``last``."""
        return Part(self.values[first:last], None if self.noise is None else self.noise[first:last])


def source(keys: Int64[Tensor, "b"], z: Tensor | None) -> NoiseSource:
    """The noise of samples with these keys; its draw 1 is ``z`` (b, *) where there is one."""
    noise = SeededNoise(keys)
    return noise if z is None else given(z, noise)
