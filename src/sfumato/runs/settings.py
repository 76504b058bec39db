"""The settings of every operation on runs, as values that know their own command line.

The fields are named as the flags; ``settings.command()`` is the command that would do the same. This module imports
nothing heavy, as the command line takes its defaults from here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from sfumato.errors import InputError
from sfumato.files import expanded
from sfumato.reporting import duration

from .command import Settings, comma_separated, in_seconds, number_or_all


@dataclass(frozen=True)
class Goal:
    """When training ends: after ``steps`` in all, or after ``seconds``. Exactly one is set.

    Arguments:
        steps: optimiser steps, counted over all sessions of the run.
        seconds: wall-clock time.

    Raises:
        InputError: both or none are given, or the number is negative.
    """

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.steps, self.seconds) if value is not None]
        if len(given) != 1 or given[0] < 0:
            raise InputError(f"goal: steps={self.steps}, seconds={self.seconds}; give one of the two, at least 0")

    def __str__(self) -> str:
        return f"{self.steps:,} steps" if self.seconds is None else duration(self.seconds)

    def to_dict(self) -> dict[str, int | float]:
        """``{"steps": N}`` or ``{"seconds": S}``."""
        return {"steps": self.steps} if self.steps is not None else {"seconds": self.seconds or 0.0}

    def flag(self) -> str:
        """The flag of the command line that sets this goal."""
        return f"--steps {self.steps}" if self.steps is not None else f"--budget {self.seconds:g}s"

    def after(self, seconds: float) -> "Goal":
        """The goal that remains after ``seconds`` of training. Steps are counted over all sessions, so they stay."""
        return self if self.seconds is None else Goal(seconds=max(self.seconds - seconds, 0.0))


DEFAULT = "flow"  # the recipe; of the presets the one that learns fastest in minutes (docs/training.md)


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
            _require_source(self.source, self.verb)
        elif self.out or self.overrides or self.recipe or ("=" in (self.source or "") and not _there(self.source)):
            raise InputError("--resume continues a run with its own settings; leave out key=value, --recipe and --out")

    @property
    def goal(self) -> Goal | None:
        """The goal that is given; None for the recipe's, or that of the run to resume."""
        return Goal(self.steps, self.budget) if self.steps or self.budget else None


def _there(source: str | None) -> bool:
    return source is not None and expanded(source).exists()


def _require_source(source: str | None, verb: str) -> None:
    if source is None or not source.strip():
        raise InputError("SOURCE is missing; give a folder of images, an .npy or .npz file, or a name such as digits")
    if "=" in source and not expanded(source).exists():
        raise InputError(f"SOURCE is missing before '{source}'; write: sfumato {verb} SOURCE {source}")


@dataclass(frozen=True)
class InspectSettings(Settings):
    """The settings of ``inspect``.

    Arguments:
        source: the data.
        overrides: recipe settings, each "key=value".
        recipe: a preset or the path of a YAML file; "flow" by default.
        out: a picture of samples, .png; none by default.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: an ``out`` of another kind of file, or no source.
    """

    verb: ClassVar[str] = "inspect"
    source: str
    overrides: tuple[str, ...] = ()
    recipe: Annotated[str | None, "--recipe"] = None
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_source(self.source, self.verb)
        if self.out is not None:
            _require_ending("--out", self.out, (".png",))


@dataclass(frozen=True)
class DemoSettings(Settings):
    """The settings of ``demo``.

    Arguments:
        budget: seconds to train.
        out: the run folder; runs/demo by default.
        device: "auto", "cpu" or "cuda".
    """

    verb: ClassVar[str] = "demo"
    budget: Annotated[float, "--budget", in_seconds] = 80.0
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"


