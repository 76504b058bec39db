"""The peers of ``time_to_quality.py``, each with its own network and the defaults of its own training.

diffusers     `examples/unconditional_image_generation/train_unconditional.py`: its UNet2DModel, DDPM with 1,000 linear
              steps, the noise as target, AdamW 1e-4 with weight decay 1e-6, a cosine schedule with 500 steps of warm-up
              (over the script's 100 epochs), batch 16, clipping at 1, EMAModel with power 3/4 and at most 0.9999.
lucidrains    denoising-diffusion-pytorch: Unet(64), GaussianDiffusion and Trainer (Unet1D and Trainer1D for spectra)
              with every default except flips, which would mirror digits. torchvision is replaced by a stub, and the
              folder of images by the array: neither is part of a step.

Their networks need sides that 32 (diffusers) or 8 (lucidrains) divides. Samples are padded with their last values, and
what is measured is cropped.
"""

import contextlib
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from quality_sets import Set
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

Snapshot = Callable[[int, nn.Module], None]
"""Called after every step with its number and the averaged model; raises ``Done`` at the end."""


class Done(Exception):
    """The last mark is reached."""


class Marks:
    """Saves the averaged weights whenever the CPU time of training passes one of ``marks``, in seconds."""

    def __init__(self, folder: Path, marks: list[float]) -> None:
        self.folder = folder
        self.left = sorted(marks)
        self.steps: dict[str, int] = {}
        self.started = time.process_time()

    def __call__(self, step: int, module: nn.Module) -> None:
        paused = time.process_time()
        while self.left and paused - self.started >= self.left[0]:
            mark = self.left.pop(0)
            save_file(
                {k: v.detach().clone().contiguous() for k, v in module.state_dict().items()},
                self.folder / f"{mark:g}.safetensors",
            )
            self.steps[f"{mark:g}"] = step
            print(f"  {mark:g} s of CPU: {step} steps", flush=True)
        self.started += time.process_time() - paused
        if not self.left:
            raise Done


def padded(x: Tensor, factor: int) -> Tensor:
    """``x`` with its last values repeated until ``factor`` divides its sides."""
    extra = [-side % factor for side in x.shape[2:]]
    return F.pad(x, [n for e in reversed(extra) for n in (0, e)], mode="replicate")


