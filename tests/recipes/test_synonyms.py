import pytest

from sfumato import recipes
from sfumato.errors import InputError
from sfumato.recipes.explain import _keys
from sfumato.recipes.synonyms import ADVICE, SYNONYMS


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
        ("epochs=3", "set training.steps"),
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


def test_a_recipe_is_not_led_to_what_it_does_not_have() -> None:
    with pytest.raises(InputError) as caught:
        recipes.read("mhvae", ["timesteps=100"])
    assert "process" not in str(caught.value)
