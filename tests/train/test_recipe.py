"""Recipes: the shipped ones are valid, and a wrong key says what was meant."""

import pytest

from runtime.errors import ConfigError
from train.datasets import DATASETS
from train.models import find_blueprint, job_of
from train.recipe import RECIPES, Recipe, check, load_recipe
from train.tasks import TASKS

SHIPPED = sorted(RECIPES.glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipe_is_valid(path):
    needs_path = "tiles" in path.stem or "severstal" in path.stem
    recipe = load_recipe(path, ["data.path='somewhere'"] if needs_path else [])
    assert recipe.task in TASKS
    settings = {key: value for key, value in recipe.data.items() if key != "kind"}
    check(DATASETS[recipe.data["kind"]].settings, settings, "data")
    assert find_blueprint(job_of(recipe.task), recipe.model.architecture).variant == recipe.variant


def test_papers_recipe_is_the_papers():
    recipe = load_recipe(RECIPES / "strip-segmenter.toml")
    assert [(p.epochs, p.loss, p.batch, p.crops) for p in recipe.phases] == [
        (70, "bce_dice", 5, ((256, 384), (256, 512))),
        (40, "tversky", 5, ((256, 384), (256, 512))),
    ]
    assert recipe.settings["tversky_alpha"] == 0.3
    assert (recipe.optimiser.kind, recipe.optimiser.learning_rate) == ("adam", 1e-3)
    assert (recipe.schedule.kind, recipe.schedule.factor, recipe.schedule.patience) == ("plateau", 0.5, 3)
    assert recipe.phase_of(69)[0] == 0
    assert recipe.phase_of(70)[0] == 1
    assert recipe.epochs == 110


def test_overrides_reach_tables_and_lists():
    recipe = load_recipe(
        RECIPES / "strip-segmenter.toml",
        [
            "phases.1.epochs=3",
            "optimiser.learning_rate=1e-4",
            "model.architecture=unet-resnet34",
            "data.train_strips=2",
        ],
    )
    assert recipe.phases[1].epochs == 3
    assert recipe.optimiser.learning_rate == 1e-4
    assert recipe.model.architecture == "unet-resnet34"
    assert recipe.data["train_strips"] == 2


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("optimiser.learning_rat=1", r"unknown key 'optimiser.learning_rat', did you mean 'learning_rate'\?"),
        ("shedule=1", r"unknown key 'shedule', did you mean 'schedule'\?"),
        ("phases.0.epoch=1", r"unknown key 'phases.0.epoch', did you mean 'epochs'\?"),
        ("schedule.patienc=1", r"did you mean 'patience'\? Known: factor, kind, patience"),
        ("phases.7.epochs=1", "'7' is no entry of a list of 2"),
        ("phases.0.epochs=0", "phases.0.epochs: Input should be greater than or equal to 1, found '0'"),
        ("phases.0.epochs.x=1", "is a value, expected a table|lies in no table"),
        ("novalue", "expected key=value"),
    ],
)
def test_wrong_override_says_what_was_meant(override, text):
    with pytest.raises(ConfigError, match=text):
        load_recipe(RECIPES / "strip-segmenter.toml", [override])


def test_recipe_without_a_kind_of_data_is_an_error(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text((RECIPES / "strip-gate.toml").read_text().replace('kind = "synthetic"', ""))
    with pytest.raises(ConfigError, match=r"data\.kind is missing"):
        load_recipe(path)


def test_unreadable_recipes_name_the_file(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load_recipe(tmp_path / "absent.toml")
    (tmp_path / "broken.toml").write_text("task = \n")
    with pytest.raises(ConfigError, match=r"broken\.toml: .*line 1"):
        load_recipe(tmp_path / "broken.toml")


def test_a_recipe_survives_json():
    recipe = load_recipe(RECIPES / "strip-gate-compact.toml")
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
