"""A denoiser that evaluates a network."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from sfumato.core import Level, Prediction, Process, Target
from sfumato.core.levels import expand
from sfumato.errors import InputError

from .base import Denoiser
from .condition import NOT_GIVEN, Condition
from .mixture import MixtureDenoiser

LABELS: Mapping[str, Callable[[Tensor, Level], Tensor]] = MappingProxyType(
    {
        # k - 1 on the 1000-step chain that DDPM's released networks were trained with; the same function of t for
        # other clocks and between levels.
        "index": lambda t, level: 1000 * t - 1,
        # From -1000 to 1000, a range that sinusoids for an index resolve; the bounds keep the label finite where a
        # clock reaches pure noise or data.
        "logsnr": lambda t, level: 25 * level.logsnr.clamp(-40, 40),
        # EDM's c_noise = ln(sigma / alpha) / 4, for Fourier features; bounded in the same way.
        "log-ratio": lambda t, level: level.logsnr.clamp(-40, 40) / -8,
    }
)
"""The labels of a noise level that a network can get: ``(t, level) -> label``, float64, of t's shape."""


class NetworkDenoiser(Denoiser):
    """A network and its target, as a denoiser.

    The network gets ``c_in x_t`` with ``c_in = 1 / sqrt(alpha^2 sigma_data^2 + sigma^2)``, which has unit variance for
    data of standard deviation ``sigma_data`` (Karras et al. 2022, table 1; exactly 1 in VP with sigma_data = 1), and a
    label of the noise level. Its output is solved for x_0 and eps.

    With a ``base``, a mixture fitted to the data, the network also gets the base's estimate of x_0, as channels after
    c_in x_t: the arrangement of the whole, which a network learns last.

    Times and levels are float64, states are float32 or float64, and the network has its own type: they are converted
    here. This is also the only place that shifts the index of a level to what a network was trained with. A learned
    schedule is part of the module.

    Arguments:
        network: called with ``(c_in x_t, label)``, or with the numbers of the condition after them.
        process: the process.
        target: what the output of the network means.
        label: a name in ``LABELS``.
        sigma_data: the standard deviation of the data.
        learned_variance: the network has twice the outputs along its first axis: the target's, and the logits of
            ``Prediction.variance_share`` (Nichol & Dhariwal 2021, section 3.1).
        classes: number of classes K, the first entries of the condition vector: ``sqrt(K)`` at the sample's class, so
            that their mean square is 1, and 0 elsewhere; all are 0 for a class that is not given.
        augmentation: number of entries after them, which describe how a training image was moved.
        base: the mixture whose estimate the network gets; its input then has twice the channels.
        quantities: number of numbers k in a sample's vector. Each is two entries after the classes: its value and 1, or
            0 and 0 where it is not given, so that a value of 0 is another thing.
        image: number of channels of the condition's image, which are the last ones that the network gets; all are 0
            where it is not given.

    Raises:
        InputError: an unknown label, or a target without a solution at t = 1 (the noise at pure noise).
    """

    def __init__(
        self,
        network: nn.Module,
        process: Process,
        target: Target,
        label: str = "index",
        sigma_data: float = 1.0,
        learned_variance: bool = False,
        classes: int = 0,
        augmentation: int = 0,
        base: MixtureDenoiser | None = None,
        quantities: int = 0,
        image: int = 0,
    ) -> None:
        super().__init__()
        if label not in LABELS:
            raise InputError(f"label: '{label}' is not known; choose one of {', '.join(LABELS)}")
        if not float(target.det(process.level(1.0)).detach().abs()) > 0:
            raise InputError(
                f"target: {type(target).__name__} does not determine x_0 at t = 1, where no signal is left; "
                "use v or velocity, or a finite logsnr_min"
            )
        self.network = network
        self.process = process
        self.target = target
        self.label = label
        self.sigma_data = sigma_data
        self.learned_variance = learned_variance
        self.classes = classes
        self.augmentation = augmentation
        self.base = base
        self.quantities = quantities
        self.image = image
        if isinstance(process.schedule, nn.Module):
            self.schedule = process.schedule  # registered, so that it is moved, saved and learned with the network

    def output(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """The output of the network (B, *) at ``x_t``, in the target's units and x_t's type."""
        y = self._all_outputs(x_t, t, cond)
        return y[:, : x_t.shape[1]] if self.learned_variance else y

    def _all_outputs(self, x_t: Tensor, t: Tensor, cond: Condition | None) -> Tensor:
        level = self.process.level(t)
        scale = torch.rsqrt((level.alpha * self.sigma_data) ** 2 + level.sigma**2)
        dtype = next((p.dtype for p in self.network.parameters()), x_t.dtype)
        label = LABELS[self.label](torch.as_tensor(t, dtype=torch.float64), level)
        if label.ndim == 0 and label.device != x_t.device:  # created there: a copy would wait for the device
            label = x_t.new_full((), float(label), dtype=torch.float32)
        label = label.to(device=x_t.device, dtype=torch.float32).expand(len(x_t))
        inputs = expand(scale, x_t) * x_t
        if self.base is not None:
            inputs = torch.cat([inputs, self.base(x_t, t, cond).x_0], dim=1)
        if self.image:
            inputs = torch.cat([inputs, self._image(cond, x_t)], dim=1)
        numbers = () if cond is None else self._numbers(cond)
        y: Tensor = self.network(inputs.to(dtype), label, *numbers)
        return y.to(x_t.dtype)

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        y, variance = self._all_outputs(x_t, t, cond), None
        if self.learned_variance:
            y, logits = y[:, : x_t.shape[1]], y[:, x_t.shape[1] :]
            variance = torch.sigmoid(logits)
        found = self.target.decode(y, x_t, self.process.level(t))
        return Prediction(found.x_0, found.eps, variance)

    def _numbers(self, cond: Condition) -> tuple[Tensor, ...]:
        """The condition vector of the network (B, classes + 2 quantities + augmentation), if it takes one.

        Raises:
            InputError: a part that the network does not take, or a class that there is not.
        """
        for name, takes in (("classes", self.classes > 0), ("vector", self.quantities > 0), ("image", self.image > 0)):
            if getattr(cond, name) is not None and not takes:
                raise InputError(f"cond: this network takes no {name}; leave it out")
        parts = []
        if self.classes:
            given = cond.classes
            if given is None:
                given = torch.full((len(cond),), NOT_GIVEN, device=next(iter(cond.tensors.values())).device)
            if (
                given.device.type == "cpu" and len(given) and int(given.max()) >= self.classes
            ):  # a GPU would be waited for
                raise InputError(f"cond: class {int(given.max())} is none of the {self.classes}, which count from 0")
            parts.append((given[:, None] == torch.arange(self.classes, device=given.device)) * self.classes**0.5)
        if self.quantities:
            parts += self._vector(cond)
        if cond.augmentation is not None:
            parts.append(cond.augmentation)
        elif self.augmentation:
            like = next(iter(cond.tensors.values()))
            parts.append(torch.zeros(len(cond), self.augmentation, device=like.device))
        return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1),) if parts else ()

    def _vector(self, cond: Condition) -> tuple[Tensor, Tensor]:
        """The numbers of the vector (B, k), and which of them are given, as 1 and 0."""
        vector, given = cond.vector, cond.vector_given
        if vector is None:
            like = next(iter(cond.tensors.values()))
            absent = torch.zeros(len(cond), self.quantities, device=like.device)
            return absent, absent
        if vector.shape[1] != self.quantities:
            raise InputError(f"cond: has a vector of {vector.shape[1]} numbers; this network takes {self.quantities}")
        known = torch.ones_like(vector) if given is None else given.to(vector)
        return vector.masked_fill(known == 0, 0.0), known

    def _image(self, cond: Condition | None, x_t: Tensor) -> Tensor:
        """The image of the condition (B, image, *), in x_t's type. Raises InputError for another shape."""
        image, given = (None, None) if cond is None else (cond.image, cond.image_given)
        shape = (len(x_t), self.image, *x_t.shape[2:])
        if image is None:
            return x_t.new_zeros(shape)
        if tuple(image.shape) != shape:
            raise InputError(f"cond: has an image of shape {tuple(image.shape)}; this network takes {shape}")
        image = image.to(x_t)
        return image if given is None else image * expand(given.to(x_t.device), image)
