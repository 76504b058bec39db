"""Pictures, movies, charts and the HTML page of a run: reads files of a run, never models."""

from .image_grid import grid as grid
from .page import write_report as write_report
from .pictures import class_sheet as class_sheet
from .pictures import movie as movie
from .pictures import picture as picture