def cropped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The first values along each axis."""
    for axis, side in enumerate(shape[1:], start=2):
        x = x.narrow(axis, 0, side)
    return x


class Peer:
    """One library on one set."""

    def __init__(self, data: Set) -> None:
        self.data = data
        self.module: Any = None

    def train(self, marks: Marks) -> None:
        raise NotImplementedError

    def load(self, path: Path) -> None:
        """Take the weights that ``Marks`` saved."""
        self.module.load_state_dict(load_file(path))
        self.module.eval().requires_grad_(False)

    def x_0(self, noisy: Tensor, level: float) -> Tensor:
        """The estimate of x_0, for ``denoising_error``."""
        raise NotImplementedError

    def sample(self, count: int, evaluations: int) -> Tensor:
        """Samples in [-1, 1]."""
        raise NotImplementedError


class Diffusers(Peer):
    """diffusers' script."""

    def __init__(self, data: Set) -> None:
        from diffusers import DDPMScheduler, UNet2DModel

        super().__init__(data)
        channels = data.training.shape[1]
        self.images = padded(data.training, 32)
        self.module = UNet2DModel(
            sample_size=self.images.shape[-1],
            in_channels=channels,
            out_channels=channels,
            layers_per_block=2,
            block_out_channels=(128, 128, 256, 256, 512, 512),
            down_block_types=(*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4),
        )
        self.scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")

    def train(self, marks: Marks) -> None:
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel

        images, network = self.images, self.module
        optimizer = torch.optim.AdamW(network.parameters(), 1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
        steps = 100 * -(-len(images) // 16)
        rates = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=steps)
        ema = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
        averaged = Diffusers(self.data).module
        step = 0
        with contextlib.suppress(Done):
            while True:
                for rows in torch.randperm(len(images)).split(16):
                    clean = images[rows]
                    noise, t = torch.randn_like(clean), torch.randint(1000, (len(clean),))
                    loss = F.mse_loss(network(self.scheduler.add_noise(clean, noise, t), t).sample, noise)
                    loss.backward()
                    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                    optimizer.step()
                    rates.step()
                    optimizer.zero_grad()
                    ema.step(network.parameters())
                    step += 1
                    if time.process_time() - marks.started >= marks.left[0]:
                        ema.copy_to(averaged.parameters())
                    marks(step, averaged)

    def x_0(self, noisy: Tensor, level: float) -> Tensor:
        kept = self.scheduler.alphas_cumprod
        t = int(((kept / (1 - kept)).log() - level).abs().argmin())
        alpha, sigma = kept[t].sqrt(), (1 - kept[t]).sqrt()
        x = padded(noisy, 32) * alpha
        noise = torch.cat([self.module(part, torch.full((len(part),), t)).sample for part in x.split(32)])
        return cropped((x - sigma * noise) / alpha, tuple(noisy.shape[1:]))

    def sample(self, count: int, evaluations: int) -> Tensor:
        from diffusers import DDIMScheduler

        scheduler = DDIMScheduler.from_config(self.scheduler.config)
        scheduler.set_timesteps(evaluations)
        parts = []
        for size in [32] * (count // 32):
            x = torch.randn(size, self.module.config.in_channels, *[self.module.config.sample_size] * 2)
            for t in scheduler.timesteps:
                x = scheduler.step(self.module(x, t).sample.float(), t, x).prev_sample
            parts.append(cropped(x, tuple(self.data.training.shape[1:])))
        return torch.cat(parts)


def _stub_torchvision() -> None:
    """Modules that lucidrains' files import and its steps do not use."""
    if "torchvision" not in sys.modules:
        vision = types.ModuleType("torchvision")
        vision.transforms, vision.utils = (types.ModuleType(f"torchvision.{name}") for name in ("transforms", "utils"))
        sys.modules |= {
            "torchvision": vision,
            "torchvision.transforms": vision.transforms,
            "torchvision.utils": vision.utils,
        }


class _Array(torch.utils.data.Dataset[Tensor]):
    """An array as their trainers read it, in [0, 1]."""

    def __init__(self, images: Tensor) -> None:
        self.images = (images + 1) / 2

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


class Lucidrains(Peer):
    """denoising-diffusion-pytorch."""

    def __init__(self, data: Set) -> None:
        _stub_torchvision()
        import denoising_diffusion_pytorch as theirs

        super().__init__(data)
        self.signals = data.training.ndim == 2
        self.images = padded(data.training[:, None] if self.signals else data.training, 8)
        if self.signals:
            network = theirs.Unet1D(dim=64, channels=1)
            self.module = theirs.GaussianDiffusion1D(network, seq_length=self.images.shape[-1])
        else:
            network = theirs.Unet(dim=64, channels=self.images.shape[1])
            self.module = theirs.GaussianDiffusion(network, image_size=self.images.shape[-1])

    def train(self, marks: Marks) -> None:
        import denoising_diffusion_pytorch as theirs
        from denoising_diffusion_pytorch import (
            denoising_diffusion_pytorch as images_of,
        )
        from denoising_diffusion_pytorch import (
            denoising_diffusion_pytorch_1d as signals_of,
        )

        array = _Array(self.images)
        for module in (images_of, signals_of):
            module.cpu_count = lambda: 0  # load in this process, on this one thread
            module.tqdm = lambda *args, **kwargs: contextlib.nullcontext(
                types.SimpleNamespace(set_description=lambda text: None, update=lambda n: None)
            )
        folder = tempfile.mkdtemp()
        if self.signals:
            trainer = theirs.Trainer1D(self.module, array, results_folder=folder, save_and_sample_every=10**9)
        else:
            images_of.Dataset = lambda *args, **kwargs: array
            trainer = theirs.Trainer(
                self.module, ".", results_folder=folder, save_and_sample_every=10**9, calculate_fid=False
            )
        update = trainer.ema.update

        def hooked() -> None:
            update()
            marks(trainer.step, trainer.ema.ema_model)

        trainer.ema.update = hooked
        marks.started = time.process_time()
        with contextlib.suppress(Done):
            trainer.train()

    def x_0(self, noisy: Tensor, level: float) -> Tensor:
        kept = self.module.alphas_cumprod
        t = int(((kept / (1 - kept)).log() - level).abs().argmin())
        x = padded(noisy[:, None] if self.signals else noisy, 8) * kept[t].sqrt()
        found = torch.cat(
            [self.module.model_predictions(part, torch.full((len(part),), t)).pred_x_start for part in x.split(32)]
        )
        return self._out(found)

    def _out(self, x: Tensor) -> Tensor:
        shape = tuple(self.data.training.shape[1:])
        return cropped(x, (1, *shape))[:, 0] if self.signals else cropped(x, shape)

    def sample(self, count: int, evaluations: int) -> Tensor:
        self.module.sampling_timesteps, self.module.is_ddim_sampling = evaluations, True
        for module in sys.modules.values():
            if getattr(module, "__name__", "").startswith("denoising_diffusion_pytorch.denoising") and hasattr(
                module, "tqdm"
            ):
                module.tqdm = lambda it, **kwargs: it
        size = 32
        parts = [self.module.sample(batch_size=size) for _ in range(count // size)]
        return self._out(torch.cat(parts).float() * 2 - 1)


PEERS: dict[str, type[Peer]] = {"diffusers": Diffusers, "lucidrains": Lucidrains}