@dataclass(frozen=True)
class SampleSettings(Settings):
    """The settings of ``sample``.

    Arguments:
        run: a run or model folder.
        count: number of samples.
        sampler: the name of a sampler; the recipe's by default.
        steps: network evaluations per sample; the recipe's by default.
        tolerance: error per step of the adaptive sampler.
        eta: the fraction of noise that the ddim sampler adds: 0 none, 1 ancestral.
        under: a preset or YAML file whose process replaces the model's own.
        classes: names of the classes to draw; by default all, in their shares.
        per_class: number of samples of each class.
        guidance: the weight of guidance; 1 is none.
        guide_from: the lowest log-SNR that guidance acts at.
        guide_until: the highest one.
        guide_with: a run of a worse model that guidance leads away from; by default the model without the class.
        pairs: also write the noise that each sample started from.
        seed: the random seed.
        batch: samples drawn at once by each process.
        out: the file to write, or, without an ending, a new folder of images; by default a .png and an .npz in the run
            folder.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; by default as many as training found to be fastest.

    Raises:
        InputError: an ``out`` of another kind of file, ``pairs`` without an .npz file, or settings of guidance without
            its weight.
    """

    verb: ClassVar[str] = "sample"
    run: Path
    count: Annotated[int, "--count"] = 64
    sampler: Annotated[str | None, "--sampler"] = None
    steps: Annotated[int | None, "--steps"] = None
    tolerance: Annotated[float | None, "--tolerance"] = None
    eta: Annotated[float | None, "--eta"] = None
    under: Annotated[str | None, "--under"] = None
    classes: Annotated[tuple[str, ...], "--class"] = ()
    per_class: Annotated[int | None, "--per-class"] = None
    guidance: Annotated[float | None, "--guidance"] = None
    guide_from: Annotated[float | None, "--guide-from"] = None
    guide_until: Annotated[float | None, "--guide-until"] = None
    guide_with: Annotated[Path | None, "--guide-with"] = None
    pairs: Annotated[bool, "--pairs"] = False
    seed: Annotated[int, "--seed"] = 0
    batch: Annotated[int, "--batch"] = 256
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out is not None and not self.is_folder:
            _require_ending("--out", self.out, (".png", ".npz", *_TABLES, *_MOVIES))
        if self.pairs and (self.out is None or self.out.suffix.lower() != ".npz"):
            raise InputError("--pairs: the noise is written into an .npz file; add --out FILE.npz")
        given = {"from": self.guide_from, "until": self.guide_until, "with": self.guide_with}
        if self.guidance is None and (names := [f"--guide-{name}" for name, x in given.items() if x is not None]):
            raise InputError(f"{names[0]}: without a weight there is no guidance; add --guidance 1.5")

    @property
    def is_folder(self) -> bool:
        """Whether the output is a folder of images: a name without an ending."""
        return self.out is not None and not self.out.suffix

    @property
    def is_movie(self) -> bool:
        """Whether the output is a movie of how the samples form."""
        return self.out is not None and self.out.suffix.lower() in _MOVIES


_MOVIES = (".gif", ".webp")
_TABLES = (".csv", ".tsv", ".parquet")  # as data.TABLES, which takes long to import


def _require_ending(flag: str, path: Path, endings: tuple[str, ...]) -> None:
    if path.suffix.lower() not in endings:
        *others, last = endings
        allowed = f"{', '.join(others)} or {last}" if others else last
        raise InputError(f"{flag} {path}: '{path.suffix}' is not known; end it in {allowed}")


@dataclass(frozen=True)
class LikelihoodSettings(Settings):
    """The settings of ``likelihood``.

    Arguments:
        run: a run or model folder.
        data: the data to score; by default the run's own held-out data. Where that has moved, its new path.
        count: number of samples to score, at most.
        against: a second data set; how well the scores separate it from the first is reported.
        evaluations: approximate network evaluations per sample for the bound; None for every level of a chain.
        steps: number of steps between noise levels, instead of the model's own levels.
        variance: variance of the reverse steps; by default "beta" for densities, "posterior" for data with levels.
        flow: whether to compute the exact likelihood along the flow too.
        tolerance: error per step of the flow's ODE; 1e-4 by default.
        probes: random directions per trace, or "exact"; by default 2, exact for up to 16 dimensions.
        draws: importance-weighted dequantisation samples per data point; 1 by default.
        dequantisation: the distribution that dequantises data with levels; noise by default.
        seed: the random seed.
        batch: samples scored at once.
        per_sample: a .csv file for the numbers of each sample.
        out: the picture to write, a .png file; the numbers go into a .json file beside it.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; by default as many as training found to be fastest.
        overrides: settings of reading ``data`` and ``against``, each "data.key=value".

    Raises:
        InputError: a file of another kind, a tolerance out of range, a setting in place of the data.
    """

    verb: ClassVar[str] = "likelihood"
    run: Path
    data: str | None = None
    count: Annotated[int, "--count"] = 128
    against: Annotated[str | None, "--against"] = None
    evaluations: Annotated[int | None, "--evaluations", number_or_all] = 100
    steps: Annotated[int | None, "--steps"] = None
    variance: Annotated[Literal["posterior", "beta"] | None, "--variance"] = None
    flow: Annotated[bool, "--flow"] = True
    tolerance: Annotated[float | None, "--tolerance"] = None
    probes: Annotated[int | Literal["exact"] | None, "--probes"] = None
    draws: Annotated[int | None, "--draws"] = None
    dequantisation: Annotated[Literal["noise", "uniform"] | None, "--dequantisation"] = None
    seed: Annotated[int, "--seed"] = 0
    batch: Annotated[int, "--batch"] = 256
    per_sample: Annotated[Path | None, "--per-sample"] = None
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data is not None and "=" in self.data and not _there(self.data):  # DATA is left out
            object.__setattr__(self, "overrides", (self.data, *self.overrides))
            object.__setattr__(self, "data", None)
        if self.overrides and self.data is None and self.against is None:
            raise InputError(
                f"'{self.overrides[0]}': the run's own data is read as it was in training; write: sfumato {self.verb} "
                f"{self.run} DATA {self.overrides[0]}, or leave it out"
            )
        if self.per_sample is not None:
            _require_ending("--per-sample", self.per_sample, (".csv",))
        if self.out is not None:
            _require_ending("--out", self.out, (".png",))
        if self.tolerance is not None and not 1e-12 <= self.tolerance < 1:
            raise InputError(f"--tolerance {self.tolerance}: out of range for an ODE; give at least 1e-12 and below 1")


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


