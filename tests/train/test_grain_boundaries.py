"""Real grain boundaries: the published layouts, the split by sample, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import DataError
from train.datasets.grain_boundaries import NistGrainSettings, TbmSettings, open_nist_grain, open_tbm

DATA = Path(__file__).parents[3] / "shared" / "data"
TBM, NIST = DATA / "tbm_grain_boundary", DATA / "nist_gsat_grain"


def write_tiles(root: Path, names: list[str]) -> None:
    lines = np.zeros((32, 32), np.uint8)
    lines[8] = lines[:, 20] = 255
    for folder in ("train", "test"):
        for kind in ("images", "masks"):
            (root / folder / kind).mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.repeat(lines[..., None], 3, axis=2)).save(root / "train" / "images" / f"{name}.png")
        Image.fromarray(lines).save(root / "train" / "masks" / f"{name}.png")


def opened(root: Path):
    return open_tbm(TbmSettings(path=root, validation_samples=(2,), test_samples=(3,)), root)


def test_tiles_of_one_sample_are_never_on_both_sides(tmp_path: Path):
    write_tiles(tmp_path, ["1-0-0", "1-0-256", "2-0-0", "3-0-0", "3-256-0"])
    dataset = opened(tmp_path)
    samples = {
        part: {dataset.sample(index).figures["sample"] for index in indices} for part, indices in dataset.split.items()
    }
    assert samples == {"train": {1.0}, "validation": {2.0}, "test": {3.0}}
    assert dataset.class_names == ("boundary",)
    first = dataset.sample(0)
    assert first.masks.shape == (1, 32, 32)
    assert first.masks.sum() == 63


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (lambda root: (root / "train/masks/1-0-0.png").unlink(), "found no mask"),
        (lambda root: (root / "train/images/1-0-0.png").rename(root / "train/images/first.png"), "found no sample"),
        (lambda root: Image.new("L", (16, 16), 255).save(root / "train/masks/1-0-0.png"), "16x16"),
        (lambda root: Image.new("L", (32, 32), 255).save(root / "train/masks/1-0-0.png"), "100.0% of the picture"),
        (lambda root: Image.new("L", (32, 32), 1).save(root / "train/masks/1-0-0.png"), "0.0% of the picture"),
    ],
)
def test_a_bad_tile_is_refused_by_name(harm, error: str, tmp_path: Path):
    write_tiles(tmp_path, ["1-0-0", "2-0-0", "3-0-0"])
    harm(tmp_path)
    with pytest.raises(DataError, match=error):
        opened(tmp_path)


def test_nothing_to_train_on_is_refused(tmp_path: Path):
    write_tiles(tmp_path, ["2-0-0", "3-0-0"])
    with pytest.raises(DataError, match="every sample is kept"):
        opened(tmp_path)
    with pytest.raises(DataError, match="tbm"):
        opened(tmp_path / "nowhere")


def test_nists_files_are_asked_for_by_name(tmp_path: Path):
    with pytest.raises(DataError, match="line_grid"):
        open_nist_grain(NistGrainSettings(path=tmp_path), tmp_path)


@pytest.mark.skipif(not TBM.is_dir(), reason=f"needs {TBM}")
def test_the_published_tiles_are_split_by_sample(tmp_path: Path):
    dataset = open_tbm(TbmSettings(path=TBM), tmp_path)
    assert len(dataset) == 66
    parts = [{dataset.sample(index).figures["sample"] for index in part} for part in dataset.split.values()]
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]


@pytest.mark.skipif(not NIST.is_dir(), reason=f"needs {NIST}")
def test_nists_micrographs_carry_what_was_measured(tmp_path: Path):
    dataset = open_nist_grain(NistGrainSettings(path=NIST), tmp_path)
    assert [round(dataset.sample(index).figures["mean_intercept_px"], 1) for index in range(2)] == [37.2, 30.2]


def test_training_tiles_may_be_seen_through_colour_filters(tmp_path: Path):
    write_tiles(tmp_path, ["1-0-0", "2-0-0", "3-0-0"])
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    Image.fromarray(red).save(tmp_path / "train" / "images" / "1-0-0.png")
    settings = TbmSettings(
        path=tmp_path, validation_samples=(2,), test_samples=(3,), train_greys=("luma", "red", "blue")
    )
    dataset = open_tbm(settings, tmp_path)
    assert {part: len(indices) for part, indices in dataset.split.items()} == {"train": 3, "validation": 1, "test": 1}
    train = [dataset.sample(index) for index in dataset.split["train"]]
    assert [each.name for each in train] == ["1-0-0", "1-0-0-red", "1-0-0-blue"]
    assert [int(each.pixels[0, 0]) for each in train] == [60, 200, 0]
