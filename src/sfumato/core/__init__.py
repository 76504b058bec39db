"""The algebra of diffusion processes: torch only.

A noisy sample is ``x_t = alpha x_0 + sigma eps``. How much signal is left is one number, the log-SNR
``log(alpha^2 / sigma^2)``; a *schedule* says when each value of it is reached, a *scaling* in what units x_t is
written, and the two make a *process*.
"""

from .chains import Chain as Chain
from .chains import Tabulated as Tabulated
from .chains import betas_at as betas_at
from .chains import cosine_betas as cosine_betas
from .chains import geometric_betas as geometric_betas
from .chains import geometric_ratio as geometric_ratio
from .chains import linear_betas as linear_betas
from .chains import quadratic_betas as quadratic_betas
from .chains import sigmoid_betas as sigmoid_betas
from .gaussians import Gaussian as Gaussian
from .learned import LearnedBetas as LearnedBetas
from .learned import LearnedLogSNR as LearnedLogSNR
from .levels import Level as Level
from .noise import NoiseSource as NoiseSource
from .noise import PairedNoise as PairedNoise
from .noise import SeededNoise as SeededNoise
from .process import PriorCheck as PriorCheck
from .process import Process as Process
from .scalings import VE as VE
from .scalings import VP as VP
from .scalings import Scaling as Scaling
from .scalings import Straight as Straight
from .scalings import SubVP as SubVP
from .schedules import Cosine as Cosine
from .schedules import Cut as Cut
from .schedules import LinearBeta as LinearBeta
from .schedules import LinearLogSNR as LinearLogSNR
from .schedules import Logistic as Logistic
from .schedules import Schedule as Schedule
from .schedules import SubVPBeta as SubVPBeta
from .schedules import geometric as geometric
from .targets import EDM as EDM
from .targets import X0 as X0
from .targets import Noise as Noise
from .targets import Prediction as Prediction
from .targets import Score as Score
from .targets import Target as Target
from .targets import V as V
from .targets import Velocity as Velocity
from .values import ValueGrid as ValueGrid