@dataclass(frozen=True)
class TuneSettings(Settings):
    """The settings of ``tune``.

    Arguments:
        run: a run or model folder.
        nfe: numbers of network evaluations to fit a sampler for, 2 to 32 each; 8 by default, none with ``guidance``.
        guidance: choose the weight and the interval of guidance, before samplers are fitted.
        count: number of trajectories to fit to; by default chosen by the size of a sample. For guidance the samples of
            each setting, 500 by default.
        iterations: iterations of the fit, at most; 40 by default.
        seed: the random seed of the trajectories, and of the samples.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; by default as many as training found to be fastest.
    """

    verb: ClassVar[str] = "tune"
    run: Path
    nfe: Annotated[tuple[int, ...] | None, "--nfe", comma_separated] = None
    guidance: Annotated[bool, "--guidance"] = False
    count: Annotated[int | None, "--count"] = None
    iterations: Annotated[int | None, "--iterations"] = None
    seed: Annotated[int, "--seed"] = 0
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None

    @property
    def budgets(self) -> tuple[int, ...]:
        """Numbers of evaluations that samplers are fitted for."""
        return self.nfe or (() if self.guidance else (8,))


@dataclass(frozen=True)
class CertifySettings(Settings):
    """The settings of ``certify``.

    Arguments:
        target: a run or model folder, or "oracle".
        oracle: the name of an oracle; "modes" by default.
        nfe: numbers of network evaluations to measure at.
        methods: the samplers to measure; all by default.
        operator: certify reconstructions from readings of this operator instead of samplers.
        noise: the standard deviation of those readings.
        samples: number of starts per method, up to 1024 for an oracle and 256 for a model by default; with an operator,
            the problems per method, 20 by default.
        seed: the random seed of the starts.
        out: the picture to write, a .png file; the numbers go into a .json file beside it.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; by default as many as training found to be fastest.

    Raises:
        InputError: a file of another kind, too few samples, an oracle beside a model.
    """

    ORACLE: ClassVar[str] = "oracle"
    verb: ClassVar[str] = "certify"
    target: str = "oracle"
    oracle: Annotated[str | None, "--oracle"] = None
    nfe: Annotated[tuple[int, ...] | None, "--nfe", comma_separated] = None
    methods: Annotated[tuple[str, ...] | None, "--methods", comma_separated] = None
    samples: Annotated[int | None, "--samples"] = None
    seed: Annotated[int, "--seed"] = 0
    operator: Annotated[str | None, "--operator"] = None
    noise: Annotated[float | None, "--noise"] = None
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.is_oracle:
            object.__setattr__(self, "target", str(expanded(self.target)))
        if (self.operator is None) != (self.noise is None):
            raise InputError("--operator, --noise: a reconstruction needs both; give the other too")
        if self.operator is not None and (self.is_oracle or self.oracle or self.nfe):
            raise InputError(f"--operator {self.operator}: is for a RUN, without --oracle and --nfe; give a run folder")
        if self.noise is not None and not 0 < self.noise < float("inf"):
            raise InputError(f"--noise {self.noise:g}: is no standard deviation; give more than 0, in their units")
        if self.out is not None:
            _require_ending("--out", self.out, (".png",))

    @property
    def is_oracle(self) -> bool:
        """Whether an oracle is measured, and not a model."""
        return self.target == self.ORACLE


