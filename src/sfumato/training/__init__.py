"""Training: state, step, loop, EMA, guards, checkpoints, the record.

Every random draw of a run (data order, time, noise, dropout) is a function of (seed, images seen, index in the batch).
So weights, their average, the optimiser and one integer are the whole state of a run.
"""

from .guards import NonFiniteError as NonFiniteError
from .loop import Progress as Progress
from .loop import Trainer as Trainer
