"""The command line from outside: a run, its JSON, and errors in one line."""

import json

import pytest
from typer.testing import CliRunner

from ferrosight import KNOWN_ERRORS
from runtime.errors import ConfigError
from train.cli import app, choose_recipe
from train.recipe import RECIPES, load_recipe

SMALL = [
    arg
    for change in (
        "data.train_strips=1", "data.validation_strips=1", "data.frames_per_strip=5", "data.height_px=64",
        "data.width_px=160", "data.defects_per_frame=2.0", "phases.0.epochs=1", "phases.0.steps=1", "phases.0.batch=2",
        "phases.0.crops=[[64,64]]", "phases.1.epochs=1", "phases.1.steps=1", "phases.1.batch=2",
    )
    for arg in ("--set", change)
]  # fmt: skip


@pytest.mark.parametrize("task", ["strip-gate", "strip-segmenter"])
def test_train_resume_and_fine_tune(task, tmp_path):
    base = [task, "--variant", "compact", "--device", "cpu", "--cache", str(tmp_path / "cache"), *SMALL]
    done = CliRunner().invoke(app, [*base, "--out", str(tmp_path / "run"), "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)["record"]
    assert record["finished"]
    assert record["epochs_done"] == 2
    assert len(record["data_digest"]) == 64
    again = CliRunner().invoke(
        app, [task, "--resume", str(tmp_path / "run"), "--device", "cpu", "--cache", str(tmp_path / "cache"), "--json"]
    )
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["record"]["epochs_done"] == 2
    weights = tmp_path / "run" / "best.safetensors"
    tuned = CliRunner().invoke(app, [*base, "--out", str(tmp_path / "tuned"), "--weights", str(weights), "--json"])
    assert tuned.exit_code == 0, tuned.output
    assert json.loads(tuned.stdout)["record"]["weights_from"]["file"] == str(weights)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--variant", "big"], "--variant is 'big', expected paper or compact"),
        (["--data", "steel"], "data.kind is 'steel'"),
        (["--data", "severstal=absent"], "absent/train_images: found no such folder"),
        (["--set", "model.architectur=resnet50"], "did you mean 'architecture'?"),
        (["--set", "data.trainstrips=5"], "did you mean 'train_strips'"),
        (["--resume", "absent"], "found no readable recipe.json"),
        (["--recipe", "absent.toml"], "absent.toml"),
    ],
)
def test_wrong_arguments_are_errors_that_the_front_door_knows(arguments, text, tmp_path):
    done = CliRunner().invoke(app, ["strip-gate", "--device", "cpu", "--cache", str(tmp_path), *arguments])
    assert isinstance(done.exception, KNOWN_ERRORS)
    assert text in str(done.exception)


def test_recipe_of_another_task_is_refused(tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('task = "strip-segmenter"\nvariant = "paper"\n[model]\narchitecture = "x"\n'
                      '[data]\nkind = "synthetic"\n[[phases]]\nepochs = 1\nloss = "bce"\nbatch = 1\n')  # fmt: skip
    done = CliRunner().invoke(app, ["strip-gate", "--recipe", str(recipe), "--device", "cpu"])
    assert isinstance(done.exception, KNOWN_ERRORS)
    assert "Use 'train strip-segmenter'" in str(done.exception)


def test_help_names_both_tasks():
    done = CliRunner().invoke(app, ["--help"])
    assert done.exit_code == 0
    assert "strip-gate" in done.output
    assert "strip-segmenter" in done.output


TILES = RECIPES / "tiles-segmenter-compact.toml"


@pytest.mark.parametrize("folder", ["elsewhere", 'it\'s "here"', "c:\\tiles"])
def test_data_of_the_recipes_kind_keep_the_recipes_settings(folder):
    written = load_recipe(TILES).data
    chosen = choose_recipe("strip-segmenter", "compact", TILES, f"tiles={folder}", ["data.test_ratio=0.4"], None).data
    assert chosen == {**written, "path": folder, "test_ratio": 0.4}
    assert len(written) > 2  # a recipe that says something of its data


def test_data_of_another_kind_take_nothing_from_the_recipe():
    chosen = choose_recipe("strip-segmenter", "compact", TILES, "synthetic", ["data.train_strips=2"], None)
    assert chosen.data == {"kind": "synthetic", "train_strips": 2}


def test_a_task_without_a_papers_network_says_which_there_is():
    with pytest.raises(ConfigError, match="found no paper's network for boundary, expected compact"):
        choose_recipe("boundary", "paper", None, None, [], None)
