"""A plan is refused for every single thing in which it can differ from what this machine needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.errors import BundleError, EngineError
from runtime.plans.in_bundle import read_plans, unreadable_plans
from runtime.plans.manifest import EngineManifest, Gpu, Profile, ShapeRange
from runtime.plans.preflight import Need, Site, build_command, faults, find_plan, need_of
from runtime.spec import GraphSpec, Precision, read_spec
from tests.runtime.backends.graphs import write_pair
from tests.software_plans import add_plan, make_bundle, manifest_of, profiles_of, sign, software_site

SIZE = (256, 1600)
NEED = Need("gate", "ab" * 32, "fp16", "frames", (8, 1, *SIZE))
GPU = Gpu(name="NVIDIA L4", capability="8.9")
RTX = Site("tensorrt_rtx", "1.7.1.11600", "13", GPU)
NATIVE = Site("tensorrt", "10.3.0.2600", None, GPU)
PROFILES = profiles_of("frames", SIZE, (1, 8, 32))


def fitting(site: Site) -> EngineManifest:
    ahead = site.flavour == "tensorrt_rtx"
    return EngineManifest(
        role="gate",
        onnx_sha256=NEED.onnx_sha256,
        flavour=site.flavour,
        version=site.version,
        cuda=site.cuda,
        targets=("8.6", "8.9") if ahead else (),
        gpu=None if ahead else GPU,
        precision="fp16",
        profiles=PROFILES,
    )


DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
CAPABILITIES = st.from_regex(r"\A\d{1,2}\.\d\Z", fullmatch=True)


def _range(low: Sequence[int], high: Sequence[int]) -> ShapeRange:
    return ShapeRange(smallest=tuple(low), usual=tuple(high), largest=tuple(high))


@st.composite
def _without_a_batch(draw: st.DrawFn) -> tuple[Profile, ...]:
    """Profiles of which none holds one of the batches from 1 to 8."""
    bare = draw(st.integers(1, 8))
    below = [(1, draw(st.integers(1, bare - 1)))] if bare > 1 else []
    above = [(bare + 1, draw(st.integers(bare + 1, 40)))] if bare < 8 or not below else []
    return tuple({"frames": _range((low, 1, *SIZE), (high, 1, *SIZE))} for low, high in draw(_some(below + above)))


@st.composite
def _of_another_size(draw: st.DrawFn) -> tuple[Profile, ...]:
    """Profiles of every batch, in which rows or columns are too few or too many."""
    axis = draw(st.sampled_from([2, 3]))
    size = draw(st.integers(1, 3000).filter(lambda size: size != SIZE[axis - 2]))
    return tuple(
        {"frames": _range(*((*each[:axis], size, *each[axis + 1 :]) for each in (shapes.smallest, shapes.largest)))}
        for profile in PROFILES
        for shapes in profile.values()
    )


def _some(ranges: list[tuple[int, int]]) -> st.SearchStrategy[list[tuple[int, int]]]:
    return st.lists(st.sampled_from(ranges), min_size=1, unique=True)


OTHERS: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "role": ("role", st.from_regex(r"\A[a-z][a-z0-9_]{0,9}\Z").filter(lambda role: role != "gate")),
    "onnx_sha256": ("ONNX digest", DIGESTS.filter(lambda digest: digest != NEED.onnx_sha256)),
    "version": ("TensorRT version", st.text("0123456789.", min_size=1, max_size=9)),
    "cuda": ("CUDA", st.integers(9, 99).filter(lambda major: major != 13).map(str)),
    "precision": ("precision", st.sampled_from(sorted({*get_args(Precision)} - {"fp16"}))),
    "profiles": (
        "profile",
        _without_a_batch() | _of_another_size() | st.just(profiles_of("image", SIZE, (1, 8, 32))),
    ),
    "flags": ("builder flags", st.lists(st.sampled_from(["version_compatible", "refit"]), min_size=1).map(tuple)),
}
"""By field, the word of the refusal and every other value that the field can have."""


@pytest.mark.parametrize("site", [RTX, NATIVE], ids=lambda site: site.flavour)
def test_what_was_built_for_this_machine_fits(site: Site) -> None:
    assert faults(fitting(site), NEED, site) == []


def test_every_field_of_a_manifest_is_looked_at() -> None:
    alone = {"schema_version", "flavour", "targets", "gpu"}  # the first has one value; the others have tests below
    assert set(EngineManifest.model_fields) == alone | set(OTHERS)


# Texts by a pattern are slow to draw the first time, and slower beside a training.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(site=st.sampled_from([RTX, NATIVE]), fields=st.sets(st.sampled_from(sorted(OTHERS)), min_size=1), data=st.data())
def test_each_difference_is_named_and_nothing_else(site: Site, fields: set[str], data: st.DataObject) -> None:
    update = {field: data.draw(OTHERS[field][1], label=field) for field in fields}
    found = faults(fitting(site).model_copy(update=update), NEED, site)
    assert sorted(text.partition(":")[0] for text in found) == sorted(OTHERS[field][0] for field in fields)
    assert all("found" in text and "expected" in text for text in found)


@given(name=st.sampled_from(["NVIDIA L4", "NVIDIA L40", "Orin"]), capability=CAPABILITIES)
def test_a_native_plan_runs_on_its_own_gpu_alone(name: str, capability: str) -> None:
    gpu = Gpu(name=name, capability=capability)
    found = faults(fitting(NATIVE).model_copy(update={"gpu": gpu}), NEED, NATIVE)
    assert bool(found) == (gpu != GPU)


@given(targets=st.lists(CAPABILITIES, min_size=1, max_size=4), capability=CAPABILITIES)
def test_an_rtx_plan_runs_on_its_targets_alone(targets: list[str], capability: str) -> None:
    site = Site("tensorrt_rtx", RTX.version, RTX.cuda, Gpu(name="any", capability=capability))
    found = faults(fitting(RTX).model_copy(update={"targets": tuple(targets)}), NEED, site)
    assert bool(found) == (capability not in targets)


@pytest.mark.parametrize(("built", "site"), [(RTX, NATIVE), (NATIVE, RTX)])
def test_the_other_flavour_is_refused(built: Site, site: Site) -> None:
    found = faults(fitting(built), NEED, site)
    assert f"TensorRT flavour: found {built.flavour}, expected {site.flavour}" in found


BATCHES = st.sets(st.integers(1, 40), min_size=1, max_size=4)


@given(tuned=BATCHES, batch=st.integers(1, 40), height=st.integers(1, 300), width=st.integers(1, 1700))
def test_every_shape_within_the_profiles_fits_and_no_other(
    tuned: set[int], batch: int, height: int, width: int
) -> None:
    profiles: list[Profile] = []
    for low, high in zip([0, *sorted(tuned)], sorted(tuned), strict=False):
        profiles.append({"frames": _range((low + 1, 1, 64, 64), (high, 1, *SIZE))})
    manifest = fitting(RTX).model_copy(update={"profiles": tuple(profiles)})
    need = Need("gate", NEED.onnx_sha256, "fp16", "frames", (batch, 1, height, width))
    within = batch <= max(tuned) and 64 <= height <= 256 and 64 <= width <= 1600
    assert (faults(manifest, need, RTX) == []) is within


def test_a_plan_of_another_input_is_named() -> None:
    other = fitting(RTX).model_copy(update={"profiles": profiles_of("image", SIZE, (8,))})
    assert faults(other, NEED, RTX) == ["profile: found image, expected frames"]


def test_a_batch_between_two_profiles_is_named() -> None:
    one, _, many = PROFILES
    (fault,) = faults(fitting(RTX).model_copy(update={"profiles": (one, many)}), NEED, RTX)
    assert fault == (
        "profile: found 1x1x256x1600 to 1x1x256x1600 and 9x1x256x1600 to 32x1x256x1600, expected 1x1x256x1600 to "
        "8x1x256x1600 within; none holds 2x1x256x1600"
    )


class TestInABundle:
    @pytest.fixture
    def graph(self, tmp_path: Path) -> GraphSpec:
        graph = write_pair(tmp_path / "pair.onnx", dynamic_size=True)
        make_bundle(tmp_path / "pair.onnx", graph)
        return graph

    def add(
        self, folder: Path, graph: GraphSpec, batch: int | tuple[int, ...], size: tuple[int, int] = (6, 8)
    ) -> EngineManifest:
        manifest = manifest_of("model", folder / "pair.onnx", graph, size, batch)
        add_plan(folder, manifest, folder / "pair.onnx")
        return manifest

    def find(self, folder: Path, graph: GraphSpec, batch: int = 4) -> Any:
        return find_plan("test", folder / "pair.onnx", graph, (6, 8), batch, software_site())

    def test_the_plan_nearest_to_what_is_run_is_taken(self, tmp_path: Path, graph: GraphSpec) -> None:
        small, large = self.add(tmp_path, graph, 8), self.add(tmp_path, graph, 32)
        assert self.find(tmp_path, graph, 4).manifest == small
        assert self.find(tmp_path, graph, 9).manifest == large
        assert set(read_plans(tmp_path, read_spec(tmp_path))) == {small.plan_file, large.plan_file}

    def test_a_plan_that_is_tuned_for_what_is_run_comes_before_a_smaller_one(
        self, tmp_path: Path, graph: GraphSpec
    ) -> None:
        self.add(tmp_path, graph, 4)
        self.add(tmp_path, graph, 16)
        tuned = self.add(tmp_path, graph, (1, 4, 32))
        assert self.find(tmp_path, graph, 4).manifest == tuned
        assert self.find(tmp_path, graph, 5).manifest != tuned

    def test_a_plan_of_another_ferrosight_is_told_and_keeps_no_other_out(
        self, tmp_path: Path, graph: GraphSpec
    ) -> None:
        old = self.add(tmp_path, graph, 8)
        (tmp_path / old.side_car_file).write_text(old.to_json().replace("ferrosight.plan/2", "ferrosight.plan/1"))
        sign(tmp_path, old.side_car_file)
        with pytest.raises(EngineError, match=r"its manifest is not valid at schema_version.*Run: ferrosight build"):
            self.find(tmp_path, graph)
        new = self.add(tmp_path, graph, 4)
        assert self.find(tmp_path, graph).manifest == new
        assert set(read_plans(tmp_path, read_spec(tmp_path))) == {new.plan_file}
        (told,) = unreadable_plans(tmp_path, read_spec(tmp_path))
        assert old.file_stem in told

    def test_all_that_is_there_is_told(self, tmp_path: Path, graph: GraphSpec) -> None:
        self.add(tmp_path, graph, 2)
        self.add(tmp_path, graph, 8, (9, 9))
        (tmp_path / "engines" / "stranger.plan").write_bytes(b"who knows")
        with pytest.raises(EngineError) as refusal:
            self.find(tmp_path, graph)
        said = str(refusal.value)
        assert said.count("profile: found") == 2
        assert "engines/stranger.plan: not in spec.json" in said
        assert said.endswith(
            f"Run: ferrosight build {tmp_path} --backend tensorrt_rtx --target 8.9 --batch 1,4 --height 6,6,6 "
            "--width 8,8,8"
        )

    def test_a_side_car_that_was_altered_is_refused(self, tmp_path: Path, graph: GraphSpec) -> None:
        manifest = self.add(tmp_path, graph, 2)
        wider = manifest.model_copy(update={"profiles": profiles_of("frames", (6, 8), (4096,))})
        (tmp_path / manifest.side_car_file).write_text(wider.to_json())
        with pytest.raises(BundleError, match=r"\.json was altered"):
            self.find(tmp_path, graph)
        sign(tmp_path, manifest.side_car_file)  # even one that the spec names: its name is of another manifest
        with pytest.raises(BundleError, match=r"\.json was altered"):
            self.find(tmp_path, graph)

    def test_a_plan_that_is_gone_is_said_to_be(self, tmp_path: Path, graph: GraphSpec) -> None:
        manifest = self.add(tmp_path, graph, 4)
        (tmp_path / manifest.plan_file).unlink()
        with pytest.raises(BundleError, match="cannot be read"):
            self.find(tmp_path, graph)

    def test_a_file_that_is_no_graph_has_no_need(self, tmp_path: Path, graph: GraphSpec) -> None:
        (tmp_path / "other.onnx").write_bytes(b"")
        with pytest.raises(BundleError, match="does not name as a graph's"):
            need_of("test", tmp_path / "other.onnx", graph, (6, 8), 1)

    def test_a_gpu_without_fp8_is_told_what_to_serve_instead(self, tmp_path: Path) -> None:
        model = tmp_path / "pair.onnx"
        graph = write_pair(model).model_copy(update={"files": {"fp8": model.name}})
        make_bundle(model, graph)
        site = Site("tensorrt_rtx", RTX.version, RTX.cuda, Gpu(name="NVIDIA A10", capability="8.6"))
        with pytest.raises(
            EngineError, match=r"found NVIDIA A10 \(8.6\), expected compute capability 8.9 and up for fp8"
        ):
            find_plan("test", model, graph, SIZE, 8, site)
        with pytest.raises(EngineError, match=r"found no plan for NVIDIA L4 \(8.9\).*--target 8.9"):
            find_plan("test", model, graph, SIZE, 8, RTX)

    def test_the_command_builds_what_is_needed(self, tmp_path: Path, graph: GraphSpec) -> None:
        fixed = graph.model_copy(update={"input": graph.input.model_copy(update={"shape": ("N", 1, 6, 8)})})
        need = Need("model", "0" * 64, "fp16", "frames", (8, 1, 6, 8))
        assert build_command(Path("b"), fixed, need, NATIVE) == "ferrosight build b --backend tensorrt --batch 1,8"
        both = fixed.model_copy(update={"files": {"fp16": "half.onnx", "int8": "int8.onnx"}})
        assert build_command(Path("b"), both, need, NATIVE).endswith("--batch 1,8 --precision fp16")
