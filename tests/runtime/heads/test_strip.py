from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy import ndimage

from camera.base import Frame
from runtime.bundle import open_bundle
from runtime.cascade import FrameOutput
from runtime.errors import BundleError, ConfigError
from runtime.facts import Facts
from runtime.heads import HEADS, head_of
from runtime.heads.components import NEVER
from runtime.heads.strip import StripSettings, answerer, find_parts, levels_of, settings_of, wanted
from runtime.messages import ModelIdentity
from tests.bundles import CLASS_NAMES, PLAIN_SETTINGS, make_strip_bundle, seal

MODEL = ModelIdentity(bundle="tiny", digest="0" * 64, backend="openvino", precision="fp16")


def settings(**changes: Any) -> StripSettings:
    return StripSettings(**{**PLAIN_SETTINGS, **changes})


def envelope(sequence: int = 0) -> dict[str, Any]:
    return {
        "line": "l",
        "station": "s",
        "run": "r",
        "sequence": sequence,
        "captured_at": "2024-01-01T00:00:00.000000+00:00",
    }


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"pixel_thresholds": (0.5, 0.5)}, "pixel_thresholds has 2 entries for 4 class_names"),
            ({"min_size_px": (1,)}, "min_size_px has 1 entries"),
            ({"pixel_thresholds": (0.5, 0.5, 0.5, 0.0)}, r"must lie in \(0, 1\]"),
            ({"min_size_px": (1, 1, 1, -1)}, "must not be negative"),
            ({"class_names": ("a", "a", "b", "c")}, "class_names must differ"),
            ({"gate_mode": "loose"}, "settings.gate_mode"),
            ({"gate_treshold": 0.5}, "settings.gate_treshold: Extra inputs"),
        ],
    )
    def test_a_bundle_with_other_settings_is_refused(self, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
        spec = open_bundle(make_strip_bundle(tmp_path, 32, 64, settings=changes)).spec
        with pytest.raises(BundleError, match=words):
            settings_of(spec)

    def test_class_names_must_be_as_many_as_channels(self, tmp_path: Path) -> None:
        three = {"class_names": CLASS_NAMES[:3], "pixel_thresholds": (0.5,) * 3, "min_size_px": (1,) * 3}
        spec = open_bundle(make_strip_bundle(tmp_path, 32, 64, settings=three)).spec
        with pytest.raises(BundleError, match=r"3 class_names for a segmenter of \(4,\) channels"):
            settings_of(spec)

    def test_a_bundle_without_the_cascades_graphs_is_refused(self, tmp_path: Path) -> None:
        spec = open_bundle(make_strip_bundle(tmp_path, 32, 64)).spec
        lone = spec.model_copy(update={"graphs": {"model": spec.graphs["gate"]}})
        with pytest.raises(BundleError, match=r"found graphs \['model'\], expected a 'gate'"):
            settings_of(lone)


class TestLevels:
    @pytest.mark.parametrize(("threshold", "level"), [(0.5, 128), (0.2, 51), (1.0, 255), (0.001, 1), (128 / 255, 128)])
    def test_a_threshold_is_met_from_its_value_on(self, threshold: float, level: int) -> None:
        assert levels_of(settings(pixel_thresholds=(threshold,) * 4), 1.0) == (level,) * 4

    def test_the_hard_gate_opens_at_its_threshold(self) -> None:
        assert levels_of(settings(gate_threshold=0.7), 0.7) == (128,) * 4
        assert levels_of(settings(gate_threshold=0.7), 0.69) == (NEVER,) * 4

    def test_the_soft_gate_asks_more_of_pixels_the_less_it_believes(self) -> None:
        soft = settings(gate_mode="soft", pixel_thresholds=(0.5, 0.25, 0.1, 1.0))
        assert levels_of(soft, 1.0) == (128, 64, 26, 255)
        assert levels_of(soft, 0.75) == (255, 128, 51, NEVER)
        assert levels_of(soft, 0.0) == (NEVER, NEVER, 128, NEVER)

    @examples(deadline=None)
    @given(st.floats(0, 1), st.floats(0.01, 1), st.floats(1, 10))
    def test_the_soft_gate_is_the_formula_on_pixels(self, probability: float, threshold: float, c: float) -> None:
        soft = settings(gate_mode="soft", soft_gate_c=c, pixel_thresholds=(threshold,) * 4)
        t = threshold * c - threshold * (c - 1) * probability
        level = levels_of(soft, probability)[0]
        assert level == NEVER or level / 255 >= t - 1e-7
        assert level in (NEVER, 1) or (level - 1) / 255 < t

    @examples(deadline=None)
    @given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=5), st.sampled_from(["hard", "soft"]))
    def test_a_frame_is_segmented_if_a_pixel_could_count(self, figures: list[float], mode: str) -> None:
        using = settings(gate_mode=mode, pixel_thresholds=(0.5, 0.9, 0.3, 0.5))
        probabilities = np.array(figures, np.float32)
        expected = [min(levels_of(using, p)) < NEVER for p in probabilities.tolist()]
        assert wanted(using, probabilities).tolist() == expected


