"""Training compared with diffusers: images per second of both, in turns in one process, on three equal U-Nets.

    python benchmarks/training.py [--networks small ...] [--threads 1 2] [--rounds 8] [--curves 400] [--save]

Their step is `UNet2DModel`, `DDPMScheduler.add_noise`, the mean squared error of the noise, clipping,
`torch.optim.AdamW`, `EMAModel`. Ours is `Engine.step` under DDPM's process and loss, with everything that a run does in
a step. Both have the same batch and the same data in memory. Rounds alternate, and ratios compare neighbouring
rounds, so that other load on the machine affects both. `--curves N` trains both for N steps on digits, with three seeds
each, and compares their last losses. `--memory` measures the peak resident memory of each in a process of its own.
"""

import argparse
import datetime
import gc
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sfumato import recipes
from sfumato.data import DataOptions, Dataset, load
from sfumato.model import Model
from sfumato.runs.folder import RunFolder
from sfumato.training import Compute, Engine, Options, Trainer, autotune

RESULTS = Path(__file__).parent / "results" / "training.json"
CPU = torch.device("cpu")
# shape, width, multipliers, sides with attention, batch, the ratio to reach
NETWORKS = {
    "digits": ((1, 8, 8), 32, [1, 2], [4], 64, 1.5),
    "small": ((3, 32, 32), 64, [1, 2, 2], [16], 32, 1.9),
    "cifar": ((3, 32, 32), 128, [1, 2, 2, 2], [16], 16, 2.0),
}
WARM = "warm"  # runs before memory is measured
NETWORKS_AND_WARM = {**NETWORKS, WARM: ((1, 8, 8), 8, [1, 2], [4], 2, 0.0)}


def data(shape: tuple[int, ...], folder: Path) -> Dataset:
    """Digits for their shape, else smooth random images of 8 bits: their content does not change the speed."""
    if shape == (1, 8, 8):
        return load("digits", DataOptions())
    import numpy as np

    path = folder / "pictures.npy"
    coarse = torch.rand(256, shape[0], 8, 8, generator=torch.Generator().manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, shape[1:], mode="bicubic").clamp(0, 1)
    np.save(path, (255 * fine).byte().numpy())
    return load(str(path), DataOptions(layout="image"))


def ours(
    name: str,
    dataset: Dataset,
    run: Path,
    seed: int,
    compute: Compute,
    *,
    rate: float = 2e-4,
    batch: int | None = None,
    device: torch.device = CPU,
) -> Engine:
    """Our engine, ready to step."""
    _, width, multipliers, attention, usual, _ = NETWORKS_AND_WARM[name]
    recipe = recipes.read(
        "ddpm",
        [
            "target=noise",
            *("network.kind=unet", f"network.width={width}", f"network.multipliers={multipliers}"),
            f"network.attention={attention}",
            *(
                f"training.batch={batch or usual}",
                f"training.learning_rate={rate}",
                "training.warmup=0",
                f"training.seed={seed}",
            ),
        ],
    )
    torch.manual_seed(seed)
    options = Options(compute=compute)
    engine = Trainer(Model.fresh(recipe, dataset.spec), dataset.samples(device), RunFolder(run), options).engine
    autotune.prepare(engine)
    return engine


