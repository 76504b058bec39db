"""Small run folders, as training leaves them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfumato.data import LAYOUTS, Affine, DataSpec
from sfumato.recipes import DiffusionRecipe, override

SPECS = {
    "image": DataSpec(
        layout=LAYOUTS["image"],
        shape=(1, 4, 6),
        dtype="uint8",
        transform=Affine((8.0,), (8.0,), 0.0, 16.0, 17),
        channels=("gray",),
        second_moment=0.6,
        diameter=4.0,
        class_names=("zero", "one"),
        class_counts=(20, 30),
        count=50,
        fingerprint="c0ffee",
        source="tiny digits",
    ),
}
SPECS["signal"] = replace(SPECS["image"], layout=LAYOUTS["signal"], shape=(2, 12), channels=("left", "right"))
SPECS["plane"] = replace(
    SPECS["image"],
    layout=LAYOUTS["vector"],
    shape=(2,),
    dtype="float32",
    transform=Affine((1.0, -1.0), (2.0, 3.0)),
    channels=(),
)
SPECS["line"] = replace(SPECS["plane"], shape=(1,), transform=Affine((1.0,), (2.0,)))
SPECS["table"] = replace(SPECS["plane"], shape=(5,), transform=Affine((0.0,) * 5, (1.0, 2.0, 3.0, 4.0, 5.0)))


def values(spec, n, seed=0):
    """``n`` samples in data units: standard normal in model units, within the bounds if there are any."""
    drawn = np.random.default_rng(seed).standard_normal((n, *spec.shape))
    shift, scale = np.array(spec.transform.shift), np.array(spec.transform.scale)
    if spec.bounds is None:
        return (drawn * scale + shift).astype(np.float32)
    return np.clip(np.round(drawn * scale + shift), *spec.bounds).astype(np.float32)


def metrics(steps=6):
    """Rows that a training of this many measurements writes; the held-out loss is lowest at the fourth."""
    rows = []
    for k in range(1, steps + 1):
        about = {"step": 10 * k, "images": 1280 * k, "seconds": 20.0 * k}
        rows.append({"kind": "train", **about, "loss": 1 / k, "learning_rate": 1e-3, "images_per_second": 60.0 + k})
        loss = 0.5 + 0.01 * (k - 4) ** 2
        levels = [
            {"t": t, "logsnr": 8 - 16 * t, "loss": loss * (1 - 0.5 * t), "train_loss": 0.9 * loss * (1 - 0.5 * t)}
            for t in (0.1, 0.5, 0.9)
        ]
        rows.append({"kind": "held_out", **about, "loss": loss, "train_loss": 0.8 * loss, "levels": levels})
    rows.append({"kind": "stop", **about, "reason": "budget"})
    return rows


def gallery(spec, n=7, m=5, frames=4, j=3):
    """What gallery.npz holds."""
    start, end = values(spec, j, 3).astype(np.float64), values(spec, j, 4).astype(np.float64)
    share = np.linspace(0, 1, frames).reshape(-1, *(1,) * start.ndim)
    return {
        "samples": values(spec, n, 1),
        "real": values(spec, n, 2),
        "neighbours": values(spec, m, 5),
        "distances": np.linspace(0.2, 0.4, m),
        "held_out_distances": np.linspace(0.25, 0.45, 9),
        "trajectory_t": np.linspace(1, 0, frames),
        "trajectory_logsnr": np.append(np.linspace(-9, 9, frames - 1), np.inf),
        "trajectory_x": (1 - share) * 3 * start + share * end,
        "trajectory_x_0": (1 - share) * end.mean(0) + share * end,
    }


def write_run(folder: Path, spec, *, overrides=(), rows=None, arrays=None, results=None):
    """A complete run of ``spec`` in ``folder``; a part that is given as an empty value is not written."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = override(DiffusionRecipe(), overrides).resolved(spec)
    config = {"format": 2, "sfumato": "0.1.0", "recipe": recipe.model_dump(mode="json"), "data": spec.to_dict()}
    (folder / "config.json").write_text(json.dumps({**config, "parameters": 12345}))
    rows = metrics() if rows is None else rows
    if rows:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arrays = gallery(spec) if arrays is None else arrays
    if arrays:
        np.savez(folder / "gallery.npz", **arrays)
        about = {"sampler": "ddim", "steps": 50, "eta": 0.0, "seed": 0, "seconds": 1.25, "evaluations": 50}
        (folder / "gallery.json").write_text(json.dumps(about))
    results = [{"label": "a result", "value": "0.91"}] if results is None else results
    if results:
        (folder / "results.json").write_text(json.dumps({"rows": results}))
    return folder


@pytest.fixture(params=list(SPECS))
def any_spec(request):
    return SPECS[request.param]
