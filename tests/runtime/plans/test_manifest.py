from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from runtime.errors import BundleError
from runtime.plans.manifest import EngineManifest, Gpu, ShapeRange, profile_of, read_manifest

ONE = ShapeRange(smallest=(1, 1, 256, 1600), usual=(1, 1, 256, 1600), largest=(1, 1, 256, 1600))
SHAPES = ShapeRange(smallest=(2, 1, 256, 1600), usual=(8, 1, 256, 1600), largest=(8, 1, 256, 1600))
MANIFEST = EngineManifest(
    role="gate",
    onnx_sha256="ab" * 32,
    flavour="tensorrt_rtx",
    version="1.7.1.116",
    cuda="13",
    targets=("8.6", "12.0"),
    precision="fp16",
    profiles=({"frames": ONE}, {"frames": SHAPES}),
)
NATIVE = MANIFEST.model_copy(
    update={
        "flavour": "tensorrt",
        "version": "10.3.0.30",
        "targets": (),
        "gpu": Gpu(name="NVIDIA Orin (nvgpu)", capability="8.7"),
    }
)


def test_the_file_name_tells_what_the_plan_is() -> None:
    assert MANIFEST.plan_file.startswith("engines/gate-tensorrt_rtx-1.7.1.116-sm86-sm120-fp16-b1-8-")
    assert MANIFEST.plan_file.endswith(".plan")
    assert NATIVE.plan_file.startswith("engines/gate-tensorrt-10.3.0.30-NVIDIA_Orin_nvgpu-sm87-fp16-b1-8-")


def test_the_file_name_is_stable_and_its_own() -> None:
    other = MANIFEST.model_copy(update={"onnx_sha256": "cd" * 32})
    again = EngineManifest.model_validate_json(MANIFEST.to_json())
    assert MANIFEST.plan_file == again.plan_file != other.plan_file


def test_the_side_car_comes_back(tmp_path: Path) -> None:
    for manifest in (MANIFEST, NATIVE):
        side_car = tmp_path / "plan.json"
        side_car.write_text(manifest.to_json(), encoding="utf-8")
        assert read_manifest(side_car) == manifest


def test_a_shape_is_run_with_the_first_profile_that_holds_it() -> None:
    ranges = MANIFEST.ranges("frames")
    found = {batch: profile_of(ranges, (batch, 1, 256, 1600)) for batch in (1, 2, 8, 9)}
    assert found == {1: 0, 2: 1, 8: 1, 9: None}
    assert profile_of(ranges, (1, 1, 256, 1601)) is None
    assert profile_of(ranges, (1, 256, 1600)) is None
    assert MANIFEST.ranges("image") == ()


def test_a_bad_side_car_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"plan gone: found no readable gone\.json"):
        read_manifest(tmp_path / "gone.json")
    (tmp_path / "old.json").write_text(MANIFEST.to_json().replace('"fp16"', '"half"'), encoding="utf-8")
    with pytest.raises(BundleError, match="plan old: its manifest is not valid at precision"):
        read_manifest(tmp_path / "old.json")


def test_a_plan_is_made_for_something() -> None:
    with pytest.raises(ValidationError, match="either targets or a gpu"):
        EngineManifest.model_validate({**MANIFEST.model_dump(), "targets": ()})


@pytest.mark.parametrize("profiles", [(), ({},), ({"frames": ONE}, {"image": SHAPES})])
def test_profiles_are_of_the_same_inputs(profiles: tuple[dict[str, ShapeRange], ...]) -> None:
    with pytest.raises(ValidationError, match="profiles"):
        EngineManifest.model_validate({**MANIFEST.model_dump(), "profiles": profiles})


def test_shapes_rise() -> None:
    with pytest.raises(ValidationError, match="do not rise"):
        ShapeRange(smallest=(8, 1, 4, 4), usual=(4, 1, 4, 4), largest=(8, 1, 4, 4))
