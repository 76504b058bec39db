"""Common weights relative to the bound, as one figure. Run: ``python examples/weights.py weights.png``.

A curve is the weight on the error of the noise, times the density of the drawn log-SNRs, over that of the ELBO.
"""

import sys
from functools import partial

import matplotlib.pyplot as plt
import torch

from sfumato.core import VE, VP, Logistic, Process, Straight, Tabulated, geometric, linear_betas
from sfumato.objectives import LogNormalTimes, TimeSampler, UniformTimes, Weight, weights

DDPM = Process(VP(), Tabulated(linear_betas(1000)))
EDM = Process(VE(), geometric(0.002, 80.0))
FLOW = Process(Straight(), Logistic())

ROWS: list[tuple[str, Process, TimeSampler, Weight]] = [
    ("ELBO, g(t)²", DDPM, UniformTimes(), weights.elbo),
    ("L_simple on DDPM's chain", DDPM, UniformTimes(), weights.simple),
    ("min-SNR 5 on DDPM's chain", DDPM, UniformTimes(), weights.min_snr),
    ("P2 on DDPM's chain", DDPM, UniformTimes(), weights.p2),
    ("sigmoid, bias 2", DDPM, UniformTimes(), weights.sigmoid),
    ("EDM, log-normal levels", EDM, LogNormalTimes(EDM, -1.2, 1.2), partial(weights.edm, sigma_data=0.5)),
    ("flow, uniform t", FLOW, UniformTimes(), weights.flow),
    ("flow, logit-normal t", FLOW, LogNormalTimes(FLOW, 0.0, 1.0), weights.flow),
]


def main(path: str) -> None:
    """Draw the figure into ``path``."""
    logsnr = torch.linspace(-8, 9, 400, dtype=torch.float64)
    colours = ["#888888", "#2b6cb0", "#dd6b20", "#2e9e6b", "#a35fc4", "#c2527e", "#b7950b", "#117a8b"]
    figure, axes = plt.subplots(figsize=(7.2, 4.0), dpi=130, layout="constrained")
    for colour, (name, process, times, weight) in zip(colours, ROWS, strict=True):
        t = process.schedule.time(logsnr).clamp(0, 1)
        rate = times.rate(process, t)
        relative = 2 * weight(process.level(t), rate) / rate
        axes.plot(logsnr, relative / relative.max(), label=name, color=colour)
    axes.set(xlabel="log-SNR  (← noise, data →)", ylabel="weight relative to the ELBO, maximum 1", ylim=(0, 1.05))
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    main(sys.argv[1])
