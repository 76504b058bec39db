"""Denoising, inpainting, super-resolution and deblurring of images that no method has seen, beside classical methods.

Images are bytes; noise is given for a range of 0 to 1. Readings have noise 0.05: a hole of 12 x 12 pixels inside,
means of 4 x 4 pixels, or a Gaussian blur of 1.5 pixels. Rivals:

    Wiener                 the best linear estimate, with the mean and covariance of 5,000 training images
    total variation        min |A x - y|^2 / 2 + weight noise TV(x), by the primal-dual method of Chambolle & Pock 2011
    non-local means        scikit-image, for denoising (Buades et al. 2005); knows the noise
    biharmonic, bicubic    scikit-image, for inpainting and super-resolution

The weights of each rival are those of the highest PSNR on 16 training images. The model is ours with its defaults: one
evaluation for denoising; otherwise MMPS in 20 steps, whose estimate is the mean of its draws. Of a hole, PiGDM in 30
steps had the lower error on four training images, and takes its place.

    python benchmarks/restoration_images.py measure NAME RUN TRAIN TEST --out OUT
    python benchmarks/restoration_images.py table OUT

RUN was trained on TRAIN by ``sfumato train TRAIN --budget ...``; ``table`` prints the tables, draws the figures of the
data sets in OUT into docs/images, and writes them into benchmarks/results/restoration_images.json, beside those that
are there. Needs scikit-image, of the extra ``peers``.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import skimage
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from skimage.restoration import denoise_nl_means, inpaint_biharmonic
from skimage.transform import resize

import sfumato
from sfumato.restoration import Blur, Downsampling, Mask, Operator
from sfumato.restoration.operators import dense

ROOT = Path(__file__).parent
MACHINE = "2 cores of an x86 with AVX-512 and bf16, shared"
SIGMAS, READING_NOISE = (0.1, 0.2, 0.5), 0.05
TV_WEIGHTS = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)  # of the noise
NLM_STRENGTHS = (0.4, 0.6, 0.8, 1.0, 1.3)  # h, of the noise
LEARN, CHOOSE, DENOISED, RESTORED, DRAWS = 5000, 16, 32, 8, 4
Images = torch.Tensor  # (n, 1, H, W), float64, 0 to 1
Estimate = Callable[[Images, float], Images]  # of readings, with a setting
METHODS = {"inpainting": ("pigdm", 30)}  # and of the other tasks:
METHOD = ("mmps", 20)
COLUMNS = 4  # of a figure


class Identity(Operator):
    """Nothing but noise."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.input_shape = self.output_shape = shape

    def __call__(self, x: Images) -> Images:
        return x

    def adjoint(self, y: Images) -> Images:
        return y


def tasks(shape: tuple[int, ...]) -> dict[str, tuple[Operator, float]]:
    """The operators, and the noise of their readings."""
    hole = torch.ones(shape[1:], dtype=torch.bool)
    hole[8:20, 8:20] = False
    return {
        **{f"denoising, {sigma}": (Identity(shape), sigma) for sigma in SIGMAS},
        "inpainting": (Mask(hole, shape), READING_NOISE),
        "super-resolution": (Downsampling(4, shape), READING_NOISE),
        "deblurring": (Blur.gaussian(1.5, shape), READING_NOISE),
    }


def total_variation(operator: Operator, y: Images, weight: float, steps: int = 400) -> Images:
    """The primal-dual method; the data term is in the dual too, so that any operator will do."""
    x = ahead = operator.adjoint(y) * 0
    p, q = torch.zeros(2, *x.shape, dtype=x.dtype), torch.zeros_like(y)
    step = 1 / 3  # |gradient|^2 <= 8, and no operator here amplifies: 8 + 1 = 3^2
    for _ in range(steps):
        p = p + step * gradient(ahead)
        p = p / (p.square().sum(0).sqrt() / weight).clamp(min=1.0)
        q = (q + step * (operator(ahead) - y)) / (1 + step)
        new = x - step * (gradient_adjoint(p) + operator.adjoint(q))
        ahead, x = 2 * new - x, new
    return x


def gradient(x: Images) -> Images:
    down, right = torch.zeros_like(x), torch.zeros_like(x)
    down[..., :-1, :] = x[..., 1:, :] - x[..., :-1, :]
    right[..., :-1] = x[..., 1:] - x[..., :-1]
    return torch.stack([down, right])


def gradient_adjoint(p: Images) -> Images:
    down, right = p
    x = torch.zeros_like(down)
    x[..., :-1, :] -= down[..., :-1, :]
    x[..., 1:, :] += down[..., :-1, :]
    x[..., :-1] -= right[..., :-1]
    x[..., 1:] += right[..., :-1]
    return x


