"""Ablations: every file plans real trainings; a small one trains, goes on where it was, and is judged."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from ferrosight import KNOWN_ERRORS
from runtime.errors import ConfigError
from train import ablation
from train.ablation import ABLATIONS, Outcome, load_ablation, plan, to_table
from train.ablation_measures import ALONE, CASCADE_ROWS, GATED, NOTHING, PERFECT
from train.ablation_report import draw, to_markdown
from train.cli import app
from train.models import find_blueprint, job_of
from train.recipe import load_recipe

NAMES = sorted(path.stem for path in ABLATIONS.glob("*.toml"))

STRIPS = """
  "data.train_strips=1", "data.validation_strips=1", "data.test_strips=1", "data.frames_per_strip=5",
  "data.height_px=64", "data.width_px=160", "data.defects_per_frame=2.0", "settings.validation_frames=4",
"""
SMALL = f"""
title = "Small strips"
paper = "nothing"
scaled_down = "All of it."
recipe = "strip-segmenter-compact"
seeds = [1, 2]
measure = "MEASURE"
set = [{STRIPS}]

[[figures]]
name = "dice"
title = "competition Dice"
better = "higher"

[[figures]]
name = "images_per_s"
title = "pictures a second"
better = "higher"

[[cases]]
name = "segmenter"
set = ["phases=[{{epochs=1, loss='bce_dice', batch=2, crops=[[64, 64]], steps=1}}]"]

[[cases]]
name = "other"
OTHER

[published.segmenter]
dice = 0.48
"""
TVERSKY = """set = ["phases=[{epochs=1, loss='tversky', batch=2, crops=[[64, 64]], steps=1}]"]"""
GATE = """recipe = "strip-gate-compact"
set = ["settings.min_truth_px=[1]", "phases=[{epochs=1, loss='bce', batch=2, steps=1}]"]"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of ablations in place of the shipped one."""
    monkeypatch.setattr(ablation, "ABLATIONS", tmp_path / "ablations")
    (tmp_path / "ablations").mkdir()

    def write(measure: str, other: str) -> list[str]:
        text = SMALL.replace("MEASURE", measure).replace("OTHER", other)
        (tmp_path / "ablations" / "small.toml").write_text(text)
        return ["ablation", "small", "--device", "cpu", "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "c")]

    return write


@pytest.mark.parametrize("name", NAMES)
def test_every_ablation_plans_trainings_of_networks_and_rows_that_exist(name, tmp_path):
    found = load_ablation(name)
    planned = plan(found, tmp_path)
    assert len(planned) == len(found.cases) * len(found.seeds)
    assert len({each.folder for each in planned}) == len(planned)
    for each in planned:
        find_blueprint(job_of(each.recipe.task), each.recipe.model.architecture)
        assert any(key.startswith("test_") and value for key, value in each.recipe.data.items())
    recipes = [each.recipe.model_dump_json() for each in planned if each.seed == found.seeds[0]]
    assert len(set(recipes)) == len(recipes)
    rows = set(CASCADE_ROWS) if found.measure == "cascade" else {case.name for case in found.cases}
    assert set(found.published) <= rows


def test_an_ablation_trains_once_goes_on_and_says_what_it_found(own, tmp_path):
    command = own("each", TVERSKY)
    first = CliRunner().invoke(app, [*command, "--seed", "1", "--json"])
    assert first.exit_code == 0, first.output
    rows = json.loads(first.stdout)["rows"]
    assert set(rows) == {"segmenter", "other"}
    assert 0.0 <= rows["segmenter"]["mean"]["dice"] <= 1.0
    assert rows["segmenter"]["mean"]["images_per_s"] > 0.0
    assert rows["segmenter"]["published"] == {"dice": 0.48}
    assert rows["segmenter"]["parameters"] == 712_488
    weights = tmp_path / "out" / "segmenter-seed1" / "best.safetensors"
    trained = weights.stat().st_mtime_ns

    # The second call has a seed more; the first seed's trainings are left as they are.
    second = CliRunner().invoke(app, command)
    assert second.exit_code == 0, second.output
    assert weights.stat().st_mtime_ns == trained
    table = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(table["rows"]["other"]["seeds"]) == {"1", "2"}
    assert (tmp_path / "out" / "results.png").stat().st_size > 1000
    assert "| segmenter | 712,488 |" in (tmp_path / "out" / "results.md").read_text()

    changed = CliRunner().invoke(app, [*command, "--set", "optimiser.learning_rate=1e-5"])
    assert isinstance(changed.exception, KNOWN_ERRORS)
    assert "holds a training by another recipe" in str(changed.exception)


def test_a_training_that_was_stopped_in_its_first_epoch_begins_again(own, tmp_path):
    command = own("each", TVERSKY)
    planned = plan(load_ablation("small"), tmp_path / "out")
    planned[0].folder.mkdir(parents=True)
    (planned[0].folder / "recipe.json").write_text(planned[0].recipe.model_dump_json())
    (planned[0].folder / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"run\.json is not valid"):  # a damaged record is not thrown away in silence
        CliRunner().invoke(app, [*command, "--seed", "1"], catch_exceptions=False)


def test_a_cascade_is_judged_with_and_without_its_gate(own):
    done = CliRunner().invoke(app, [*own("cascade", GATE), "--seed", "1", "--json"])
    assert done.exit_code == 0, done.output
    rows = {row: each["seeds"]["1"] for row, each in json.loads(done.stdout)["rows"].items()}
    assert list(rows) == [NOTHING, ALONE, GATED, PERFECT]
    # A gate that knows keeps every true mask and removes only false ones.
    assert rows[PERFECT]["dice"] >= rows[ALONE]["dice"]
    assert rows[PERFECT]["dice_defective"] == pytest.approx(rows[ALONE]["dice_defective"])
    assert rows[NOTHING]["dice_defective"] == 0.0
    assert 0.0 <= rows[GATED]["specificity_at_recall"] <= 1.0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["fracture-classmaps"], "did you mean 'fracture-classmap'"),
        (["crack-losses", "--case", "dise"], "no case 'dise', did you mean 'dice'"),
        (["crack-losses", "--set", "data.train_picture=1"], "train_picture"),
    ],
)
def test_wrong_arguments_are_errors_that_the_front_door_knows(arguments, text, tmp_path):
    done = CliRunner().invoke(app, ["ablation", *arguments, "--device", "cpu", "--out", str(tmp_path)])
    assert isinstance(done.exception, KNOWN_ERRORS)
    assert text in str(done.exception)


