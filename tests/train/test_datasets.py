"""Datasets: what they give, that it never changes, and how they refuse what is wrong."""

from pathlib import Path

import numpy as np
import pytest
import torch

from camera.steel.strip import SyntheticStrip
from runtime.errors import DataError
from runtime.rle import encode
from train.datasets import DATASETS
from train.pictures import save_png

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real pictures are not on this machine")


def grey(path, shape=(64, 96), level=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, np.full((*shape, 3), level, np.uint8))


def open_kind(kind, cache, **settings):
    return DATASETS[kind].open(DATASETS[kind].settings(**settings), cache)


# --- synthetic

SMALL = {"train_strips": 2, "validation_strips": 1, "frames_per_strip": 4, "height_px": 64, "width_px": 160}


def test_synthetic_frames_are_the_strips(tmp_path):
    dataset = open_kind("synthetic", tmp_path, **SMALL, frame_step=3, defects_per_frame=2.0)
    strip = SyntheticStrip(1001, height_px=64, width_px=160, defects_per_frame=2.0, look_alikes_per_frame=1.5)
    sample = dataset.sample(4 + 2)
    assert sample.name == "seed1001-frame6"
    np.testing.assert_array_equal(sample.pixels, strip.frame(6).pixels)
    np.testing.assert_array_equal(sample.masks, strip.frame(6).truth)
    assert dataset.split == {"train": range(8), "validation": range(8, 12), "test": range(12, 12)}
    for index in range(len(dataset)):
        np.testing.assert_array_equal(dataset.present[index], dataset.sample(index).masks.any(axis=(1, 2)))


def test_synthetic_cache_is_used_again_and_settings_change_the_digest(tmp_path):
    first = open_kind("synthetic", tmp_path, **SMALL)
    (written,) = tmp_path.iterdir()
    stamp = (written / "pixels.npy").stat().st_mtime_ns
    assert open_kind("synthetic", tmp_path, **SMALL).digest == first.digest
    assert (written / "pixels.npy").stat().st_mtime_ns == stamp
    assert open_kind("synthetic", tmp_path, **SMALL, look_alikes_per_frame=0).digest != first.digest


def test_synthetic_cache_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"expected a writable folder with .* GB free"):
        open_kind("synthetic", tmp_path / "file", **SMALL)


# --- severstal

SHAPE = (64, 96)


@pytest.fixture
def severstal(tmp_path):
    """Four frames, one of them clean, with a table."""
    for name in ("a", "b", "c", "d"):
        grey(tmp_path / "train_images" / f"{name}.png", SHAPE)
    mask = np.zeros(SHAPE, np.bool_)
    mask[10:20, 30:50] = True
    write_table(
        tmp_path, [f"a.png,1,{encode(mask)}", f"a.png,3,{encode(mask.copy()[::-1])}", "b.png,4,1 5", "d.png,2,7 1"]
    )
    return tmp_path


def write_table(folder, rows):
    (folder / "train.csv").write_text("\n".join(["ImageId,ClassId,EncodedPixels", *rows]) + "\n")


def open_severstal(folder, **settings):
    return open_kind("severstal", folder, path=folder, height_px=SHAPE[0], width_px=SHAPE[1], **settings)


def test_severstal_masks_come_from_the_table(severstal):
    dataset = open_severstal(severstal)
    sample = dataset.sample(0)
    assert sample.name == "a"
    assert sample.masks[0].sum() == sample.masks[2].sum() == 200
    assert sample.masks[0, 10, 30]
    assert dataset.present.tolist() == [
        [True, False, True, False],
        [False, False, False, True],
        [False, False, False, False],
        [False, True, False, False],
    ]


def test_severstal_split_is_whole_and_fixed(severstal):
    split = open_severstal(severstal, validation_ratio=0.25, test_ratio=0.25).split
    assert sorted(index for part in split.values() for index in part) == [0, 1, 2, 3]
    assert [len(split[part]) for part in ("train", "validation", "test")] == [2, 1, 1]
    assert split == open_severstal(severstal, validation_ratio=0.25, test_ratio=0.25).split


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("a.png,5,1 1", r"train\.csv: row 2: unknown class '5', expected 1 to 4"),
        ("a.png,1,6144 2", r"row 2: a\.png, class 1: RLE: found pair 1 '6144 2'"),
        ("a.png,1,", r"row 2: a\.png, class 1: found no pixels"),
        ("a.png,1,1 x", "row 2: .*'x'"),
        ("z.png,1,1 1", r"row 2: no picture 'z\.png' in train_images"),
        ("a.png,1", "row 2: found 2 fields, expected 3"),
        ("a.png,1,1 1\na.png,1,5 1", r"row 3: a\.png has class 1 twice"),
    ],
)
def test_severstal_names_the_row_at_fault(severstal, row, text):
    write_table(severstal, [row])
    with pytest.raises(DataError, match=text):
        open_severstal(severstal)


def test_severstal_without_its_table_or_with_another_is_an_error(severstal):
    (severstal / "train.csv").write_text("ImageId,EncodedPixels\n")
    with pytest.raises(DataError, match=r"row 1: found columns \['ImageId', 'EncodedPixels'\]"):
        open_severstal(severstal)
    (severstal / "train.csv").unlink()
    with pytest.raises(DataError, match=r"train\.csv: .*expected a readable table"):
        open_severstal(severstal)


