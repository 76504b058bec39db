"""Settings know their command line: parsing it gives the same settings again."""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sfumato import InputError
from sfumato.cli.arguments import parse, settings_of
from sfumato.cli.main import parser
from sfumato.runs.command import Settings, program
from sfumato.runs.demo import next_commands
from sfumato.runs.settings import (
    BalanceSettings,
    CertifySettings,
    CompareSettings,
    DemoSettings,
    DenoiseSettings,
    DesignSettings,
    Goal,
    ImputeSettings,
    InterpolateSettings,
    LikelihoodSettings,
    NextSettings,
    ReportSettings,
    SampleSettings,
    TrainSettings,
    TuneSettings,
)

RUN = Path("runs/a folder")


def parsed(command: str) -> argparse.Namespace:
    program, *words = shlex.split(command)
    assert program == "sfumato"
    return parse(parser(), words)


@pytest.mark.parametrize(
    "settings",
    [
        TrainSettings("moons", ("data.count=200", "target=v"), "edm", budget=90.0, out=RUN, compile=False, shard=True),
        TrainSettings("x.npy", steps=5, checkpoint_every=0.5, keep_last=3, keep_every=100, timeout=7.5, compile=True),
        TrainSettings("x.npy", precision="bfloat16", threads=2, micro_batch=4, gradient_checkpointing=True),
        TrainSettings(resume=RUN, budget=3600.0, on_nonfinite="rewind", device="cpu"),
        DemoSettings(5.5, RUN, "cpu"),
        SampleSettings(RUN, 3, "ddim", 7, None, 0.5, "edm", seed=4, batch=8, out=Path("x.gif"), device="cuda"),
        SampleSettings(RUN, tolerance=1e-6, pairs=True, out=Path("x.npz")),
        SampleSettings(RUN, classes=("a",), per_class=3, guidance=1.5, guide_from=-3.0, guide_with=RUN),
        SampleSettings(RUN, guidance=0.5, guide_until=2.5),
        LikelihoodSettings(RUN, "moons", 5, "digits", None, 9, "beta", seed=1, batch=2, per_sample=Path("x.csv")),
        LikelihoodSettings(RUN, flow=False, out=Path("x.png"), device="cpu"),
        LikelihoodSettings(RUN, tolerance=1e-3, probes="exact", draws=3, dequantisation="uniform"),
        LikelihoodSettings(RUN, probes=3),
        TuneSettings(RUN, (5, 8), False, 20, 3, 1, "cpu"),
        TuneSettings(RUN, guidance=True, count=50),
        CertifySettings(str(RUN), None, (5, 8), ("auto", "ddim"), 8, seed=2, out=Path("x.png"), device="cpu"),
        CertifySettings(str(RUN), operator="blur:1", noise=0.5, methods=("mmps",), samples=4, budget=30.0),
        CertifySettings(oracle="flow4"),
        NextSettings(RUN, Path("seen.npy"), 0.3, "blur:1", count=2, particles=9),
        DesignSettings(RUN, Path("filters.csv"), 6, 0.01, 0, 3, Path("x.csv")),
        CompareSettings("moons", ("ddpm", "mine.yaml"), None, 5, RUN, 7, "cpu", ("network.width=3",)),
        CompareSettings("moons", budget=0.5),
        ReportSettings(RUN, "cpu"),
        BalanceSettings("x.csv", ("data.labels=kind",), "a=5,b=7", RUN, overlap=False, keep_copies=True, out=RUN),
        BalanceSettings("x.npz", budget=60.0, overlap=True, keep_implausible=True, evaluate=True, splits=15),
        BalanceSettings("x.csv", evaluate=True, learners=("mlp",), rows=("smote",), seed=3),
        ImputeSettings("x.csv", ("data.missing=keep",), 3, 1, RUN),
        DenoiseSettings(RUN, (Path("a.png"), Path("b.png")), 0.2, 0, 9, 1, 8, Path("o"), "cpu", 2),
        DenoiseSettings(RUN, (Path("a.png"),)),
        InterpolateSettings(RUN, Path("a"), Path("b"), 0.25, 5, "shared", 9, 1, Path("o"), "cpu", 2),
    ],
)
def test_a_command_means_its_settings(settings: Settings) -> None:
    assert settings_of(type(settings), parsed(settings.command())) == settings


@pytest.mark.parametrize(
    "text", ["train moons", "demo", "sample r", "likelihood r", "tune r", "certify oracle", "compare m"]
)
def test_defaults_need_no_words(text: str) -> None:
    kind = next(kind for kind in Settings.__subclasses__() if kind.verb == text.split()[0])
    assert settings_of(kind, parsed(f"sfumato {text}")).command() == f"sfumato {text}"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainSettings(), "SOURCE is missing"),
        (lambda: TrainSettings("a=b"), "SOURCE is missing before 'a=b'; write: sfumato train SOURCE a=b"),
        (lambda: TrainSettings("moons", steps=1, budget=1.0), "--steps and --budget"),
        (lambda: TrainSettings("training.batch=3", resume=RUN), "--resume"),
        (lambda: SampleSettings(RUN, pairs=True), "--pairs"),
        (lambda: SampleSettings(RUN, out=Path("x.bmp")), "end it in .png, .npz, .csv, .tsv, .parquet, .gif or .webp"),
        (lambda: LikelihoodSettings(RUN, per_sample=Path("x.txt")), "end it in .csv"),
        (lambda: LikelihoodSettings(RUN, tolerance=1.0), "--tolerance"),
        (lambda: CompareSettings("moons", ("ddpm", "a/ddpm.yaml")), "'ddpm' comes twice"),
        (lambda: CertifySettings(out=Path("x.pdf")), "end it in .png"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(make, message: str) -> None:
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        make()


def test_the_goal_is_the_number_that_is_given() -> None:
    assert TrainSettings("moons").goal is None
    assert TrainSettings("moons", steps=3).goal == Goal(steps=3)
    assert CompareSettings("moons").goal == Goal(seconds=180.0)
    assert str(Goal(steps=12_000)) == "12,000 steps"
    assert str(Goal(seconds=90.0)) == "1 min 30 s"


def test_the_program_is_called_as_the_shell_finds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scripts = tmp_path / "an environment" / "bin"
    scripts.mkdir(parents=True)
    for name in ("python", "sfumato"):
        (scripts / name).touch(0o755)
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    monkeypatch.setenv("PATH", str(scripts))
    assert program() == "sfumato"
    other = tmp_path / "other"
    other.mkdir()
    (other / "sfumato").touch(0o755)
    monkeypatch.setenv("PATH", str(other))  # a sfumato, but of another environment
    assert program() == f"'{scripts}/sfumato'"
    monkeypatch.chdir(tmp_path)
    assert program() == "'an environment/bin/sfumato'"
    assert SampleSettings(Path("runs/demo")).typed() == "'an environment/bin/sfumato' sample runs/demo"
    (scripts / "sfumato").unlink()
    assert program() == "'an environment/bin/python' -m sfumato"


def test_the_demo_ends_with_commands_that_can_be_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    lines = next_commands(Path("runs/demo"))
    found = [shlex.split(line.partition(":")[2]) for line in lines]
    assert [words[-2:] for words in found] == [["sample", "runs/demo"], ["--budget", "10m"]]
    for words in found:
        shown = subprocess.run(
            [*words[: words.index("sample" if "sample" in words else "train")], "--version"], check=True
        )
        assert shown.returncode == 0
