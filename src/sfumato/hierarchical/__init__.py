"""Markovian hierarchical VAEs, and the restrictions under which one is a diffusion model.

Latents z_1 .. z_T stand above data x = z_0. An *encoder* q(z_t | z_{t-1}) goes up, a *generator* p(z_{t-1} | z_t) comes
down from a *prior* p(z_T), and one bound trains both.
"""

from .encoders import Encoder as Encoder
from .encoders import Encoding as Encoding
from .encoders import LearnedEncoder as LearnedEncoder
from .encoders import LinearEncoder as LinearEncoder
from .gaussian_mlp import GaussianMLP as GaussianMLP
from .generators import DenoisingGenerator as DenoisingGenerator
from .generators import Generator as Generator
from .generators import LearnedGenerator as LearnedGenerator
from .mhvae import MarkovianHVAE as MarkovianHVAE
from .mhvae import Restrictions as Restrictions
from .priors import LearnedPrior as LearnedPrior
from .priors import Prior as Prior
from .priors import StandardPrior as StandardPrior
from .terms import Terms as Terms