def test_severstal_without_pictures_is_an_error(tmp_path):
    with pytest.raises(DataError, match="train_images"):
        open_severstal(tmp_path)
    (tmp_path / "train_images").mkdir()
    with pytest.raises(DataError, match="found no pictures"):
        open_severstal(tmp_path)


def test_severstal_picture_of_the_wrong_size_names_the_file(severstal):
    grey(severstal / "train_images" / "b.png", (64, 90))
    with pytest.raises(DataError, match=r"b\.png: found 64x90 px, expected 64x96"):
        open_severstal(severstal).sample(1)


def test_severstal_truncated_picture_names_the_file(severstal):
    path = severstal / "train_images" / "c.png"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"c\.png: found a truncated PNG"):
        open_severstal(severstal).sample(2)


@needs_real
def test_severstal_reads_real_frames():
    dataset = open_kind(
        "severstal", Path("unused"), path=REAL / "severstal_sample", validation_ratio=0, test_ratio=4 / 13
    )
    assert len(dataset) == 13
    assert [len(dataset.split[part]) for part in ("train", "validation", "test")] == [9, 0, 4]
    for index in range(len(dataset)):
        sample = dataset.sample(index)
        assert sample.pixels.shape == (256, 1600)
        np.testing.assert_array_equal(sample.masks.any(axis=(1, 2)), dataset.present[index])


# --- magnetic tiles

FOLDERS = ("MT_Free", "MT_Blowhole", "MT_Break", "MT_Crack", "MT_Fray", "MT_Uneven")


@pytest.fixture
def tiles(tmp_path):
    """Five tiles a class; every mask is white, that of clean tiles black."""
    from PIL import Image

    for folder in FOLDERS:
        for number in range(5):
            grey(tmp_path / folder / f"exp1_num_{number}.png", (40, 50 + number), 0 if folder == "MT_Free" else 255)
            Image.new("L", (50 + number, 40), 120).save(tmp_path / folder / f"exp1_num_{number}.jpg")
    return tmp_path


def test_tiles_take_their_class_from_the_folder_and_their_mask_from_the_png(tiles):
    dataset = open_kind("tiles", tiles, path=tiles)
    assert len(dataset) == 30
    sample = dataset.sample(5 * 2 + 3)
    assert sample.name == "MT_Break/exp1_num_3"
    assert sample.masks.any(axis=(1, 2)).tolist() == [False, True, False, False, False]
    assert sample.pixels.shape == (40, 53)
    assert not dataset.sample(3).masks.any()  # a clean tile's mask is not read


def test_a_defective_tile_without_a_marked_pixel_is_left_out(tiles):
    grey(tiles / "MT_Crack" / "exp1_num_1.png", (40, 51), 0)
    dataset = open_kind("tiles", tiles, path=tiles)
    assert len(dataset) == 29
    assert "MT_Crack/exp1_num_1" not in {dataset.sample(index).name for index in range(len(dataset))}


def test_tiles_are_split_within_each_class(tiles):
    split = open_kind("tiles", tiles, path=tiles, validation_ratio=0.2, test_ratio=0.2).split
    assert [len(split[part]) for part in ("train", "validation", "test")] == [18, 6, 6]
    assert {index // 5 for index in split["test"]} == set(range(6))


def test_pictures_of_one_tile_stay_on_one_side(tiles):
    for folder in FOLDERS:
        for number in range(5):
            for end in (".jpg", ".png"):
                source = tiles / folder / f"exp1_num_{number}{end}"
                (tiles / folder / f"exp2_num_{number}{end}").write_bytes(source.read_bytes())
    dataset = open_kind("tiles", tiles, path=tiles, test_ratio=0.4)
    numbers = {
        part: {dataset.sample(index).name.replace("exp2", "exp1") for index in dataset.split[part]}
        for part in ("train", "test")
    }
    assert not numbers["train"] & numbers["test"]
    assert len(dataset.split["test"]) == 24


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (
            lambda root: (root / "MT_Crack" / "exp1_num_2.png").unlink(),
            r"exp1_num_2\.jpg: found no mask exp1_num_2\.png",
        ),
        (lambda root: (root / "MT_Rust").mkdir(), "unknown class MT_Rust"),
        (lambda root: (root / "MT_Free").rename(root / "Free"), "MT_Free: found no JPG"),
        (
            lambda root: (root / "MT_Fray" / "exp1_num_2.jpg").rename(root / "MT_Fray" / "two.jpg"),
            r"two\.jpg: expected a name like",
        ),
    ],
)
def test_tiles_name_what_is_wrong(tiles, harm, text):
    harm(tiles)
    with pytest.raises(DataError, match=text):
        open_kind("tiles", tiles, path=tiles)


def test_tile_with_a_mask_of_another_size_names_the_file(tiles):
    grey(tiles / "MT_Break" / "exp1_num_3.png", (40, 10), 255)
    with pytest.raises(DataError, match=r"exp1_num_3\.png: found 40x10 px, expected 40x53"):
        open_kind("tiles", tiles, path=tiles).sample(13)


@needs_real
def test_tiles_read_real_ones():
    dataset = open_kind("tiles", Path("unused"), path=REAL / "mt_defect")
    assert len(dataset) == 1058  # one of 1,059 has an empty mask
    assert len(dataset.split["test"]) == pytest.approx(0.2 * len(dataset), abs=3)
    for plane in range(5):
        index = int(np.flatnonzero(dataset.present[:, plane])[0])
        assert torch.from_numpy(dataset.sample(index).masks).any(dim=2).any(dim=1).tolist() == [
            each == plane for each in range(5)
        ]
