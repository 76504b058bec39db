"""Figures, grids, movies and the HTML page of a run: reads files of a run, never models."""

from .images import grid as grid
from .page import write_report as write_report
from .pictures import movie as movie
from .pictures import picture as picture
from .plots import plot as plot
