"""The batch that a loss is computed from."""

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from sfumato.core import NoiseSource, PairedNoise, SeededNoise
from sfumato.denoisers import Condition, condition_rows
from sfumato.errors import InputError


@dataclass(frozen=True, eq=False)
class Batch:
    """B samples and everything that is drawn for them.

    Arguments:
        x_0: samples (B, *) in model units.
        uniform: numbers (B,) in (0, 1]; an objective turns them into times.
        noise: the noise of each sample; draw 1 makes x_t.
        cond: the condition of each sample, or None.
        weight: importance weights (B,) on the losses, or None for 1.
    """

    x_0: Tensor
    uniform: Tensor
    noise: NoiseSource
    cond: Condition | None = None
    weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x_0)

    def rows(self, first: int, last: int) -> "Batch":
        """Samples ``first`` to ``last - 1``.

        Raises:
            InputError: the noise is a plain function, which cannot be sliced.
        """
        if not isinstance(self.noise, (SeededNoise, PairedNoise)):
            raise InputError("noise: a plain function cannot be sliced; give SeededNoise or PairedNoise")
        kept = slice(first, last)
        return replace(
            self,
            x_0=self.x_0[kept],
            uniform=self.uniform[kept],
            noise=self.noise.rows(kept),
            cond=condition_rows(self.cond, kept),
            weight=None if self.weight is None else self.weight[kept],
        )

    def weighted(self, losses: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """``weight * losses``."""
        return losses if self.weight is None else losses * self.weight.to(losses)