class Wiener:
    """``mean + C A^T (A C A^T + noise^2)^-1 (y - A mean)``, clipped to the range."""

    def __init__(self, train: Images) -> None:
        flat = train.flatten(1)
        self.shape, self.mean = train.shape[1:], flat.mean(0)
        self.covariance = torch.cov(flat.T)

    def __call__(self, operator: Operator, y: Images, noise: float) -> Images:
        A = dense(operator)
        pull = self.covariance @ A.T
        spread = A @ pull + noise**2 * torch.eye(len(A), dtype=A.dtype)
        found = self.mean + torch.linalg.solve(spread, (y.flatten(1) - A @ self.mean).T).T @ pull.T
        return found.reshape(-1, *self.shape)


def non_local(y: Images, noise: float, strength: float) -> Images:
    def one(image: np.ndarray) -> np.ndarray:
        return np.asarray(denoise_nl_means(image, 5, 9, strength * noise, fast_mode=False, sigma=noise))

    return torch.from_numpy(np.stack([one(image) for image in y[:, 0].numpy()]))[:, None]


def biharmonic(operator: Operator, y: Images) -> Images:
    known = operator.adjoint(torch.ones_like(y[:1]))[0, 0].numpy() > 0
    filled = (inpaint_biharmonic(image, ~known) for image in operator.adjoint(y)[:, 0].numpy())
    return torch.from_numpy(np.stack(list(filled)))[:, None]


def bicubic(operator: Operator, y: Images) -> Images:
    sides = operator.input_shape[1:]
    return torch.from_numpy(np.stack([resize(image, sides, order=3, mode="edge") for image in y[:, 0].numpy()]))[
        :, None
    ]


def rivals(
    name: str, operator: Operator, noise: float, wiener: Wiener
) -> dict[str, tuple[Estimate, tuple[float, ...]]]:
    """Each rival of a task, and the settings among which it is tuned."""
    found: dict[str, tuple[Estimate, tuple[float, ...]]] = {
        "Wiener": (lambda y, _: wiener(operator, y, noise), (0.0,)),
        "total variation": (lambda y, weight: total_variation(operator, y, weight * noise), TV_WEIGHTS),
    }
    if name.startswith("denoising"):
        found["non-local means"] = (lambda y, strength: non_local(y, noise, strength), NLM_STRENGTHS)
    if name == "inpainting":
        found["biharmonic"] = (lambda y, _: biharmonic(operator, y), (0.0,))
    if name == "super-resolution":
        found["bicubic"] = (lambda y, _: bicubic(operator, y), (0.0,))
    return found


def ours(model: Any, name: str, operator: Operator, noise: float, y: Images) -> dict[str, Images]:
    """The estimate and, except of denoising, one draw; and the method."""
    if name.startswith("denoising"):
        return {"model": model.denoise(255 * y, 255 * noise).mean / 255.0}
    method, steps = METHODS.get(name, METHOD)
    found = model.reconstruct(255 * y, operator, noise=255 * noise, draws=DRAWS, method=method, steps=steps)
    return {"model": found.mean / 255.0, "draw": found.draws[:, 0] / 255.0}


def scores(found: Images, truth: Images) -> dict[str, list[float]]:
    """PSNR in dB and SSIM of each image, with values outside the range cut off."""
    pairs = list(zip(truth[:, 0].numpy(), found[:, 0].double().clamp(0, 1).numpy(), strict=True))
    return {
        "psnr": [float(peak_signal_noise_ratio(a, b, data_range=1.0)) for a, b in pairs],
        "ssim": [float(structural_similarity(a, b, data_range=1.0)) for a, b in pairs],
    }


def measured(operator: Operator, noise: float, x: Images, seed: int) -> Images:
    y = operator(x)
    return y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=y.dtype)


