"""The sections about the samples: beside real data, beside their nearest training samples, on their way from noise."""

import math
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from . import figures, text
from .images import Values, grid
from .parts import beside, command, figure, image, missing, section, titled
from .pictures import animate, draw_frames
from .run import Run, number

# How many of each the page shows, by layout.
_SHOWN = {"image": 64, "signal": 100, "vector": 1500}
_PAIRS = {"image": 12, "signal": 8, "vector": 100}
_COLUMNS = {"image": 9, "signal": 6, "vector": 6}
_FRAMES = {"image": 48, "signal": 30, "vector": 30}
_STRIPS = 2
_MOVIES = 8
_MOST_LOSSLESS = 1_000_000  # values in a movie of images; above, it is compressed with loss
_WIDEST = 800  # pixels of a movie
_HEAVY_STILL = 100_000  # bytes
_CELL = 128  # pixels of an image that stands alone
# Ratios of median distances, samples over held-out data, at which the wording changes.
_COPIED, _CLOSE, _FAR = 0.5, 0.8, 1.25


def samples(run: Run) -> str:
    """Samples beside real data."""
    drawn, real = run.gallery.get("samples"), run.gallery.get("real")
    if drawn is None:
        what = "No samples yet" if run.gallery else "No samples, nearest training samples or trajectory yet"
        return section("Samples", missing(what, command(run, "report")))
    made, most = _how(run.sampler), _SHOWN[run.spec.layout.name]
    if run.spec.layout.name != "image":
        plot = figures.comparison(drawn[:most], None if real is None else real[:most], run.spec)
        return section("Samples", figure(plot, made, wide=True))
    window_of = drawn if real is None else real
    shown = [("Samples of the model", drawn, made)]
    if real is not None:
        shown.append(("Real data", real, "Drawn at random from the training data."))
    return section(
        "Samples",
        beside(
            titled(title, figure(image(grid(values[:most], run.spec, window_of=window_of, clear=True), title), caption))
            for title, values, caption in shown
        ),
    )


def _how(sampler: dict[str, Any]) -> str:
    """How the samples were drawn, as ``gallery.json`` has it."""
    said = [escape(sampler["sampler"])] if isinstance(sampler.get("sampler"), str) else []
    latents = number(sampler, "latents")
    if math.isfinite(latents):
        said.append(f"{text.figure(latents, 12)} latent{'' if latents == 1 else 's'}")
    for key, words in (
        ("steps", "{} steps"),
        ("eta", "eta {}"),
        ("evaluations", "{} evaluations"),
        ("seed", "seed {}"),
    ):
        value = number(sampler, key)
        if math.isfinite(value):
            said.append(words.format(text.figure(value, 12)))
    seconds = number(sampler, "seconds")
    if math.isfinite(seconds):
        said.append(f"{text.duration(seconds)} in all")
    return f"Drawn with {', '.join(said)}; not selected." if said else "Not selected."


def nearest(run: Run) -> str:
    """Samples with their nearest training samples: does the model copy? Nothing without a gallery."""
    if not run.gallery:
        return ""
    title, layout = "Nearest training samples", run.spec.layout.name
    drawn, found, distance = (run.gallery.get(name) for name in ("samples", "neighbours", "distances"))
    if drawn is None or found is None or distance is None:
        return section(title, missing("No nearest training samples yet", command(run, "report")))
    held_out = run.gallery.get("held_out_distances")
    most = min(_PAIRS[layout], len(drawn), len(found), len(distance))
    pairs = drawn[:most], found[:most], distance[:most]
    lead = f"<p>{verdict(distance, held_out)}</p>"
    curve = figure(
        figures.distances(distance, held_out),
        "A curve to the left of the held-out one means samples nearer to the training data than new real data is.",
    )
    if layout == "image":
        return section(title, f"{lead}{_pairs(run, *pairs)}{curve}")
    if layout == "vector" and run.spec.shape[0] != 2:
        return section(title, f"{lead}{curve}")
    plot = figure(
        figures.neighbours(*pairs, run.spec),
        "Blue: samples. Orange: the nearest training sample of each.",
        wide=layout == "signal",
    )
    return section(title, lead + (plot + curve if layout == "signal" else beside([plot, curve])))


def verdict(distance: Values, held_out: Values | None) -> str:
    """The comparison of median distances in plain words."""
    ours = float(np.median(distance))
    units = "root mean square per value, model units"
    start = f"The median distance of a sample to its nearest training sample is {text.figure(ours)}"
    if held_out is None:
        return f"{start} ({units}); there is no held-out data to compare it with."
    theirs = float(np.median(held_out))
    ratio = ours / theirs if theirs > 0 else math.inf if ours > 0 else 1.0
    if ratio < _COPIED:
        words = "far closer to the training data than new real data does: the model copies what it has seen"
    elif ratio < _CLOSE:
        words = "closer to the training data than new real data does: some may be near-copies, so look at the pairs"
    elif ratio <= _FAR:
        words = "as far from the training data as new real data does: no sign of copying"
    else:
        words = (
            "farther from the training data than new real data does: no sign of copying, but they may not look like "
            "real ones"
        )
    return f"{start}; of held-out real data it is {text.figure(theirs)} ({units}). Samples lie {words}."


