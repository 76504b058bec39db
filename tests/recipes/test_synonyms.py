import re

import pytest

from sfumato import recipes
from sfumato.cli.main import main, parser
from sfumato.errors import InputError
from sfumato.recipes.explain import _keys
from sfumato.recipes.synonyms import _TRAIN, ADVICE, FLAGS, SYNONYMS


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("batch_size=32", "did you mean training.batch?"),
        ("training.batch_size=32", "did you mean training.batch?"),
        ("lr=1e-4", "did you mean training.learning_rate?"),
        ("learning_rate=1e-4", "did you mean training.learning_rate?"),
        ("image_size=32", "did you mean data.size?"),
        ("data.image-size=32", "did you mean data.size?"),
        ("resolution=32", "did you mean data.size?"),
        ("epochs=3", "give --steps N"),
        ("gpus=2", "a flag of 'sfumato train': --device"),
        ("training.num_workers=2", "a flag of 'sfumato train': --threads"),
        ("timesteps=100", "did you mean process.schedule.steps?"),
        ("ema_decay=0.999", "averages over all horizons"),
        ("data.sise=32", "did you mean data.size?"),
    ],
)
def test_names_from_other_programs_lead_to_ours(typed: str, meant: str) -> None:
    with pytest.raises(InputError) as caught:
        recipes.read("ddpm", [typed])
    message = str(caught.value)
    assert message.startswith(f"recipe: unknown key '{typed.split('=')[0]}'; ")
    assert meant in message


def test_every_synonym_leads_to_a_key_and_is_none() -> None:
    keys = {key for kind in recipes.kinds.KINDS for key in _keys(kind)}
    assert set(SYNONYMS.values()) <= keys
    assert not keys & {word for word in SYNONYMS if "." in word}
    assert not set(SYNONYMS) & set(ADVICE)
    assert not set(_TRAIN) & {*SYNONYMS, *ADVICE}


VERBS = next(action.choices for action in parser()._actions if isinstance(action.choices, dict))


def flags(verb: str) -> list[str]:
    return [name for each in VERBS[verb]._actions for name in each.option_strings]


def test_every_flag_that_is_named_exists() -> None:
    assert set(FLAGS) <= {flag for verb in VERBS for flag in flags(verb)}
    for word, flag in _TRAIN.items():
        assert flag in flags("train"), word
    for text in ADVICE.values():
        assert set(re.findall(r"--[a-z-]+", text)) <= set(flags("train")) & set(flags("compare"))


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("train digits --epochs 5", "training is counted in steps: give --steps N, or a time with --budget"),
        ("train digits --batch-size 32", "settings have no dashes: give training.batch=VALUE"),
        ("train digits --batch_size=32", "settings have no dashes: give training.batch=32"),
        ("train digits --lr 1e-4", "settings have no dashes: give training.learning_rate=VALUE"),
        ("train digits --image-size=64", "settings have no dashes: give data.size=64"),
        ("train digits --training.batch=64", "settings have no dashes: give training.batch=64"),
        ("train digits --gpus 2", "did you mean --device?"),
        ("train digits --num_workers 2", "did you mean --threads?"),
        ("train digits --output x", "did you mean --out?"),
        ("train digits --chekpoint-every 2m", "did you mean --checkpoint-every?"),
        ("train --data_dir x", "the data is the first argument, SOURCE"),
        ("compare digits --gpus 2", "did you mean --device?"),
        ("compare digits --epochs 2", "give --steps N"),
        ("compare digits --threads 2", "see 'sfumato compare --help'"),
        ("sample x --num-samples 5", "did you mean --count?"),
        ("sample x --batch-size 5", "did you mean --batch?"),
        ("sample x --num_inference_steps 5", "did you mean --steps?"),
        ("sample x --scheduler ddim", "did you mean --sampler?"),
        ("sample x --epochs 5", "see 'sfumato sample --help'"),
        ("sample x --image-size 5", "see 'sfumato sample --help'"),
        ("likelihood x --image-size 8x8", "settings have no dashes: give data.size=VALUE"),
        ("likelihood x --batch-size 8", "did you mean --batch?"),
        ("likelihood x --lr 8", "see 'sfumato likelihood --help'"),
        ("tune x --steps 8", "did you mean --nfe?"),
        ("certify x --num-samples 8", "did you mean --samples?"),
        ("certify x --solvers ddim", "did you mean --methods?"),
    ],
)
def test_flags_of_other_programs_lead_to_ours(command: str, advice: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(command.split())
    said = capsys.readouterr().err
    assert said.startswith(f"sfumato {command.split()[0]}: error: unknown argument '--")
    assert said.rstrip().endswith(advice) or advice in said
    assert said.count("\n") == 1
    for flag in re.findall(r"--[a-z-]+", said.partition("'; ")[2]):
        assert flag in (*flags(command.split()[0]), "--help")


def test_a_recipe_is_not_led_to_what_it_does_not_have() -> None:
    with pytest.raises(InputError) as caught:
        recipes.read("mhvae", ["timesteps=100"])
    assert "process" not in str(caught.value)
