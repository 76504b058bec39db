"""The settings of ``evaluate``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from ..command import Settings, comma_separated


@dataclass(frozen=True)
class EvaluateSettings(Settings):
    """The settings of ``evaluate``.

    Arguments:
        run: a run or model folder.
        overrides: settings of reading ``against``, each "data.key=value".
        against: real data to compare with; by default the run's own. Where that has moved, its new path.
        count: number of samples, at most; half of the real data is compared with the other half, which limits it too.
        features: names of feature spaces; by default those that suit the data.
        inception: a file of Inception-v3's weights, whose features are then a space too.
        nfe: numbers of network evaluations; samples by each are judged too.
        seed: the random seed of the samples, and of the choice among real data.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; by default as many as training found to be fastest.

    Raises:
        InputError: a setting in place of the data.
    """

    verb: ClassVar[str] = "evaluate"
    run: Path
    overrides: tuple[str, ...] = ()
    against: Annotated[str | None, "--against"] = None
    count: Annotated[int, "--count"] = 1000
    features: Annotated[tuple[str, ...] | None, "--features", comma_separated] = None
    inception: Annotated[Path | None, "--inception"] = None
    nfe: Annotated[tuple[int, ...], "--nfe", comma_separated] = ()
    seed: Annotated[int, "--seed"] = 0
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None
