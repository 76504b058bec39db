"""The settings of every operation on runs, as values that know their own command line: a file per verb.

The fields are named as the flags; ``settings.command()`` is the command that would do the same. Nothing heavy is
imported here, as the command line takes its defaults from here.
"""

from .balance import BalanceSettings
from .certify import CertifySettings
from .compare import CompareSettings, recipe_label
from .demo import DemoSettings
from .denoise import DenoiseSettings
from .design import DesignSettings
from .evaluate import EvaluateSettings
from .goal import DEFAULT, Goal
from .impute import ImputeSettings
from .inpaint import InpaintSettings
from .inspect import InspectSettings
from .interpolate import InterpolateSettings
from .likelihood import LikelihoodSettings
from .next import NextSettings
from .reconstruct import ReconstructSettings
from .report import ReportSettings
from .runs import SORTS, RunsSettings
from .sample import SampleSettings
from .train import TrainSettings
from .tune import TuneSettings

__all__ = [
    "DEFAULT",
    "SORTS",
    "BalanceSettings",
    "CertifySettings",
    "CompareSettings",
    "DemoSettings",
    "DenoiseSettings",
    "DesignSettings",
    "EvaluateSettings",
    "Goal",
    "ImputeSettings",
    "InpaintSettings",
    "InspectSettings",
    "InterpolateSettings",
    "LikelihoodSettings",
    "NextSettings",
    "ReconstructSettings",
    "ReportSettings",
    "RunsSettings",
    "SampleSettings",
    "TrainSettings",
    "TuneSettings",
    "recipe_label",
]
