"""Feature spaces, in which samples are compared. Every number of an evaluation names its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float, Shaped
from torch import Tensor

from sfumato.data import DataSpec
from sfumato.errors import InputError


@dataclass(frozen=True, eq=False)
class Space:
    """A feature space.

    Arguments:
        name: such as "pixels".
        features: from samples in data units (n, *shape) to features (n, d).
        raw: whether the features are the numbers of the samples themselves.
    """

    name: str
    features: Callable[[Shaped[Tensor, "n *s"]], Float[Tensor, "n d"]]
    raw: bool = False


def own_numbers(spec: DataSpec) -> Space:
    """The numbers of the samples themselves, in model units: "pixels" of images, "values" of all else."""
    name = "pixels" if spec.layout.name == "image" else "values"
    return Space(name, lambda samples: spec.encode(samples).flatten(1), raw=True)


def spaces_named(names: Sequence[str] | None, spec: DataSpec) -> list[Space]:
    """The feature spaces with these names; by default the numbers themselves.

    Raises:
        InputError: a name that no space has.
    """
    own = own_numbers(spec)
    for name in names or ():
        if name != own.name:
            raise InputError(f"features: '{name}' is unknown; give {own.name}")
    return [own]