def _pairs(run: Run, drawn: Values, found: Values, distance: Values) -> str:
    """Images above the training images nearest to them."""
    real = run.gallery.get("real", found)
    cells = []
    for a, b, d in zip(drawn, found, distance, strict=True):
        far = text.figure(float(d))
        both = _cell(run, a, real, "sample") + _cell(run, b, real, f"its nearest training sample, at distance {far}")
        cells.append(f"<figure>{both}<figcaption>{far}</figcaption></figure>")
    caption = "Above: samples. Below: the training sample nearest to each, and their distance."
    return f'<div class="pairs">{"".join(cells)}</div><p class="caption">{caption}</p>'


def _cell(run: Run, value: Values, window_of: Values, alt: str) -> str:
    """One image alone, in its own pixels: the page enlarges it."""
    picture = grid(value[None], run.spec, scale=1, window_of=window_of)
    picture.thumbnail((_CELL, _CELL), Image.Resampling.LANCZOS)
    return image(picture, alt, "crisp")


def trajectory(run: Run) -> str:
    """From noise to data, as a strip and as a movie. Nothing without a gallery, or for a hierarchical VAE."""
    if not run.gallery or run.process is None:
        return ""
    title = "From noise to data"
    states, estimates, logsnr = (run.gallery.get(f"trajectory_{name}") for name in ("x", "x_0", "logsnr"))
    if states is None or estimates is None or logsnr is None or not len(states) == len(estimates) == len(logsnr):
        return section(title, missing("No trajectories yet", command(run, "report")))
    lead = (
        "<p>The sampler starts from noise and moves to lower noise levels. At each level the model estimates the clean "
        "sample, x̂<sub>0</sub>, from the noisy state x<sub>t</sub>: coarse structure first, detail last.</p>"
    )
    chosen = _spread(len(states), _COLUMNS[run.spec.layout.name])
    shown = states[chosen], estimates[chosen], logsnr[chosen]
    drawn = _strip(run, *shown) if run.spec.layout.name == "image" else figures.strip(*shown, run.spec)
    caption = "States are shown divided by √(α² + σ²), so that noise and data have one scale."
    return section(title, lead + figure(drawn, caption, wide=True) + _movie(run, states, estimates))


def _strip(run: Run, states: Values, estimates: Values, logsnr: Values) -> str:
    """Images on their way: for each, a row of states and a row of estimates, a column a noise level."""
    real = run.gallery.get("real", estimates[-1])
    levels = [text.signed(float(value)) for value in logsnr]
    heads = "".join(f'<th scope="col">{level}</th>' for level in levels)
    rows = [f'<tr><th scope="row">log-SNR</th>{heads}</tr>']
    for k in range(min(_STRIPS, states.shape[1])):
        for values, name in ((states, "state x<sub>t</sub>"), (estimates, "estimate x̂<sub>0</sub>")):
            alt = "state" if values is states else "estimate of the clean sample"
            cells = (
                f"<td>{_cell(run, x[k], real, f'{alt} at log-SNR {level}')}</td>"
                for x, level in zip(values, levels, strict=True)
            )
            kind = ' class="gap"' if values is states and k else ""
            rows.append(f'<tr{kind}><th scope="row">{name}</th>{"".join(cells)}</tr>')
    columns = '<col class="head">' + "<col>" * len(levels)
    return f'<table class="cells"><colgroup>{columns}</colgroup>{"".join(rows)}</table>'


def _movie(run: Run, states: Values, estimates: Values) -> str:
    """The same as an animation; a still for readers who want no motion, and for paper."""
    chosen, most = _spread(len(states), _FRAMES[run.spec.layout.name]), _SHOWN[run.spec.layout.name]
    real = run.gallery.get("real")
    if run.spec.layout.name == "image":
        j = min(_MOVIES, states.shape[1])
        frames = np.concatenate([states[chosen, :j], estimates[chosen, :j]], axis=1)
        drawn = draw_frames(frames, run.spec, columns=j, reference=real, clear=True)
        kind, lossless, enlarged = "grid crisp", frames.size <= _MOST_LOSSLESS, 1.5
        caption = "Above: the states. Below: the estimates of the clean sample at the same levels."
    else:
        reference = None if real is None else real[: most // 3]
        drawn = draw_frames(estimates[chosen, :most], run.spec, reference=reference, clear=True)
        kind, lossless, enlarged = "plot", True, 1.0
        caption = "The estimates of the clean sample, from the highest noise level to the lowest."
    for frame in drawn:
        frame.thumbnail((_WIDEST, _WIDEST), Image.Resampling.LANCZOS)
    content = animate(drawn, "WEBP", fps=float(np.clip(len(drawn) / 4, 6, 15)), lossless=lossless)
    width, height = drawn[0].size
    moving, still = text.uri(content, "image/webp"), text.image_uri(drawn[-1], heavy=_HEAVY_STILL)
    return figure(
        '<picture><source media="print, (prefers-reduced-motion: reduce)" '
        f'srcset="{still}"><img class="{kind}" src="{moving}" '
        f'style="width:100%;max-width:{enlarged * width:.0f}px" width="{width}" height="{height}" '
        'alt="Animation of the samples on their way from noise to data"></picture>',
        caption,
    )


def _spread(n: int, most: int) -> list[int]:
    """At most this many of n indices, evenly from the first to the last."""
    return sorted({round(i) for i in np.linspace(0, n - 1, min(n, most))})
