"""Images (n, C, H, W), drawn as grids of pixels."""

import numpy as np
from PIL import Image

from sfumato.data.spec import DataSpec

from .. import html, text
from ..image_grid import GAP, Values, arrange, grid
from .base import AxesAt, Drawing, Film, Pairs, Path

_SHOWN = 64
_STRIPS = 2  # samples in a strip
_IN_FILM = 8
_MOST_LOSSLESS = 1_000_000  # values in a film; longer ones are compressed with loss
_CELL = 128  # largest side, in pixels, of an image that stands alone


class ImageDrawing(Drawing):
    """Grids with thin gaps, one range of grays for all images."""

    num_pairs = 12
    num_levels = 9
    num_frames = 48
    row_height = 48

    def picture(self, values: Values, spec: DataSpec, real: Values | None = None) -> Image.Image:
        return grid(values, spec, window_of=real)

    def pictures(
        self, frames: Values, spec: DataSpec, real: Values | None = None, clear: bool = False
    ) -> list[Image.Image]:
        return _grids(frames, spec, arrange(frames.shape[1], *frames.shape[3:]), real, clear)

    def samples(self, drawn: Values, real: Values | None, spec: DataSpec, caption: str) -> str:
        window_of = drawn if real is None else real
        shown = [("Samples of the model", drawn, caption)]
        if real is not None:
            shown.append(("Real data", real, "Drawn at random from the training data."))
        blocks = []
        for title, values, below in shown:
            picture = html.image(grid(values[:_SHOWN], spec, window_of=window_of, clear=True), title)
            blocks.append(html.titled(title, html.figure(picture, below)))
        return html.beside(blocks)

    def neighbours(self, pairs: Pairs, real: Values | None, spec: DataSpec, curve: str) -> str:
        window_of = pairs.nearest if real is None else real
        cells = []
        for sample, nearest, distance in zip(pairs.samples, pairs.nearest, pairs.distances, strict=True):
            far = text.figure(float(distance))
            above = _cell(sample, window_of, spec, "sample")
            below = _cell(nearest, window_of, spec, f"its nearest training sample, {pairs.number} {far}")
            cells.append(f"<figure>{above}{below}<figcaption>{far}</figcaption></figure>")
        caption = f"Top: samples. Bottom: the nearest training sample of each, with the {pairs.number}."
        return f'<div class="pairs">{"".join(cells)}</div><p class="caption">{caption}</p>{curve}'

    def strip(self, path: Path, real: Values | None, spec: DataSpec) -> str:
        window_of = path.estimates[-1] if real is None else real
        levels = [text.signed(float(value)) for value in path.logsnr]
        heads = "".join(f'<th scope="col">{level}</th>' for level in levels)
        rows = [f'<tr><th scope="row">log-SNR</th>{heads}</tr>']
        for k in range(min(_STRIPS, path.states.shape[1])):
            for values, name, alt, kind in (
                (path.states, "state x<sub>t</sub>", "state", ' class="gap"' if k else ""),
                (path.estimates, "estimate x̂<sub>0</sub>", "estimate of the clean sample", ""),
            ):
                cells = (
                    f"<td>{_cell(x[k], window_of, spec, f'{alt} at log-SNR {level}')}</td>"
                    for x, level in zip(values, levels, strict=True)
                )
                rows.append(f'<tr{kind}><th scope="row">{name}</th>{"".join(cells)}</tr>')
        columns = '<col class="head">' + "<col>" * len(levels)
        return f'<table class="cells"><colgroup>{columns}</colgroup>{"".join(rows)}</table>'

    def film(self, path: Path, real: Values | None, spec: DataSpec) -> Film:
        columns = min(_IN_FILM, path.states.shape[1])
        frames = np.concatenate([path.states[:, :columns], path.estimates[:, :columns]], axis=1)
        return Film(
            pictures=_grids(frames, spec, columns, real, clear=True),
            caption="Top: the states. Bottom: the estimates of the clean sample at the same levels.",
            style="grid crisp",
            lossless=frames.size <= _MOST_LOSSLESS,
            enlargement=1.5,
        )

    def row_width(self, spec: DataSpec) -> int:
        return 400

    def row(
        self, axes_at: AxesAt, values: Values, real: Values | None, spec: DataSpec, left: int | float, top: int | float
    ) -> None:
        width, height = self.row_width(spec), self.row_height
        rows, columns = spec.shape[1:]
        count = max(1, min(len(values), int((width + GAP) / (height * columns / rows + GAP)), 16))
        axes = axes_at(left, top, width, height)
        scale = max(1, round(1.5 * height / rows))
        picture = grid(values[:count], spec, count, scale, window_of=values if real is None else real)
        axes.imshow(np.asarray(picture.convert("RGB")), interpolation="antialiased")
        axes.set_anchor("W")
        axes.set_axis_off()


def _grids(frames: Values, spec: DataSpec, columns: int, real: Values | None, clear: bool) -> list[Image.Image]:
    """Frames with the grays of real data, or of the last frame."""
    window_of = frames[-1] if real is None else real
    return [grid(frame, spec, columns, window_of=window_of, clear=clear) for frame in frames]


def _cell(value: Values, window_of: Values, spec: DataSpec, alt: str) -> str:
    """One image as HTML: its own pixels where it is small; pages enlarge it."""
    picture = grid(value[None], spec, scale=1, window_of=window_of)
    picture.thumbnail((_CELL, _CELL), Image.Resampling.LANCZOS)
    return html.image(picture, alt, "crisp")
