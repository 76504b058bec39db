"""Reconstruction from measurements: operators, noise, and posteriors under the prior of a denoiser."""

from .annealing import Posterior as Posterior
from .annealing import anneal as anneal
from .calibration import Calibration as Calibration
from .design import Design as Design
from .design import choose as choose
from .design import gain as gain
from .measurement import Measurement as Measurement
from .noise import UNKNOWN as UNKNOWN
from .noise import Decibels as Decibels
from .noise import Photons as Photons
from .noise import likeliest as likeliest
from .noise import read_noise as read_noise
from .operators import Blur as Blur
from .operators import Downsampling as Downsampling
from .operators import Function as Function
from .operators import Mask as Mask
from .operators import Matrix as Matrix
from .operators import Operator as Operator
from .operators import decompose as decompose
from .operators import dense as dense
from .operators import operator_for as operator_for
from .posteriors import DPS as DPS
from .posteriors import MMPS as MMPS
from .posteriors import PiGDM as PiGDM
from .twin import Twin as Twin
