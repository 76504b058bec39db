"""The settings of ``train``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from sfumato.errors import InputError

from ..command import Settings, in_seconds
from .checks import is_there, require_source
from .goal import Goal


@dataclass(frozen=True)
class TrainSettings(Settings):
    """The settings of ``train``: a new run on ``source``, or the continuation of the run ``resume``.

    Arguments:
        source: the data: a path, or the name of a built-in data set. With ``resume``, where the same data is now.
        overrides: recipe settings, each "key=value".
        recipe: a preset or the path of a YAML file; by default "trees" for a table of fewer than 5,000 rows without
            a budget or steps, else "flow".
        budget: seconds for all of it: training, samples and the report.
        steps: steps to train, in all.
        out: the run folder; runs/SOURCE-RECIPE by default.
        resume: the run to continue from its newest checkpoint.
        checkpoint_every: seconds between checkpoints.
        keep_last: number of recent checkpoints to keep besides the best; by default 2 while training, and of a
            finished run only the newest.
        keep_every: also keep one checkpoint per this many images.
        precision: compute precision.
        threads: CPU threads; None to benchmark.
        compile: whether to use torch.compile; None to decide by the length of the run.
        micro_batch: samples per forward pass; None for as many as fit in memory.
        gradient_checkpointing: recompute activations in the backward pass.
        shard: each process of torchrun stores a slice of every weight.
        on_nonfinite: what to do after a loss that is not finite.
        timeout: seconds after which a process that does not respond counts as lost.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: settings that contradict each other.
    """

    verb: ClassVar[str] = "train"
    source: str | None = None
    overrides: tuple[str, ...] = ()
    recipe: Annotated[str | None, "--recipe"] = None
    budget: Annotated[float | None, "--budget", in_seconds] = None
    steps: Annotated[int | None, "--steps"] = None
    out: Annotated[Path | None, "--out"] = None
    resume: Annotated[Path | None, "--resume"] = None
    checkpoint_every: Annotated[float, "--checkpoint-every", in_seconds] = 60.0
    keep_last: Annotated[int | None, "--keep-last"] = None
    keep_every: Annotated[int | None, "--keep-every"] = None
    precision: Annotated[Literal["auto", "float32", "bfloat16"], "--precision"] = "auto"
    threads: Annotated[int | None, "--threads"] = None
    compile: Annotated[bool | None, "--compile"] = None
    micro_batch: Annotated[int | None, "--micro-batch"] = None
    gradient_checkpointing: Annotated[bool, "--gradient-checkpointing"] = False
    shard: Annotated[bool, "--shard"] = False
    on_nonfinite: Annotated[Literal["stop", "rewind"], "--on-nonfinite"] = "stop"
    timeout: Annotated[float, "--timeout", in_seconds] = 300.0
    device: Annotated[str, "--device"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps and self.budget:
            raise InputError("--steps and --budget: a run ends at one of them; give only one")
        if self.resume is None:
            require_source(self.source, self.verb)
        elif self.out or self.overrides or self.recipe or ("=" in (self.source or "") and not is_there(self.source)):
            raise InputError("--resume continues a run with its own settings; leave out key=value, --recipe and --out")

    @property
    def goal(self) -> Goal | None:
        """The goal that is given; None for the recipe's, or that of the run to resume."""
        return Goal(self.steps, self.budget) if self.steps or self.budget else None
