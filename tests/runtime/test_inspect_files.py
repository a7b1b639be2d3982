from __future__ import annotations

import csv
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from camera.base import CameraError
from runtime.backends import BACKENDS, CPU_BACKENDS
from runtime.bundle import Bundle, open_bundle
from runtime.errors import BundleError, ConfigError, EngineError
from runtime.facts import Facts
from runtime.inspect_files import InspectSettings, InspectSummary, inspect_paths
from runtime.messages import MESSAGE, Inspected, Missed, RunEnded, RunStarted
from runtime.rle import decode
from tests.bundles import CLASS_GREY, make_strip_bundle, plain_frames, segmenter_reference

HEIGHT, WIDTH = 32, 64
REAL = Path(__file__).parents[3] / "shared/data/severstal_sample/train_images"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(make_strip_bundle(tmp_path_factory.mktemp("bundle"), HEIGHT, WIDTH))


@pytest.fixture(scope="module")
def any_size(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(make_strip_bundle(tmp_path_factory.mktemp("any"), HEIGHT, WIDTH, dynamic_size=True))


def picture(path: Path, *classes: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Write a picture with one square of each class; gives its pixels."""
    pixels = plain_frames(1, height, width)[0, 0]
    for place, class_id in enumerate(classes):
        pixels[4:10, 4 + 12 * place : 12 + 12 * place] = CLASS_GREY[class_id - 1]
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return pixels


def read(summary: InspectSummary) -> list[Any]:
    return [MESSAGE.validate_json(line) for line in summary.results.read_text().splitlines()]


def rows(summary: InspectSummary) -> list[dict[str, str]]:
    with summary.files["masks"].open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("backend", sorted(CPU_BACKENDS))
def test_a_folder_is_inspected_in_natural_order(tmp_path: Path, bundle: Bundle, backend: str) -> None:
    if not BACKENDS[backend].installed:
        pytest.skip(f"{BACKENDS[backend].library} is not installed")
    picture(tmp_path / "in/frame10.png", 2, 4)
    picture(tmp_path / "in/frame2.png")
    picture(tmp_path / "in/deep/er/frame1.png", 3)
    calls: list[tuple[int, int, str]] = []
    summary = inspect_paths(
        [tmp_path / "in"],
        bundle,
        tmp_path / "out",
        InspectSettings(backend=backend, batch=2, facts=Facts(mm_per_px=0.5)),
        progress=lambda done, total, path: calls.append((done, total, path.name)),
        now=lambda: datetime(2024, 5, 1, tzinfo=timezone.utc),
    )
    assert calls == [(1, 3, "frame1.png"), (2, 3, "frame2.png"), (3, 3, "frame10.png")]
    started, *inspected, ended = read(summary)
    assert isinstance(started, RunStarted)
    assert started.model == bundle.identity(backend)
    assert started.captured_at == "2024-05-01T00:00:00.000000+00:00"
    assert [message.sequence for message in (started, *inspected, ended)] == [0, 1, 2, 3, 4]
    assert [message.frame_index for message in inspected] == [0, 1, 2]
    assert [message.verdict for message in inspected] == ["defective", "clean", "defective"]
    assert [message.segmented for message in inspected] == [True, False, True]
    assert inspected[0].source == str(tmp_path / "in/deep/er/frame1.png")
    assert list(inspected[0].latency_ms) == ["read", "gate", "segment", "decide", "total"]
    assert [defect.class_id for defect in inspected[2].defects] == [2, 4]
    assert [defect.area_mm2 for defect in inspected[2].defects] == [12.0, 12.0]
    assert isinstance(ended, RunEnded)
    assert ended.coverage.model_dump() == {
        "frames_expected": 3,
        "frames_inspected": 3,
        "frames_missed": 0,
        "complete": True,
    }
    assert ended.defects == summary.defects == {"inclusion": 1, "patch": 1, "scratches": 1}
    assert (summary.images, summary.inspected, summary.missed) == (3, 3, 0)
    assert summary.verdicts == {"clean": 1, "defective": 2}
    assert summary.exit_code == 0
    assert (summary.backend, summary.precision) == (backend, "fp16")
    overlays = sorted(
        path.relative_to(summary.files["overlays"]).as_posix() for path in summary.files["overlays"].rglob("*.png")
    )
    assert overlays == ["deep/er/frame1.png", "frame10.png"]


def test_masks_are_the_segmenters_pixels(tmp_path: Path, bundle: Bundle) -> None:
    pixels = picture(tmp_path / "one.png", 1, 3, 3)
    summary = inspect_paths([tmp_path / "one.png"], bundle, tmp_path / "out")
    planes = segmenter_reference(pixels[None, None])[0] >= 128
    found = rows(summary)
    assert [(row["ImageId"], row["ClassId"]) for row in found] == [("one.png", "1"), ("one.png", "3")]
    for row in found:
        assert np.array_equal(decode(row["EncodedPixels"], pixels.shape), planes[int(row["ClassId"]) - 1])


def test_what_cannot_be_inspected_is_missed_and_named(tmp_path: Path, bundle: Bundle) -> None:
    picture(tmp_path / "in/1.png", 1)
    picture(tmp_path / "in/2.png", height=HEIGHT + 8)
    whole = (tmp_path / "in/1.png").read_bytes()
    (tmp_path / "in/3.png").write_bytes(whole[: len(whole) // 2])
    picture(tmp_path / "in/4.png", 2)
    summary = inspect_paths([tmp_path / "in"], bundle, tmp_path / "out")
    _, first, size, torn, last, ended = read(summary)
    assert isinstance(first, Inspected)
    assert isinstance(size, Missed)
    assert (size.first_index, size.stop_index, size.reason) == (1, 2, "wrong_size")
    assert "found 40x64 pixels (rows x columns), expected 32x64" in size.detail
    assert isinstance(torn, Missed)
    assert (torn.first_index, torn.stop_index, torn.reason) == (2, 3, "unreadable")
    assert "3.png" in torn.detail
    assert isinstance(last, Inspected)
    assert ended.coverage.complete
    assert (summary.inspected, summary.missed, summary.exit_code) == (2, 2, 1)
    assert summary.missed_by_reason == {"wrong_size": 1, "unreadable": 1}


def test_a_bundle_for_any_size_takes_each_picture_as_it_is(tmp_path: Path, any_size: Bundle) -> None:
    shapes = [(16, 24), (16, 24), (40, 80), (8, 8), (20, 20), (30, 30), (16, 24)]
    for number, (height, width) in enumerate(shapes):
        picture(tmp_path / f"in/{number}.png", 2, height=height, width=width)
    summary = inspect_paths([tmp_path / "in"], any_size, tmp_path / "out")
    messages = read(summary)[1:-1]
    assert [message.verdict for message in messages] == ["defective"] * 7
    assert summary.exit_code == 0


def test_results_do_not_depend_on_the_batch(tmp_path: Path, bundle: Bundle) -> None:
    for number in range(5):
        picture(tmp_path / f"in/{number}.png", *range(1, number + 1))
    found = []
    for batch in (1, 2, 5):
        summary = inspect_paths([tmp_path / "in"], bundle, tmp_path / f"out{batch}", InspectSettings(batch=batch))
        found.append([message.model_dump(exclude={"captured_at", "latency_ms"}) for message in read(summary)[1:-1]])
    assert found[0] == found[1] == found[2]


def test_a_defect_never_goes_on_in_the_next_file(tmp_path: Path, bundle: Bundle) -> None:
    for number in range(2):
        pixels = plain_frames(1, HEIGHT, WIDTH)[0, 0]
        pixels[:, 5:9] = CLASS_GREY[2]
        (tmp_path / "in").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"in/{number}.png"), pixels)
    defects = [m.defects[0] for m in read(inspect_paths([tmp_path / "in"], bundle, tmp_path / "out"))[1:-1]]
    assert [defect.defect_id for defect in defects] == [1, 2]
    assert not any(defect.continues_above for defect in defects)


def test_files_of_one_name_do_not_overwrite_each_other(tmp_path: Path, bundle: Bundle) -> None:
    picture(tmp_path / "a/x.png", 1)
    picture(tmp_path / "b/x.png", 2)
    picture(tmp_path / "b/x.bmp", 3)
    summary = inspect_paths([tmp_path / "a", tmp_path / "b/x.png", tmp_path / "b/x.bmp"], bundle, tmp_path / "out")
    assert [row["ImageId"] for row in rows(summary)] == ["x.png", "x_2.png", "x_3.bmp"]
    assert sorted(path.name for path in summary.files["overlays"].iterdir()) == ["x.png", "x_2.png", "x_3.png"]


@pytest.mark.parametrize(("choice", "count"), [("defective", 1), ("all", 2), ("none", 0)])
def test_overlays_are_drawn_as_asked(tmp_path: Path, bundle: Bundle, choice: Any, count: int) -> None:
    picture(tmp_path / "in/1.png", 1)
    picture(tmp_path / "in/2.png")
    summary = inspect_paths([tmp_path / "in"], bundle, tmp_path / "out", InspectSettings(overlays=choice))
    assert len(list(summary.files["overlays"].rglob("*.png"))) == count


def test_an_interrupt_names_what_was_left(tmp_path: Path, bundle: Bundle) -> None:
    for number in range(4):
        picture(tmp_path / f"in/{number}.png")

    def interrupt(done: int, total: int, path: Path) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inspect_paths([tmp_path / "in"], bundle, tmp_path / "out", InspectSettings(batch=1), progress=interrupt)
    messages = [MESSAGE.validate_json(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    *_, missed, ended = messages
    assert isinstance(missed, Missed)
    assert (missed.first_index, missed.stop_index, missed.reason) == (2, 4, "stopped")
    assert isinstance(ended, RunEnded)
    assert (ended.reason, ended.coverage.complete) == ("stopped", True)


def test_engines_that_fail_on_a_size_miss_its_pictures(
    tmp_path: Path, any_size: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runtime.heads import strip

    def fails_when_tall(bundle: Bundle, backend: str, settings: Any, precision: Any = None) -> Any:
        if settings.height_px > HEIGHT:
            raise EngineError("engine: found 40 rows, expected a multiple of 32.")
        return open_pipeline(bundle, backend, settings, precision)

    open_pipeline = strip.open_pipeline
    monkeypatch.setattr(strip, "open_pipeline", fails_when_tall)
    picture(tmp_path / "in/1.png", 1)
    picture(tmp_path / "in/2.png", 1, height=40)
    picture(tmp_path / "in/3.png", 1)
    summary = inspect_paths([tmp_path / "in"], any_size, tmp_path / "out")
    assert summary.missed_by_reason == {"engine_failed": 1}
    assert [message.kind for message in read(summary)[1:-1]] == ["inspected", "missed", "inspected"]


class TestRefusals:
    def test_a_path_that_is_not_there(self, tmp_path: Path, bundle: Bundle) -> None:
        with pytest.raises(CameraError, match="found nothing there"):
            inspect_paths([tmp_path / "none"], bundle, tmp_path / "out")

    def test_a_folder_without_pictures(self, tmp_path: Path, bundle: Bundle) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in/notes.txt").write_text("no picture")
        with pytest.raises(CameraError, match="found no picture"):
            inspect_paths([tmp_path / "in"], bundle, tmp_path / "out")

    def test_an_unknown_backend(self, tmp_path: Path, any_size: Bundle) -> None:
        picture(tmp_path / "1.png")
        with pytest.raises(EngineError, match="no such backend"):
            inspect_paths([tmp_path / "1.png"], any_size, tmp_path / "out", InspectSettings(backend="abacus"))

    def test_a_precision_that_the_bundle_lacks(self, tmp_path: Path, any_size: Bundle) -> None:
        picture(tmp_path / "1.png")
        with pytest.raises(BundleError, match="no fp32 file"):
            inspect_paths([tmp_path / "1.png"], any_size, tmp_path / "out", InspectSettings(precision="fp32"))

    def test_rules_of_an_unknown_class(self, tmp_path: Path, bundle: Bundle) -> None:
        picture(tmp_path / "1.png")
        settings = InspectSettings(rules={"classes": ["rust"]})
        with pytest.raises(ConfigError, match="rust"):
            inspect_paths([tmp_path / "1.png"], bundle, tmp_path / "out", settings)

    def test_an_output_that_is_a_file(self, tmp_path: Path, bundle: Bundle) -> None:
        picture(tmp_path / "1.png")
        (tmp_path / "out").write_text("in the way")
        with pytest.raises(ConfigError, match=r"out: .*expected a folder that can be written"):
            inspect_paths([tmp_path / "1.png"], bundle, tmp_path / "out")


def test_real_frames(tmp_path: Path) -> None:
    if not REAL.is_dir():
        pytest.skip(f"no real frames at {REAL}")
    coarse = make_strip_bundle(tmp_path / "coarse", dynamic_size=True, settings={"min_size_px": (200,) * 4})
    summary = inspect_paths([REAL], open_bundle(coarse), tmp_path / "out", InspectSettings(overlays="none"))
    assert (summary.images, summary.inspected, summary.exit_code) == (13, 13, 0)