def test_all_ablations_are_listed():
    listed = CliRunner().invoke(app, ["ablation"]).stdout
    assert [line.split()[0] for line in listed.splitlines()] == NAMES


def test_a_file_that_names_a_figure_it_does_not_compare_is_refused(tmp_path):
    (tmp_path / "wrong.toml").write_text(SMALL.replace("MEASURE", "each").replace("OTHER", "") + "iou = 1.0\n")
    with pytest.raises(ConfigError, match=r"published\.segmenter has iou, expected dice"):
        load_ablation("wrong", tmp_path)


def test_the_table_has_means_ranges_and_the_papers_figures(tmp_path):
    found = load_ablation("fracture-classmap")
    rows = {
        "with-classmap": {1: {"average_error": 0.01}, 2: {"average_error": 0.03}},
        "without-classmap": {1: {"average_error": 0.05}},
    }
    outcome = Outcome("fracture-classmap", found, rows, {"with-classmap": 361_761}, {"with-classmap": 61.6})
    text = to_markdown(outcome)
    assert "| with-classmap | 361,761 | 62 | 0.0200 (0.0100-0.0300) | 0.0156 |" in text
    assert "| without-classmap |  |  | 0.0500 | 0.0198 |" in text
    assert "share within" not in text  # no row has it
    assert to_table(outcome)["rows"]["with-classmap"]["mean"]["average_error"] == pytest.approx(0.02)
    draw(outcome, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_an_ablations_recipe_is_the_one_of_the_recipes_folder_with_its_changes(tmp_path):
    (first, *_) = plan(load_ablation("crack-losses"), tmp_path, ["optimiser.learning_rate=0.5"])
    plain = load_recipe(ablation.RECIPES / "crack-compact.toml")
    assert first.recipe.optimiser.learning_rate == 0.5
    assert first.recipe.model == plain.model
    assert first.recipe.phases != plain.phases
