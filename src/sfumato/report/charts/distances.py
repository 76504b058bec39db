"""The distances of samples to their nearest training samples."""

from ..image_grid import Values
from ..style import BLUE, HALF, ORANGE, new_figure, styled, to_svg


def distances(sampled: Values, held_out: Values | None) -> str:
    """Draw the cumulative distribution of the distances, of samples and of held-out real data."""
    with styled():
        figure = new_figure(*HALF)
        axes = figure.subplots()
        for values, label, colour, dashes in (
            (held_out, "held-out real data", ORANGE, (0, (4, 2))),
            (sampled, "samples", BLUE, "-"),
        ):
            if values is not None:
                axes.ecdf(values, color=colour, linestyle=dashes, label=label)
        axes.set(xlabel="distance to the nearest training sample (model units)", xlim=(0, None))
        axes.set_ylabel("fraction that is nearer")
        axes.legend()
        return to_svg(figure, "distances", "Cumulative distribution of distances to the nearest training sample.")
