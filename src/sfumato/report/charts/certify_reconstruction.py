"""The figure of ``sfumato certify --operator``: what bands cover, and the ranks of true values among draws."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from ..style import BLUE, GRAY, INK_ON_WHITE, ORANGE, PALE, Figure, new_figure, styled, to_pixels, to_svg

_OTHERS = (GRAY, "#2e9e6b", "#a35fc4", "#c2527e")
_WIDTH, _HEIGHT = 900, 380


def certificate_of_reconstruction(record: Mapping[str, Any]) -> Image.Image:
    """Draw covered against promised, one line per method on the twin and one for the network; beside it, ranks.

    Arguments:
        record: the content of certify-reconstruction.json.
    """
    with styled(INK_ON_WHITE):
        figure = new_figure(_WIDTH, _HEIGHT)
        figure.suptitle(f"{record['target']}: {record['operator']}, noise {record['noise']:g}", x=0.01, ha="left")
        _draw(figure, record)
        return to_pixels(figure)


def calibration_chart(record: Mapping[str, Any]) -> str:
    """The same as an SVG."""
    with styled():
        figure = new_figure(_WIDTH, _HEIGHT - 30)
        _draw(figure, record)
        return to_svg(figure, "calibration", "Covered against promised shares, and ranks of true values among draws.")


def _draw(figure: Figure, record: Mapping[str, Any]) -> None:
    levels, held = np.array(record["levels"]), record["held_out"]
    covers, ranks = figure.subplots(1, 2)
    covers.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8, linestyle=":")
    chosen = held["scores"]["method"]
    others = iter(_OTHERS)
    for row in record["twin"]:
        colour = BLUE if row["method"] == chosen else next(others)
        covers.plot(levels, row["coverage"], "o-", color=colour, label=f"{row['method']}, twin")
    covers.plot(levels, held["scores"]["coverage"], "s--", color=ORANGE, label=f"{chosen}, held-out data")
    covers.set_xlim(0.4, 1)
    covers.set_ylim(min(0.4, *(min(row["coverage"]) for row in [*record["twin"], held["scores"]])) - 0.02, 1.02)
    covers.set_xlabel("band")
    covers.set_ylabel("true values within it")
    covers.legend(loc="lower right", fontsize=9.5)
    shares = np.array(held["ranks"]) * len(held["ranks"])
    ranks.bar(np.arange(len(shares)) / len(shares), shares, 1 / len(shares), align="edge", color=ORANGE, alpha=PALE)
    ranks.axhline(1, color=GRAY, linewidth=0.8, linestyle=":")
    ranks.set_xlabel("rank of the true value among the draws")
    ranks.set_title("held-out data; flat is calibrated, a bowl too narrow", fontsize=10.5)
