"""A sampler is a table of numbers: pure functions from levels to a ``Tableau``, and one loop that runs them all."""

from . import grids as grids
from .adaptive import solve as solve
from .ancestral import ancestral as ancestral
from .ancestral import posterior_spread as posterior_spread
from .ddim import ddim as ddim
from .ddim import ddim_inversion as ddim_inversion
from .euler import euler as euler
from .euler import euler_maruyama as euler_maruyama
from .euler import reverse_diffusion as reverse_diffusion
from .grids import chain as chain
from .grids import uniform as uniform
from .heun import heun as heun
from .langevin import annealed_langevin as annealed_langevin
from .langevin import best_step as best_step
from .langevin import corrected as corrected
from .langevin import langevin as langevin
from .multistep import adams as adams
from .multistep import dpm_solver_pp as dpm_solver_pp
from .multistep import unipc as unipc
from .repaint import repaint as repaint
from .singlestep import dpm_solver_singlestep as dpm_solver_singlestep
from .tableau import Tableau as Tableau
from .tableau import join as join
from .tableau import run as run
