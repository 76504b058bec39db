"""The CIFAR-10 network on a GPU, compared with diffusers if that is installed: training and sampling.

    python benchmarks/gpu.py [--batch 128] [--network cifar] [--rounds 5] [--compile] [--save]

Training: `Engine.launch_step` and theirs, in float32 and in bfloat16, in turns; milliseconds per step, images per
second, peak memory, and the fraction of what the GPU reaches on a bfloat16 matrix product of side 8192 (model FLOPs:
three times the forward pass). Sampling: DDIM in 50 evaluations in batches of 256, ours as a CUDA graph and without,
theirs. `--device cpu` tries the script without a GPU, on few images.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from training import NETWORKS, Theirs, data, flops, ours

from sfumato.model import Model
from sfumato.training import Compute, Engine, autotune

RESULTS = Path(__file__).parent / "results" / "gpu.json"
STEPS = 50  # of DDIM


def finish(device: torch.device) -> None:
    """Wait until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(function: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Seconds per call, over ``repeats`` calls that are waited for together."""
    finish(device)
    started = time.perf_counter()
    for _ in range(repeats):
        function()
    finish(device)
    return (time.perf_counter() - started) / repeats


def product(device: torch.device) -> float:
    """FLOP/s of a bfloat16 matrix product of side 8192 (512 on a CPU)."""
    side = 8192 if device.type == "cuda" else 512
    a, b = torch.randn(2, side, side, device=device, dtype=torch.bfloat16)
    timed(lambda: a @ b, 5, device)
    return 2 * side**3 / min(timed(lambda: a @ b, 10, device) for _ in range(5))


def peak(step: Callable[[], object], device: torch.device) -> float | None:
    """Peak memory of steps alone, in MiB."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    timed(step, 2, device)
    return torch.cuda.max_memory_allocated(device) / 2**20


def training(args: argparse.Namespace, device: torch.device, folder: Path) -> dict[str, Any]:
    shape = NETWORKS[args.network][0]
    dataset = data(shape, folder)
    repeats = 20 if device.type == "cuda" else 1
    made: dict[str, Callable[[], Callable[[], object]]] = {}

    def mine(precision: str, compiled: bool) -> Callable[[], object]:
        compute = Compute(precision=precision, compile=compiled)  # type: ignore[arg-type]
        engine: Engine = ours(args.network, dataset, folder, 0, compute, batch=args.batch, device=device)
        print(f"{precision}: {autotune.prepare(engine)}", flush=True)

        def step() -> None:
            engine.launch_step()
            if engine.steps % 25 == 0:
                engine.collect()

        return step

    def peer(autocast: bool) -> Callable[[], object]:
        values = dataset.spec.encode(dataset.values).to(device)
        return Theirs(args.network, values, 0, batch=args.batch, autocast=autocast).step

    for precision in ("float32", "bfloat16"):
        made[f"sfumato {precision}"] = lambda precision=precision: mine(precision, False)
        if args.compile:
            made[f"sfumato {precision} compiled"] = lambda precision=precision: mine(precision, True)
        if importlib.util.find_spec("diffusers"):
            made[f"diffusers {precision}"] = lambda precision=precision: peer(precision == "bfloat16")
    memory = {}
    steps = {}
    for name, make in made.items():  # alone first, for its memory
        before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
        steps[name] = make()
        timed(steps[name], 3, device)
        most = peak(steps[name], device)
        memory[name] = None if most is None else most - before / 2**20
    times = {name: [] for name in steps}
    for _ in range(args.rounds):
        for name, step in steps.items():
            times[name].append(timed(step, repeats, device))
    network = Model.fresh(*_recipe(args, dataset)).denoiser.network
    work = 3 * args.batch * flops(network, shape)
    best = product(device)
    rows = {}
    for name, found in times.items():
        seconds = statistics.median(found)
        rows[name] = {
            "ms_per_step": 1e3 * seconds,
            "images_per_second": args.batch / seconds,
            "share_of_product": work / seconds / best,
            "peak_mib": memory[name],
        }
        peak_text = "" if memory[name] is None else f"  {memory[name]:8.0f} MiB"
        print(
            f"{name:28}{1e3 * seconds:9.2f} ms  {args.batch / seconds:9.0f} images/s  "
            f"{100 * work / seconds / best:5.1f} % of a product's FLOP/s{peak_text}",
            flush=True,
        )
    return {"batch": args.batch, "product_tflops": best / 1e12, "rows": rows}


def _recipe(args: argparse.Namespace, dataset: Any) -> tuple[Any, Any]:
    from sfumato import recipes

    _, width, multipliers, attention, *_ = NETWORKS[args.network]
    settings = [f"network.width={width}", f"network.multipliers={multipliers}", f"network.attention={attention}"]
    return recipes.read("ddpm", ["network.kind=unet", *settings]), dataset.spec


def sampling(args: argparse.Namespace, device: torch.device, folder: Path) -> dict[str, Any]:
    shape = NETWORKS[args.network][0]
    count, batch = (1024, 256) if device.type == "cuda" else (4, 2)
    model = Model.fresh(*_recipe(args, data(shape, folder)))
    model.module.to(device).eval().requires_grad_(False)

    def run(**settings: Any) -> None:
        model.sample(count, sampler="ddim", steps=STEPS, batch=batch, **settings)

    samplers = {"sfumato": run, "sfumato, watched": lambda: run(watch=lambda *seen: None)}
    if importlib.util.find_spec("diffusers"):
        from diffusers import DDIMScheduler

        network = Theirs(args.network, torch.zeros(1, *shape, device=device), 0).network.eval()
        scheduler = DDIMScheduler(num_train_timesteps=1000)
        scheduler.set_timesteps(STEPS)

        @torch.no_grad()
        def theirs() -> None:
            for _ in range(count // batch):
                x = torch.randn(batch, *shape, device=device)
                for t in scheduler.timesteps:
                    x = scheduler.step(network(x, t).sample, t, x).prev_sample
                x.cpu()

        samplers["diffusers"] = theirs
    found: dict[str, list[float]] = {name: [] for name in samplers}
    for _ in range(args.rounds):
        for name, sampler in samplers.items():
            found[name].append(count / timed(sampler, 1, device))
    for name, rates in found.items():
        print(f"{name:28}{statistics.median(rates):9.1f} samples/s of {STEPS} evaluations", flush=True)
    return {"batch": batch, "samples_per_second": {name: statistics.median(rates) for name, rates in found.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="cifar")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--save", action="store_true")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU here; --device cpu tries the script without one")
    with tempfile.TemporaryDirectory() as folder:
        found = {"training": training(args, device, Path(folder)), "sampling": sampling(args, device, Path(folder))}
    if args.save:
        names = [name for name in ("sfumato", "torch", "diffusers") if importlib.util.find_spec(name)]
        versions = {name: importlib.metadata.version(name) for name in names}
        machine = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        about = {"date": str(datetime.date.today()), "device": machine, "versions": versions, "network": args.network}
        RESULTS.write_text(json.dumps({**about, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
