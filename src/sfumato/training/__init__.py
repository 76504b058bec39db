"""Training: steps, averages of the weights, checkpoints, the record.

Every random number of a run (order of the data, times, noise, dropout) is a function of (seed, images seen, index in
the batch). So the weights, their averages, the optimiser and one integer are the whole state of a run.
"""

from sfumato.world import World as World
from sfumato.world import joined as joined

from .engine import Engine as Engine
from .execution import Compute as Compute
from .keep import Keep as Keep
from .nonfinite import NonFiniteError as NonFiniteError
from .options import Options as Options
from .session import TrainingProgress as TrainingProgress
from .trainer import Trainer as Trainer
