"""How good a model is after minutes of CPU time on one thread: ours without a setting, and two peers with their own.

    export OMP_NUM_THREADS=1 ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2      # a usual processor, without bfloat16
    python benchmarks/time_to_quality.py train mnist sfumato --seconds 40 120 300 600 --folder OUT
    python benchmarks/time_to_quality.py train mnist lucidrains --seconds 40 120 300 600 --folder OUT
    python benchmarks/time_to_quality.py judge mnist --folder OUT          # for every set; or for one library
    python benchmarks/time_to_quality.py figure                            # of the results

A peer trains once, and its averaged weights are kept whenever the process has used so many seconds of CPU in training;
nothing else that its program does is counted. Ours is a run for each budget, `sfumato.train(data, budget=T)`, whose
clock is the CPU time of the process, so that choosing the network, measuring and saving count.

All are judged by `quality_sets.Judge`. Samples are drawn by each library's own sampler: DDIM with 25 evaluations for
peers, the default with 20 for ours. `--data` is the folder with mnist/, cifar10/ and spectra/.
`pip install --no-deps --target PEERS denoising-diffusion-pytorch ema-pytorch einops accelerate`, and PYTHONPATH=PEERS.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality_peers import PEERS, Marks
from quality_sets import Judge, Set, denoising_error, sets
from torch import Tensor

RESULTS = Path(__file__).parent / "results" / "time_to_quality.json"
FIGURE = Path(__file__).parents[1] / "docs" / "images" / "time_to_quality.png"
EVALUATIONS = 25  # of a peer's sampler


# ----------------------------------------------------------------------------------------------------------- training


def train_ours(data: Set, folder: Path, seconds: float, settings: dict[str, object]) -> dict[str, float]:
    """One run with this budget of CPU time. Returns the seconds of CPU that it took, and its images."""
    for name in ("monotonic", "perf_counter"):
        setattr(time, name, time.process_time)
    import sfumato

    source = folder / "data.npy"
    np.save(source, data.values)
    started = time.process_time()
    sfumato.train(source, budget=seconds, out=folder / f"{seconds:g}", settings=settings)
    return {"cpu_seconds": time.process_time() - started}


def train(arguments: argparse.Namespace, data: Set) -> None:
    folder = arguments.folder / f"{data.name}-{arguments.by}"
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    facts = {"threads": 1, **{name: os.environ.get(name, "") for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")}}
    if arguments.by == "sfumato":
        for seconds in arguments.seconds:
            facts |= train_ours(data, folder, seconds, dict(text.split("=", 1) for text in arguments.set))
            (folder / f"{seconds:g}.json").write_text(json.dumps(facts))
        return
    marks = Marks(folder, arguments.seconds)
    PEERS[arguments.by](data).train(marks)
    for mark, step in marks.steps.items():
        (folder / f"{mark}.json").write_text(json.dumps({**facts, "steps": step, "cpu_seconds": float(mark)}))


# ------------------------------------------------------------------------------------------------------------ judging


def ours(data: Set, run: Path, count: int) -> tuple[Tensor, Callable[[Tensor, float], Tensor], int]:
    """(Samples in [-1, 1], the estimate of x_0, the number of parameters) of a run."""
    import sfumato

    model = sfumato.load(run)
    low, high = data.low_high
    per_unit = 2 / (high - low) * (model.spec.unit_scale or 1.0)  # of the judge, in a unit of the model
    process = model.denoiser.process
    times = torch.arange(1, 1001, dtype=torch.float64) / 1000
    levels = process.grid(times)
    logsnr = 2 * (levels.alpha.log() - levels.sigma.log())

    @torch.no_grad()
    def x_0(noisy: Tensor, level: float) -> Tensor:
        k = int((logsnr - (level + 2 * np.log(per_unit))).abs().argmin())
        values = (noisy.double() + 1) / 2 * (high - low) + low
        x_t = model.spec.encode(values.reshape(-1, *model.spec.shape)).float() * levels.alpha[k].float()
        found = torch.cat([model.denoiser(x, times[k].float()).x_0 for x in x_t.split(64)])
        return data.scaled(model.spec.decode_unclipped(found)).view_as(noisy)

    samples = data.scaled(model.sample(count, seed=1, batch=64)).view(count, *data.held_out.shape[1:])
    return samples, x_0, model.num_parameters


def judge(arguments: argparse.Namespace, data: Set) -> None:
    judge_, rows = Judge(data), {}
    torch.set_grad_enabled(False)
    rows["real"] = [judge_.measure(data.held_out[: arguments.samples])]
    for folder in sorted(arguments.folder.glob(f"{data.name}-{arguments.by or '*'}")):
        by = folder.name.split("-")[1]
        found = []
        for file in (folder / f"{seconds:g}.json" for seconds in arguments.seconds):
            if not file.exists():
                continue
            torch.manual_seed(1)
            if by in PEERS:
                peer = PEERS[by](data)
                peer.load(file.with_suffix(".safetensors"))
                with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bfloat16):
                    samples, x_0 = peer.sample(arguments.samples, EVALUATIONS).float(), peer.x_0
                parameters = sum(p.numel() for p in peer.module.parameters())
            else:
                samples, x_0, parameters = ours(data, file.with_suffix(""), arguments.samples)
            row = {"seconds": float(file.stem), "parameters": parameters, **json.loads(file.read_text())}
            row |= {**judge_.measure(samples), "denoising": denoising_error(data.held_out, x_0)}
            np.save(file.with_suffix(".npy"), samples.numpy())
            print(data.name, by, json.dumps(row), flush=True)
            found.append(row)
        rows[by] = found
    save(data.name, {"samples": arguments.samples, **rows})


def save(name: str, rows: dict[str, Any]) -> None:
    """Add the rows of a set to the results; a row replaces one of as many seconds."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"sets": {}}
    packages = ("sfumato", "torch", "diffusers", "denoising-diffusion-pytorch")
    versions = {package: importlib.metadata.version(package) for package in packages}
    about = {
        "date": datetime.date.today().isoformat(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": versions,
        "evaluations": {"peers": EVALUATIONS, "sfumato": 20},
    }
    before = known["sets"].get(name, {})
    for by in {*rows} & {"sfumato", *PEERS}:
        found = {row["seconds"]: row for row in [*before.get(by, []), *rows[by]]}
        rows[by] = [found[seconds] for seconds in sorted(found)]
    merged = {**before, **rows}
    RESULTS.write_text(json.dumps({**known, **about, "sets": {**known["sets"], name: merged}}, indent=1) + "\n")


def figure() -> None:
    """Draw the distances against the seconds of training, of the sets that a peer was judged on."""
    from sfumato.report.style import BLUE, GRAY, INK_ON_WHITE, ORANGE, new_figure, plain_log, styled

    results = {name: rows for name, rows in json.loads(RESULTS.read_text())["sets"].items() if {*PEERS} & {*rows}}
    colours = {"sfumato": BLUE, "lucidrains": ORANGE, "diffusers": "#7c3aed"}
    with styled(INK_ON_WHITE):
        drawn = new_figure(320 * len(results), 290)
        for axes, (name, rows) in zip(drawn.subplots(1, len(results), squeeze=False)[0], results.items(), strict=True):
            for by, colour in colours.items():
                points = [(row["seconds"], row["frechet"]) for row in rows.get(by, [])]
                if points:
                    axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=6, label=by)
            axes.axhline(rows["real"][0]["frechet"], color=GRAY, linestyle=(0, (4, 2)), label="real held-out data")
            axes.set(title=name, xlabel="CPU seconds", xscale="log", yscale="log", xlim=(34, 720))
            plain_log(axes)
            axes.set_xticks([40, 120, 300, 600], labels=["40", "120", "300", "600"], minor=False)
            axes.set_xticks([], minor=True)
        drawn.axes[0].set_ylabel("Frechet distance")
        drawn.axes[0].legend(loc="center right")
        drawn.savefig(FIGURE, dpi=144, facecolor="white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["train", "judge", "figure"])
    parser.add_argument("set_name", metavar="SET", nargs="?", default="mnist")
    parser.add_argument("by", nargs="?", choices=["sfumato", *PEERS])
    parser.add_argument("--seconds", type=float, nargs="+", default=[40.0, 120.0, 300.0, 600.0])
    parser.add_argument("--folder", type=Path, default=Path("runs/time_to_quality"))
    parser.add_argument("--data", type=Path, default=Path("shared/data"))
    parser.add_argument("--samples", type=int, default=256, help="samples to judge, a multiple of 32")
    parser.add_argument("--bfloat16", action="store_true", help="draw the peers' samples in bfloat16, which is faster")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of ours, for an ablation")
    arguments = parser.parse_args()
    if arguments.do == "figure":
        return figure()
    data = sets(arguments.data)[arguments.set_name]()
    return {"train": train, "judge": judge}[arguments.do](arguments, data)


if __name__ == "__main__":
    main()