class TestParts:
    @examples(deadline=None)
    @given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.2, 0.5]), st.integers(1, 5))
    def test_parts_are_what_scipy_labels(self, seed: int, density: float, minimum: int) -> None:
        rng = np.random.default_rng(seed)
        probability = np.where(rng.random((2, 9, 14)) < density, rng.integers(128, 256, (2, 9, 14)), 0).astype(np.uint8)
        using = StripSettings(class_names=("a", "b"), pixel_thresholds=(0.5, 0.7), min_size_px=(minimum, minimum))
        found = find_parts(probability, 1.0, using)
        expected = []
        for number, level in enumerate((128, 179)):
            labels, _ = ndimage.label(probability[number] >= level, np.ones((3, 3)))
            for label, box in enumerate(ndimage.find_objects(labels), start=1):
                mask = labels[box] == label
                rows, cols = box
                if mask.sum() >= minimum or rows.start == 0 or rows.stop == 9:
                    total = int(probability[number][box][mask].sum())
                    expected.append((number + 1, rows.start, cols.start, rows.stop, cols.stop, total, mask.tolist()))
        got = [
            (p.class_id, p.first_row, p.first_col, p.stop_row, p.stop_col, p.probability_sum, p.mask.tolist())
            for p in found
        ]
        assert sorted(got, key=repr) == sorted(expected, key=repr)
        assert [part.area_px for part in found] == [int(part.mask.sum()) for part in found]

    def test_the_class_total_keeps_or_drops_a_class_as_one(self) -> None:
        probability = np.zeros((4, 8, 8), np.uint8)
        probability[0, 2, 2] = probability[0, 5, 5] = 255
        for minimum, count in ((2, 2), (3, 0)):
            using = settings(min_size_px=(minimum,) * 4, min_size_rule="class_total")
            assert len(find_parts(probability, 1.0, using)) == count

    def test_a_frame_that_the_gate_calls_clean_has_no_parts(self) -> None:
        assert find_parts(np.full((4, 8, 8), 255, np.uint8), 0.4, settings()) == []


class TestAnswerer:
    def frame(self, index: int, position_m: float = math.nan) -> Frame:
        return Frame("camera", index, 0, np.zeros((8, 16), np.uint8), position_m, f"{index}.png")

    def output(self, rows: slice, probability: float = 0.9) -> FrameOutput:
        planes = np.zeros((4, 8, 16), np.uint8)
        planes[2, rows, 3:5] = 255
        return FrameOutput(probability, planes)

    def answerer(self, tmp_path: Path, **rules: Any) -> Any:
        spec = open_bundle(make_strip_bundle(tmp_path, 32, 64)).spec
        return answerer(spec, rules, MODEL, Facts(mm_per_px=0.5))

    def test_a_defect_over_a_border_is_one_message_a_frame_and_one_id(self, tmp_path: Path) -> None:
        head = self.answerer(tmp_path)
        first = head.answer(self.frame(4, 1.0), self.output(slice(6, 8)))
        second = head.answer(self.frame(5, 1.004), self.output(slice(0, 3)))
        messages = [first.message(envelope(0), {"total": 1.0}), second.message(envelope(1), {"total": 1.0})]
        assert [message.verdict for message in messages] == ["defective", "defective"]
        assert [message.defects[0].defect_id for message in messages] == [1, 1]
        assert messages[1].defects[0].total_area_px == 10
        assert messages[1].defects[0].strip_box is not None
        assert messages[1].defects[0].strip_box.along_first_mm == pytest.approx(1003)
        assert messages[1].defects[0].strip_box.along_stop_mm == pytest.approx(1005.5)
        assert (messages[0].source, messages[0].position_m, messages[0].segmented) == ("4.png", 1.0, True)
        assert [dict(first.new_defects), dict(second.new_defects)] == [{"scratches": 1}, {}]

    def test_a_gap_begins_anew(self, tmp_path: Path) -> None:
        head = self.answerer(tmp_path)
        head.answer(self.frame(0), self.output(slice(6, 8)))
        head.gap()
        answer = head.answer(self.frame(1), self.output(slice(0, 3)))
        assert answer.message(envelope(), {}).defects[0].defect_id == 2

    def test_a_clean_frame(self, tmp_path: Path) -> None:
        answer = self.answerer(tmp_path).answer(self.frame(0), FrameOutput(0.25, None))
        message = answer.message(envelope(), {"total": 2.0})
        assert (message.verdict, message.segmented, message.defects) == ("clean", False, ())
        assert (message.defect_probability, message.position_m) == (0.25, None)
        assert message.latency_ms == {"total": 2.0}

    def test_rules_decide_and_every_defect_is_published(self, tmp_path: Path) -> None:
        head = self.answerer(tmp_path, classes=["patch"])
        message = head.answer(self.frame(0), self.output(slice(2, 4))).message(envelope(), {})
        assert (message.verdict, len(message.defects)) == ("clean", 1)

    def test_rules_of_an_unknown_class_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"found classes \['rust'\], expected some of pitting"):
            self.answerer(tmp_path, classes=["rust", "patch"])


def test_an_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(BundleError, match=r"task 'colour': found no such task, expected one of .*crack, .*strip"):
        head_of("colour")


@pytest.mark.parametrize("task", sorted(HEADS))
def test_every_head_gives_what_the_loop_asks(task: str) -> None:
    head = head_of(task)
    assert callable(head.open_pipeline)
    assert callable(head.answerer)


def test_seal_keeps_a_bundle_valid(tmp_path: Path) -> None:
    folder = seal(make_strip_bundle(tmp_path, 32, 64), name="other")
    assert open_bundle(folder).spec.name == "other"