@dataclass(frozen=True)
class CompareSettings(Settings):
    """The settings of ``compare``.

    Arguments:
        source: the data: a path, or the name of a built-in data set.
        overrides: settings on top of every recipe, each "key=value".
        recipes: presets or YAML files.
        budget: seconds to train each recipe; 180 by default.
        steps: steps to train each recipe, instead of a time.
        out: the folder of the comparison; runs/compare-SOURCE by default.
        count: number of held-out samples to score, at most.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: settings that contradict each other.
    """

    verb: ClassVar[str] = "compare"
    source: str
    recipes: Annotated[tuple[str, ...], "--recipes", comma_separated] = ("ddpm", "ncsn", "vp-sde", "edm", "flow", "vdm")
    budget: Annotated[float | None, "--budget", in_seconds] = None
    steps: Annotated[int | None, "--steps"] = None
    out: Annotated[Path | None, "--out"] = None
    count: Annotated[int, "--count"] = 128
    device: Annotated[str, "--device"] = "auto"
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps and self.budget:
            raise InputError("--steps and --budget: each recipe ends at one of them; give only one")
        _require_source(self.source, self.verb)
        labels = [recipe_label(name) for name in self.recipes]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise InputError(f"--recipes: '{twice}' comes twice; name each recipe once")

    @property
    def goal(self) -> Goal:
        """When the training of each recipe ends."""
        return Goal(steps=self.steps) if self.steps else Goal(seconds=self.budget or 180.0)


def recipe_label(name: str) -> str:
    """The name of a recipe in a comparison: the stem of a YAML file, or the preset."""
    return Path(name).stem if name.endswith((".yaml", ".yml")) else name


SORTS = ("date", "run", "data", "recipe", "budget", "bound", "quality")


@dataclass(frozen=True)
class RunsSettings(Settings):
    """The settings of ``runs``.

    Arguments:
        folder: where to look for runs, in all folders below too.
        sort: the order of the list: newest, longest and best first, names in order.

    Raises:
        InputError: no such folder, or no such order.
    """

    verb: ClassVar[str] = "runs"
    folder: Path = Path("runs")
    sort: Annotated[str, "--sort"] = "date"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sort not in SORTS:
            raise InputError(f"--sort: '{self.sort}' is unknown; give one of {', '.join(SORTS)}")
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: is no folder; give one with runs in it")


@dataclass(frozen=True)
class ReportSettings(Settings):
    """The settings of ``report``.

    Arguments:
        run: a run folder.
        source: where the run's data is now, if it has moved; used, as the device is, only where samples must be drawn.
        device: "auto", "cpu" or "cuda".
        compare: other runs to put beside it.
        threads: CPU threads; by default as many as training found to be fastest.
    """

    verb: ClassVar[str] = "report"
    run: Path
    source: str | None = None
    device: Annotated[str, "--device"] = "auto"
    compare: Annotated[tuple[Path, ...], "--compare"] = ()
    threads: Annotated[int | None, "--threads"] = None


def _check_draws(draws: int) -> None:
    if draws < 2:
        raise InputError(f"--draws {draws}: a standard deviation needs at least 2 draws")


