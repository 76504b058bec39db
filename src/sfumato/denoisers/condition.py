"""The condition that a network gets besides x_t and t, one row per sample.

"Not given" is a state of its own: a class index of ``NOT_GIVEN``, or a presence flag that is False. A vector of zeros
is a value like any other.
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sfumato.errors import InputError

NOT_GIVEN = -1


@dataclass(frozen=True, eq=False)
class Condition:
    """The condition of B samples. A part that is None does not exist for this model.

    Arguments:
        classes: class indices (B,); ``NOT_GIVEN`` for a sample without a class.
        vector: numbers (B, n) in the network's units.
        vector_given: which numbers of the vector are given (B, n); None means that all are.
        image: an image (B, c, *) to concatenate with x_t along the channels.
        image_given: whether the image of a sample is given (B,); None means that all are.
        augmentation: numbers (B, a) that describe how a training image was transformed; zeros for an unchanged image.

    Raises:
        InputError: no part at all, parts of different lengths, or a flag without its part.
    """

    classes: Int64[Tensor, "b"] | None = None
    vector: Float[Tensor, "b n"] | None = None
    vector_given: Bool[Tensor, "b n"] | None = None
    image: Float[Tensor, "b c *s"] | None = None
    image_given: Bool[Tensor, "b"] | None = None
    augmentation: Float[Tensor, "b a"] | None = None

    def __post_init__(self) -> None:
        lengths = {name: len(part) for name, part in self.tensors.items()}
        if not lengths:
            raise InputError("condition: no part is given; pass None instead of an empty condition")
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise InputError(f"condition: the parts have different numbers of rows ({shown}); give one row per sample")
        for name in ("vector", "image"):
            if getattr(self, name) is None and getattr(self, f"{name}_given") is not None:
                raise InputError(f"condition: {name}_given without {name}; give both, or neither")

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def rows(self, index: slice | Tensor) -> "Condition":
        """The condition of the samples that ``index`` selects, in its order."""
        return Condition(**{name: part[_on(index, part)] for name, part in self.tensors.items()})

    def dropped(self, mask: Bool[Tensor, "b"], numbers: Bool[Tensor, "b n"] | None = None) -> "Condition":
        """The condition with class, vector and image not given where ``mask`` is True.

        Nor are the numbers of the vector where ``numbers`` is True. Augmentation numbers are kept: they describe a
        transformation of the sample.
        """
        parts = self.tensors
        if self.classes is not None:
            parts["classes"] = self.classes.masked_fill(mask.to(self.classes.device), NOT_GIVEN)
        for name in ("vector", "image"):
            part, given = getattr(self, name), getattr(self, f"{name}_given")
            if part is not None:
                kept = ~mask.to(part.device)
                if name == "vector":
                    kept = kept[:, None].expand(part.shape)
                    kept = kept if numbers is None else kept & ~numbers.to(part.device)
                parts[f"{name}_given"] = kept if given is None else given & kept
        return Condition(**parts)

    def to(self, device: torch.device | str) -> "Condition":
        """The condition on ``device``."""
        return Condition(**{name: part.to(device) for name, part in self.tensors.items()})

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The parts that are not None, by name."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: part for name, part in parts.items() if part is not None}


def condition_rows(cond: Condition | None, index: slice | Tensor) -> Condition | None:
    """``cond.rows(index)``; None stays None."""
    return None if cond is None else cond.rows(index)


def check_rows(cond: Condition | None, count: int) -> None:
    """Raises InputError unless there is one row of ``cond`` per sample."""
    if cond is not None and len(cond) != count:
        raise InputError(f"cond: has {len(cond)} rows for {count} samples; give one row per sample")


def _on(index: slice | Tensor, part: Tensor) -> slice | Tensor:
    return index.to(part.device) if isinstance(index, Tensor) else index
