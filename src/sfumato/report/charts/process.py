"""Charts of a process: its scales, its log-SNR, and where its noise levels lie."""

import numpy as np
import torch

from sfumato.core import Chain, Process

from ..style import BLUE, ORANGE, THIRD, new_figure, plain_log, styled, to_svg


def process_charts(process: Process) -> list[str]:
    """Draw three figures: alpha and sigma against t, the log-SNR against t, and the density of the noise levels."""
    t = torch.linspace(0, 1, 401, dtype=torch.float64)
    level = process.level(t)
    alpha, sigma, logsnr = (part.detach().numpy() for part in (level.alpha, level.sigma, level.logsnr))
    schedule = process.schedule
    chain = schedule.steps if isinstance(schedule, Chain) else None
    times = torch.arange(1, chain + 1, dtype=torch.float64) / chain if chain else (t[1:] + t[:-1]) / 2
    visited = process.level(times).logsnr.detach().numpy()
    drawn = []
    with styled():
        figure = new_figure(*THIRD)
        axes = figure.subplots()
        axes.plot(t, alpha, color=BLUE, label="α, signal")
        axes.plot(t, sigma, color=ORANGE, label="σ, noise", linestyle=(0, (4, 2)))
        if sigma.max() > 5:
            axes.set_yscale("log")
            plain_log(axes)
        axes.set(xlabel="t", ylabel="scale")
        axes.legend()
        drawn.append(to_svg(figure, "scales", "Signal and noise scale against t."))

        figure = new_figure(*THIRD)
        axes = figure.subplots()
        finite = np.isfinite(logsnr)
        axes.plot(t[finite], logsnr[finite], color=BLUE)
        axes.set(xlabel="t  (0 data, 1 noise)", ylabel="log-SNR (nats)")
        drawn.append(to_svg(figure, "logsnr", "The log-SNR against t, falling from data to noise."))

        figure = new_figure(*THIRD)
        axes = figure.subplots()
        visited = visited[np.isfinite(visited)]
        axes.hist(visited, bins=int(np.clip(len(visited) // 8, 6, 40)), density=True, color=BLUE, alpha=0.45)
        if len(visited) <= 100:
            axes.plot(visited, np.zeros_like(visited), "|", color=ORANGE, markersize=9, clip_on=False)
        axes.set(xlabel="log-SNR  (← noise, data →)")
        axes.set_ylabel(f"density of {chain} levels" if chain else "density of times")
        drawn.append(to_svg(figure, "density", "The density of the noise levels over the log-SNR."))
    return drawn