@dataclass(frozen=True)
class ReconstructSettings(Settings):
    """The settings of ``reconstruct``.

    Arguments:
        run: a run or model folder.
        operator: what was measured: a file with a matrix, or "downsample:4", "blur:1.5", "mask:FILE", "response:FILE";
            None with ``calibrate_operator``.
        measurements: a file of readings, one row per measurement.
        noise: the standard deviation of their noise, in their units; "25dB", "photons:GAIN:READ", "auto"; or a file of
            deviations, one per reading, or a row per measurement. None with ``calibrate_operator``.
        calibrate_operator: an .npz file of samples x and their readings y, from which operator and noise are estimated.
        draws: samples per measurement.
        method: "auto", "annealed", "mmps", "pigdm" or "dps".
        steps: evaluations of the network per move, or per draw.
        particles: of the annealed method.
        seed: the random seed.
        batch: samples evaluated at once.
        out: the folder to write; by default in the run folder, named by the measurements.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.

    Raises:
        InputError: less than 2 draws.
    """

    verb: ClassVar[str] = "reconstruct"
    run: Path
    measurements: Annotated[Path, "--measurements"]
    operator: Annotated[str | None, "--operator"] = None
    noise: Annotated[str | None, "--noise"] = None
    calibrate_operator: Annotated[Path | None, "--calibrate-operator"] = None
    draws: Annotated[int, "--draws"] = 64
    method: Annotated[str, "--method"] = "auto"
    steps: Annotated[int | None, "--steps"] = None
    particles: Annotated[int | None, "--particles"] = None
    seed: Annotated[int, "--seed"] = 0
    batch: Annotated[int, "--batch"] = 256
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_draws(self.draws)
        given = [self.operator is not None, self.noise is not None]
        if self.calibrate_operator is None and not all(given):
            raise InputError("--operator, --noise: give both, or estimate both with --calibrate-operator FILE")
        if self.calibrate_operator is not None and any(given):
            raise InputError("--calibrate-operator: estimates operator and noise; leave out --operator and --noise")


@dataclass(frozen=True)
class DesignSettings(Settings):
    """The settings of ``design``.

    Arguments:
        run: a run or model folder.
        filters: a table with positions in the first column and the response of a filter in each other one.
        count: how many filters to choose.
        noise: the standard deviation of a reading, in its units.
        check: reconstructions of simulated readings that predict error and band; 0 for none.
        seed: the random seed.
        out: the table of the chosen filters to write, a .csv file; by default design.csv in the run folder.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.

    Raises:
        InputError: noise that is not above 0, a file of another kind.
    """

    verb: ClassVar[str] = "design"
    run: Path
    filters: Annotated[Path, "--filters"]
    count: Annotated[int, "--count"]
    noise: Annotated[float, "--noise"]
    check: Annotated[int, "--check"] = 8
    seed: Annotated[int, "--seed"] = 0
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.noise < float("inf"):
            raise InputError(f"--noise {self.noise:g}: is no standard deviation; give more than 0, in their units")
        if self.out is not None:
            _require_ending("--out", self.out, (".csv",))


@dataclass(frozen=True)
class NextSettings(Settings):
    """The settings of ``next``.

    Arguments:
        run: a run or model folder.
        measured: a file with a number for each candidate reading, nan where there is none yet.
        noise: the standard deviation of a reading, in its units.
        operator: what the candidates are, as for ``reconstruct``; None for the values of a sample themselves.
        count: how many of the most useful readings to name.
        draws: samples of the posterior.
        steps: evaluations of the network per move.
        particles: of the annealed method.
        seed: the random seed.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.

    Raises:
        InputError: noise that is not above 0.
    """

    verb: ClassVar[str] = "next"
    run: Path
    measured: Annotated[Path, "--measured"]
    noise: Annotated[float, "--noise"]
    operator: Annotated[str | None, "--operator"] = None
    count: Annotated[int, "--count"] = 3
    draws: Annotated[int, "--draws"] = 64
    steps: Annotated[int | None, "--steps"] = None
    particles: Annotated[int | None, "--particles"] = None
    seed: Annotated[int, "--seed"] = 0
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.noise < float("inf"):
            raise InputError(f"--noise {self.noise:g}: is no standard deviation; give more than 0, in their units")


@dataclass(frozen=True)
class InpaintSettings(Settings):
    """The settings of ``inpaint``.

    Arguments:
        run: a run or model folder.
        image: the file with the sample.
        mask: the file with the mask: white, or not 0, where the sample is to be filled in.
        noise: the standard deviation of the noise in the known values, in the data's units; by default 2.5 % of two
            model units, which are the range of bounded data.
        draws: samples.
        method: "auto", "annealed", "mmps", "pigdm" or "dps".
        steps: evaluations of the network per move, or per draw.
        particles: of the annealed method.
        seed: the random seed.
        batch: samples evaluated at once.
        out: the folder to write; by default in the run folder, named by the image.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.

    Raises:
        InputError: noise that is not above 0, less than 2 draws.
    """

    verb: ClassVar[str] = "inpaint"
    run: Path
    image: Path
    mask: Annotated[Path, "--mask"]
    noise: Annotated[float | None, "--noise"] = None
    draws: Annotated[int, "--draws"] = 8
    method: Annotated[str, "--method"] = "auto"
    steps: Annotated[int | None, "--steps"] = None
    particles: Annotated[int | None, "--particles"] = None
    seed: Annotated[int, "--seed"] = 0
    batch: Annotated[int, "--batch"] = 256
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise is not None and not 0 < self.noise < float("inf"):
            raise InputError(f"--noise {self.noise:g}: is no standard deviation; give more than 0, in data units")
        _check_draws(self.draws)


