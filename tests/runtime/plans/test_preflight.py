"""A plan is refused for every single thing in which it can differ from what this machine needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.errors import BundleError, EngineError
from runtime.plans.manifest import EngineManifest, Gpu, ShapeRange
from runtime.plans.preflight import Need, Site, build_command, faults, find_plan, need_of, read_plans
from runtime.spec import GraphSpec, read_spec
from tests.runtime.backends.graphs import write_pair
from tests.software_plans import add_plan, make_bundle, manifest_of, sign, software_site

SIZE = (256, 1600)
NEED = Need("gate", "ab" * 32, "fp16", "frames", (8, 1, *SIZE))
GPU = Gpu(name="NVIDIA L4", capability="8.9")
RTX = Site("tensorrt_rtx", "1.7.1.11600", "13", GPU)
NATIVE = Site("tensorrt", "10.3.0.2600", None, GPU)
SHAPES = ShapeRange(smallest=(1, 1, *SIZE), usual=(8, 1, *SIZE), largest=(32, 1, *SIZE))


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
        profile={"frames": SHAPES},
    )


DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
CAPABILITIES = st.from_regex(r"\A\d{1,2}\.\d\Z", fullmatch=True)


def _other_shapes(draw: Any) -> Any:
    """Ranges in which 1 to 8 frames of 256x1600 do not all lie."""
    low = [1, 1, *SIZE]
    high = [32, 1, *SIZE]
    axis = draw(st.sampled_from([0, 2, 3]))
    if axis == 0:
        low[0], high[0] = draw(st.sampled_from([(2, 32), (1, 7), (4, 4), (9, 30)]))
    elif draw(st.booleans()):
        low[axis] = high[axis] = SIZE[axis - 2] + draw(st.integers(1, 500))
    else:
        low[axis] = high[axis] = draw(st.integers(1, SIZE[axis - 2] - 1))
    return ShapeRange(smallest=tuple(low), usual=tuple(low), largest=tuple(high))


OTHERS: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "role": ("role", st.from_regex(r"\A[a-z][a-z0-9_]{0,9}\Z").filter(lambda role: role != "gate")),
    "onnx_sha256": ("ONNX digest", DIGESTS.filter(lambda digest: digest != NEED.onnx_sha256)),
    "version": ("TensorRT version", st.text("0123456789.", min_size=1, max_size=9)),
    "cuda": ("CUDA", st.sampled_from(["11", "12", "14"])),
    "precision": ("precision", st.just("fp32")),
    "profile": (
        "profile",
        st.composite(_other_shapes)().map(lambda shapes: {"frames": shapes}) | st.just({"image": SHAPES}),
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


def test_the_other_flavour_is_refused() -> None:
    found = faults(fitting(RTX), NEED, NATIVE)
    assert any(text.startswith("TensorRT flavour: found tensorrt_rtx, expected tensorrt") for text in found)


@given(batch=st.integers(1, 32), height=st.integers(1, 300), width=st.integers(1, 1700))
def test_every_shape_within_the_profile_fits_and_no_other(batch: int, height: int, width: int) -> None:
    free = ShapeRange(smallest=(1, 1, 64, 64), usual=(4, 1, 128, 128), largest=(8, 1, *SIZE))
    manifest = fitting(RTX).model_copy(update={"profile": {"frames": free}})
    need = Need("gate", NEED.onnx_sha256, "fp16", "frames", (batch, 1, height, width))
    within = batch <= 8 and 64 <= height <= 256 and 64 <= width <= 1600
    assert (faults(manifest, need, RTX) == []) is within


class TestInABundle:
    @pytest.fixture
    def graph(self, tmp_path: Path) -> GraphSpec:
        graph = write_pair(tmp_path / "pair.onnx", dynamic_size=True)
        make_bundle(tmp_path / "pair.onnx", graph)
        return graph

    def add(self, folder: Path, graph: GraphSpec, batch: int, size: tuple[int, int] = (6, 8)) -> EngineManifest:
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
            f"Run: ferrosight build {tmp_path} --backend tensorrt_rtx --target 8.9 --batch 1,4,4 --height 6,6,6 "
            "--width 8,8,8"
        )

    def test_a_side_car_that_was_altered_is_refused(self, tmp_path: Path, graph: GraphSpec) -> None:
        manifest = self.add(tmp_path, graph, 2)
        wider = manifest.model_copy(update={"profile": {"frames": ShapeRange.model_validate(_wide(manifest))}})
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

    def test_the_command_builds_what_is_needed(self, tmp_path: Path, graph: GraphSpec) -> None:
        fixed = graph.model_copy(update={"input": graph.input.model_copy(update={"shape": ("N", 1, 6, 8)})})
        need = Need("model", "0" * 64, "fp16", "frames", (8, 1, 6, 8))
        assert build_command(Path("b"), fixed, need, NATIVE) == "ferrosight build b --backend tensorrt --batch 1,8,8"


def _wide(manifest: EngineManifest) -> dict[str, Any]:
    (shapes,) = manifest.profile.values()
    return {**shapes.model_dump(), "largest": (4096, *shapes.largest[1:])}