class Theirs:
    """Training with diffusers, as in its own example, on data in memory."""

    def __init__(
        self, name: str, values: Tensor, seed: int, rate: float = 2e-4, batch: int | None = None, autocast: bool = False
    ) -> None:
        from diffusers import DDPMScheduler, UNet2DModel
        from diffusers.training_utils import EMAModel

        shape, width, multipliers, attention, usual, _ = NETWORKS_AND_WARM[name]
        self.batch = batch or usual
        self.autocast = autocast
        attends = [shape[-1] >> i in attention for i in range(len(multipliers))]
        torch.manual_seed(seed)
        self.network = UNet2DModel(
            sample_size=shape[-1],
            in_channels=shape[0],
            out_channels=shape[0],
            layers_per_block=2,
            block_out_channels=tuple(width * m for m in multipliers),
            down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
            up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
            attention_head_dim=None,
            norm_num_groups=min(32, width // 2),
        ).to(values.device)
        self.scheduler = DDPMScheduler(num_train_timesteps=1000)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
        self.ema = EMAModel(self.network.parameters(), decay=0.9999, use_ema_warmup=True)
        self.values = values

    def step(self) -> float:
        import torch.nn.functional as F

        device = self.values.device
        clean = self.values[torch.randint(len(self.values), (self.batch,), device=device)]
        noise = torch.randn_like(clean)
        steps = torch.randint(0, 1000, (self.batch,), device=device)
        noisy = self.scheduler.add_noise(clean, noise, steps)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.autocast):
            answer = self.network(noisy, steps).sample
        loss = F.mse_loss(answer.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(self.network.parameters())
        return float(loss.detach())


def seconds(step: Callable[[], object], repeats: int) -> float:
    """Median seconds of a step."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def flops(network: torch.nn.Module, shape: tuple[int, ...]) -> int:
    """FLOPs of a forward pass of one image, as torch counts products."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, *shape), torch.ones(1))
    return int(counter.get_total_flops())


def speed(name: str, threads: int, rounds: int, precision: str) -> dict[str, object]:
    shape, _, _, _, batch, bar = NETWORKS[name]
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        dataset = data(shape, Path(folder))
        mine = ours(name, dataset, Path(folder), 0, Compute(precision=precision, threads=threads))
        peer = Theirs(name, dataset.spec.encode(dataset.values), 0)
        counted = {"sfumato": flops(mine.model.denoiser.network, shape), "diffusers": flops(peer.network, shape)}
        for _ in range(2):
            mine.step()
            peer.step()
        repeats = 5 if name == "digits" else 1
        pairs = [(seconds(mine.step, repeats), seconds(peer.step, repeats)) for _ in range(rounds)]
    ratios = sorted(theirs / own for own, theirs in pairs)
    medians = [statistics.median(pair[i] for pair in pairs) for i in (0, 1)]
    row = {
        "network": name,
        "threads": threads,
        "precision": autotune.prepare(mine).precision,
        "batch": batch,
        "parameters": [sum(p.numel() for p in n.parameters()) for n in (mine.model.denoiser.network, peer.network)],
        "forward_gflop_per_image": {k: v / 1e9 for k, v in counted.items()},
        "images_per_second": {"sfumato": batch / medians[0], "diffusers": batch / medians[1]},
        "gflops": {"sfumato": 3e-9 * counted["sfumato"] * batch / medians[0]},
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "bar": bar,
    }
    print(
        f"{name:8}{threads} threads  ours {batch / medians[0]:8.1f}  theirs {batch / medians[1]:8.1f} images/s  "
        f"ratio {row['ratio']:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}; bar {bar})  "
        f"{3e-9 * counted['sfumato'] * batch / medians[0]:.0f} GFLOP/s",
        flush=True,
    )
    return row


def curves(steps: int, precision: str) -> dict[str, object]:
    """Mean loss of the last quarter of `steps` on digits, three seeds each."""
    found: dict[str, list[float]] = {"sfumato": [], "diffusers": []}
    for seed in range(3):
        with tempfile.TemporaryDirectory() as folder:
            compute = Compute(precision=precision, threads=1)
            mine = ours("digits", data((1, 8, 8), Path(folder)), Path(folder), seed, compute, rate=1e-3)
            peer = Theirs("digits", dataset.spec.encode(dataset.values), seed, 1e-3)
            found["sfumato"].append(statistics.fmean([mine.step()[0] for _ in range(steps)][-steps // 4 :]))
            found["diffusers"].append(statistics.fmean([peer.step() for _ in range(steps)][-steps // 4 :]))
    for label, last in found.items():
        print(f"loss of the last quarter of {steps} steps, {label}: {', '.join(f'{v:.4f}' for v in last)}", flush=True)
    return {"steps": steps, "last_quarter": found}


def memory(name: str, whose: str, precision: str) -> float:
    """Peak memory of three steps in MiB, from before the network is made.

    A tiny network is trained first, so that what is loaded and compiled once is not counted.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:

        def run(name: str, dataset: Dataset) -> None:
            values = dataset.spec.encode(dataset.values)
            compute = Compute(precision=precision, threads=1)
            made = ours(name, dataset, Path(folder), 0, compute) if whose == "sfumato" else Theirs(name, values, 0)
            for _ in range(3):
                made.step()

        run(WARM, data((1, 8, 8), Path(folder)))
        dataset = data(NETWORKS[name][0], Path(folder))
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = status("VmHWM")
        run(name, dataset)
        return status("VmHWM") - before


def status(key: str) -> float:
    """A line of Linux's status of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--curves", type=int, default=0, metavar="STEPS")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    if args.peak:
        print(memory(*args.peak, args.precision))
        return
    pairs = [(name, threads) for name in args.networks for threads in args.threads]
    results: dict[str, object] = {"speed": [speed(*pair, args.rounds, args.precision) for pair in pairs]}
    if args.memory:
        peaks = {n: {w: peak(n, w, args.precision) for w in ("sfumato", "diffusers")} for n in args.networks}
        results["peak_mib"] = peaks
        for name, found in peaks.items():
            mine, theirs = found["sfumato"], found["diffusers"]
            print(f"{name:8}peak memory {mine:.0f} against {theirs:.0f} MiB, ratio {mine / theirs:.2f}", flush=True)
    if args.curves:
        results["curves"] = curves(args.curves, args.precision)
    if args.save:
        versions = {name: importlib.metadata.version(name) for name in ("sfumato", "torch", "diffusers")}
        about = {"date": str(datetime.date.today()), "machine": platform.machine(), "python": sys.version.split()[0]}
        RESULTS.write_text(json.dumps({**about, "versions": versions, **results}, indent=1) + "\n")


def peak(name: str, whose: str, precision: str) -> float:
    command = [sys.executable, __file__, "--peak", name, whose, "--precision", precision]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


if __name__ == "__main__":
    main()