def measure(name: str, run: Path, train_at: str, test_at: str, out: Path, only: list[str] | None) -> None:
    torch.set_num_threads(1)
    train, test = (sfumato.data.load(at).values[: LEARN + CHOOSE].double() / 255 for at in (train_at, test_at))
    wiener, choose, model = Wiener(train[:LEARN]), train[LEARN:], sfumato.load(run)
    numbers, pictures = before(out, name)
    for task, (operator, noise) in tasks(tuple(train.shape[1:])).items():
        if only and task not in only:
            continue
        truth = test[: DENOISED if task.startswith("denoising") else RESTORED]
        y, y_choose = measured(operator, noise, truth, 1), measured(operator, noise, choose, 2)
        found, rows = {"truth": truth}, {}
        for rival, (estimate, settings) in rivals(task, operator, noise, wiener).items():
            best = max(settings, key=lambda one: np.mean(scores(estimate(y_choose, one), choose)["psnr"]))
            began = time.process_time()
            found[rival] = estimate(y, best)
            rows[rival] = {"setting": best, "seconds": (time.process_time() - began) / len(y)}
        began = time.process_time()
        found |= ours(model, task, operator, noise, y)
        rows["model"] = {"seconds": (time.process_time() - began) / len(y)}
        for method in rows:
            rows[method] |= scores(found[method], truth)
            print(name, task, method, *(f"{np.mean(rows[method][key]):.3f}" for key in ("psnr", "ssim")), flush=True)
        numbers[task] = rows
        shown = seen(operator, y)
        pictures |= {f"{task}/{key}": value[:COLUMNS, 0].numpy() for key, value in {"measured": shown, **found}.items()}
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps({"seconds_trained": trained(run), "tasks": numbers}))
    np.savez(out / f"{name}.npz", **pictures)


def before(out: Path, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What was measured of a data set before."""
    if not (out / f"{name}.json").exists():
        return {}, {}
    with np.load(out / f"{name}.npz") as file:
        return json.loads((out / f"{name}.json").read_text())["tasks"], dict(file)


def trained(run: Path) -> float:
    """Seconds of training of a run."""
    lines = (json.loads(line) for line in (run / "metrics.jsonl").open())
    return float(max(line.get("seconds", 0.0) for line in lines))


def seen(operator: Operator, y: Images) -> Images:
    """Readings as a picture of the image's size."""
    if isinstance(operator, Downsampling):
        return operator.adjoint(y) * operator.factor**2
    return operator.adjoint(y) if isinstance(operator, Mask) else y


def table(out: Path) -> None:
    path = ROOT / "results" / "restoration_images.json"
    new = {one.stem: json.loads(one.read_text()) for one in sorted(out.glob("*.json"))}
    sets = json.loads(path.read_text())["sets"] | new
    for name, found in sets.items():
        for task, rows in found["tasks"].items():
            print(name, task, *(f"{method}: {words(row)}" for method, row in rows.items()), sep=" | ")
    versions = {"sfumato": sfumato.__version__, "torch": torch.__version__, "scikit-image": skimage.__version__}
    path.write_text(json.dumps({"machine": MACHINE, "versions": versions, "sets": sets}) + "\n")
    for name in new:
        with np.load(out / f"{name}.npz") as pictures:
            shown = ("denoising, 0.5", "inpainting", "super-resolution", "deblurring")
            for task in (task for task in shown if task in new[name]["tasks"]):
                draw(task, pictures, ROOT.parent / "docs" / "images" / f"restored_{name}_{task.partition(',')[0]}.png")


def words(row: dict[str, Any]) -> str:
    psnr, ssim = np.array(row["psnr"]), np.array(row["ssim"])
    return f"{psnr.mean():.1f} ± {psnr.std() / len(psnr) ** 0.5:.1f} dB, {ssim.mean():.3f}"


def draw(task: str, pictures: Mapping[str, np.ndarray], path: Path) -> None:
    """A row for the truth, the readings and each method, and a column for each image."""
    import matplotlib.pyplot as plt

    keys = [key.partition("/")[2] for key in pictures if key.startswith(f"{task}/")]
    keys = ["truth", "measured", *(key for key in keys if key not in ("truth", "measured"))]
    labels = {"model": "our mean" if "draw" in keys else "ours", "draw": "one draw"}
    width = COLUMNS * 0.95 + 1.3
    figure, axes = plt.subplots(len(keys), COLUMNS, figsize=(width, len(keys) * 0.95), squeeze=False)
    for row, key in zip(axes, keys, strict=True):
        for axis, image in zip(row, pictures[f"{task}/{key}"], strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(labels.get(key, key), rotation=0, ha="right", va="center", fontsize=9)
    figure.subplots_adjust(left=1.3 / width, right=0.995, top=0.995, bottom=0.005, wspace=0.05, hspace=0.05)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("measure")
    one.add_argument("name")
    one.add_argument("run", type=Path)
    one.add_argument("train")
    one.add_argument("test")
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--tasks", nargs="+", help="these alone; the others as they were measured before")
    verbs.add_parser("table").add_argument("out", type=Path)
    args = parser.parse_args()
    if args.verb == "measure":
        measure(args.name, args.run, args.train, args.test, args.out, args.tasks)
    else:
        table(args.out)


if __name__ == "__main__":
    main()