@dataclass(frozen=True)
class BalanceSettings(Settings):
    """The settings of ``balance``.

    Arguments:
        source: a table with classes.
        overrides: settings of the recipe "trees", each "key=value".
        target: rows of each class: "equal", "N" or "class=N,class=N".
        keep_copies: keep rows that are nearly copies of real ones.
        keep_implausible: keep rows that a classifier finds implausible.
        evaluate: measure first whether synthetic rows of the smallest class help learners.
        splits: into training and test rows, for that.
        seed: the random seed.
        out: the folder to write; SOURCE-balanced by default.
    """

    verb: ClassVar[str] = "balance"
    source: str
    overrides: tuple[str, ...] = ()
    target: Annotated[str, "--target"] = "equal"
    keep_copies: Annotated[bool, "--keep-copies"] = False
    keep_implausible: Annotated[bool, "--keep-implausible"] = False
    evaluate: Annotated[bool, "--evaluate"] = False
    splits: Annotated[int, "--splits"] = 10
    seed: Annotated[int, "--seed"] = 0
    out: Annotated[Path | None, "--out"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_source(self.source, self.verb)


@dataclass(frozen=True)
class ImputeSettings(Settings):
    """The settings of ``impute``.

    Arguments:
        source: a table with gaps.
        overrides: how to read it, each "data.key=value".
        draws: tables that are drawn besides the one with the best guess.
        seed: the random seed.
        out: the folder to write; SOURCE-imputed by default.

    Raises:
        InputError: a negative number of draws.
    """

    verb: ClassVar[str] = "impute"
    source: str
    overrides: tuple[str, ...] = ()
    draws: Annotated[int, "--draws"] = 5
    seed: Annotated[int, "--seed"] = 0
    out: Annotated[Path | None, "--out"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_source(self.source, self.verb)
        if self.draws < 0:
            raise InputError(f"--draws {self.draws}: give 0 or more")


@dataclass(frozen=True)
class DenoiseSettings(Settings):
    """The settings of ``denoise``.

    Arguments:
        run: a run or model folder.
        images: files with noisy samples.
        sigma: the standard deviation of the noise, in the data's units; None to estimate that of each sample.
        draws: samples of the posterior for each noisy one; 0 for the mean alone.
        steps: evaluations of the network per draw.
        seed: the random seed.
        batch: samples evaluated at once.
        out: the folder to write; by default in the run folder, named by the first file.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.

    Raises:
        InputError: a sigma that is not above 0.
    """

    verb: ClassVar[str] = "denoise"
    run: Path
    images: tuple[Path, ...]
    sigma: Annotated[float | None, "--sigma"] = None
    draws: Annotated[int, "--draws"] = 4
    steps: Annotated[int, "--steps"] = 50
    seed: Annotated[int, "--seed"] = 0
    batch: Annotated[int, "--batch"] = 256
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma is not None and not 0 < self.sigma < float("inf"):
            raise InputError(f"--sigma {self.sigma:g}: is no standard deviation; give more than 0, in data units")


@dataclass(frozen=True)
class InterpolateSettings(Settings):
    """The settings of ``interpolate``.

    Arguments:
        run: a run or model folder.
        a: the file with the first sample.
        b: the file with the last.
        at: the time of the mixture, in (0, 1].
        frames: number of frames with both ends.
        mode: "latent", "spherical" or "shared".
        steps: evaluations of the network per frame.
        seed: the random seed.
        out: the folder to write; by default in the run folder, named by both files.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.
    """

    verb: ClassVar[str] = "interpolate"
    run: Path
    a: Path
    b: Path
    at: Annotated[float, "--at"] = 0.5
    frames: Annotated[int, "--frames"] = 9
    mode: Annotated[str, "--mode"] = "latent"
    steps: Annotated[int, "--steps"] = 50
    seed: Annotated[int, "--seed"] = 0
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None
