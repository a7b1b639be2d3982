"""`ferrosight build` as it is typed: lists of targets and batches, and what is refused before anything is built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from export.cli import app
from runtime.errors import BundleError, ConfigError, EngineError
from tests.export.rtx import needs_rtx


def build(bundle: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["build", str(bundle), *options], catch_exceptions=False)


@needs_rtx
@pytest.mark.parametrize(
    "options",
    [
        ["--target", "8.9,8.6", "--batch", "1,8,4"],
        ["--target", "8.6", "--target", "8.9", "--batch", "8", "--batch", "4", "--batch", "1"],
        ["--target", "8.6, 8.9", "--target", "8.6", "--batch", "4,1", "--batch", "8,1"],
    ],
)
def test_targets_and_batches_are_lists_however_they_are_given(tiny: Path, options: list[str]) -> None:
    for plan in json.loads(build(tiny, *options, "--json").stdout):
        assert plan["manifest"]["targets"] == ["8.6", "8.9"]
        ranges = [profile["frames"] for profile in plan["manifest"]["profiles"]]
        assert [(each["smallest"][0], each["usual"][0], each["largest"][0]) for each in ranges] == [
            (1, 1, 1), (2, 4, 4), (5, 8, 8)
        ]  # fmt: skip


@needs_rtx
def test_a_precision_that_is_asked_for_is_built_and_no_other(tiny: Path) -> None:
    built = json.loads(build(tiny, "--target", "8.9", "--batch", "2", "--precision", "fp16", "--json").stdout)
    assert {plan["manifest"]["precision"] for plan in built} == {"fp16"}
    with pytest.raises(BundleError, match="found no fp32 file of graph 'gate'"):
        build(tiny, "--target", "8.9", "--batch", "2", "--precision", "fp32")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--batch", "0,8"], "--batch is '0,8', expected whole numbers from 1 up"),
        (["--batch", "1,x"], "--batch is '1,x', expected whole numbers from 1 up"),
        (["--batch", "1,,8"], "--batch is '1,,8', expected a list without gaps"),
        (["--target", "8.9,"], "--target is '8.9,', expected a list without gaps"),
        (["--height", "1,2,3"], "--height is '1,2,3', expected none: the graphs take"),
        (["--precision", "half"], "--precision is 'half', expected one of"),
        (["--cuda-api", "rocm"], "--cuda-api is 'rocm', expected one of cuda_bindings, pycuda"),
        (["--backend", "tensorrt", "--target", "8.9"], "expected none with tensorrt, which builds for the GPU of this"),
    ],
)
def test_what_is_mistyped_is_said_to_be(tiny: Path, options: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(tiny, *options)
    assert words in str(error.value)


@needs_rtx
def test_a_target_that_is_none_is_named(tiny: Path) -> None:
    with pytest.raises(EngineError, match=r"found the target 'ampere', expected a compute capability"):
        build(tiny, "--target", "8.6,ampere")
    with pytest.raises(EngineError, match=r"found the target 9\.9, expected one of 7\.5, .*, 12\.0"):
        build(tiny, "--target", "9.9")


def test_a_folder_that_is_no_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"found no readable spec\.json"):
        build(tmp_path / "nowhere")
