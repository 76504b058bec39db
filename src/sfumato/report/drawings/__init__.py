"""How samples are drawn: one class per layout, looked up here."""

from sfumato.data.spec import DataSpec

from .base import Drawing
from .images import ImageDrawing
from .signals import SignalDrawing
from .vectors import VectorDrawing

_DRAWINGS: dict[str, Drawing] = {"vector": VectorDrawing(), "signal": SignalDrawing(), "image": ImageDrawing()}


def drawing_of(spec: DataSpec) -> Drawing:
    """Return the drawing for samples of this data."""
    return _DRAWINGS[spec.layout.name]
