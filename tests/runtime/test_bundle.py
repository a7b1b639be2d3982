from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.bundle import PARITY_FILE, digest_of, open_bundle
from runtime.errors import BundleError
from runtime.spec import SPEC_FILE
from tests.bundles import make_strip_bundle, seal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_strip_bundle(tmp_path / "bundle", 32, 64, precisions=("fp32", "fp16"))


def test_a_sound_bundle_opens(folder: Path) -> None:
    bundle = open_bundle(folder)
    assert bundle.digest == digest_of(folder / SPEC_FILE)
    assert bundle.model_file("gate").name == "gate.fp16.onnx"
    assert bundle.model_file("segmenter", "fp32").name == "segmenter.fp32.onnx"


def test_fp32_is_taken_where_nothing_else_is_there(tmp_path: Path) -> None:
    bundle = open_bundle(make_strip_bundle(tmp_path, 32, 64, precisions=("fp32",)))
    assert bundle.precision_of("gate") == "fp32"
    with pytest.raises(BundleError, match=r"no fp16 file of graph 'gate', expected one of \['fp32'\]"):
        bundle.model_file("gate", "fp16")


def test_an_unknown_graph_names_those_there_are(folder: Path) -> None:
    with pytest.raises(BundleError, match=r"no graph 'model', expected one of \['gate', 'segmenter'\]"):
        open_bundle(folder).model_file("model")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere: found no readable spec\.json"):
        open_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["gate.fp16.onnx", "golden.npz", PARITY_FILE])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    expected = digest_of(folder / name)[:12]
    (folder / name).unlink()
    with pytest.raises(BundleError, match=rf"{name} is missing, expected SHA-256 {expected}"):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["segmenter.fp16.onnx", "golden.npz", PARITY_FILE])
def test_an_altered_file_is_named_with_both_digests(folder: Path, name: str) -> None:
    expected = digest_of(folder / name)[:12]
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    found = digest_of(folder / name)[:12]
    with pytest.raises(BundleError, match=rf"{name} was altered: found SHA-256 {found}.*expected {expected}"):
        open_bundle(folder)


def test_a_file_outside_the_bundle_is_refused(folder: Path) -> None:
    spec = json.loads((folder / SPEC_FILE).read_text())
    (folder.parent / "stray.bin").write_bytes(b"x")
    spec["files"]["a/../../stray.bin"] = digest_of(folder.parent / "stray.bin")
    (folder / SPEC_FILE).write_text(json.dumps(spec))
    with pytest.raises(BundleError, match="expected a file inside the bundle"):
        open_bundle(folder)


def test_parity_must_be_in_the_spec(folder: Path) -> None:
    spec = json.loads((folder / SPEC_FILE).read_text())
    del spec["files"][PARITY_FILE]
    (folder / SPEC_FILE).write_text(json.dumps(spec))
    with pytest.raises(BundleError, match=r"no digest of parity\.json"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"value": 0.25, "passed": False}, "found gate_flips 0.25, expected at most 0"),
        ({"value": 0.25}, "found gate_flips 0.25, expected at most 0"),
        ({"passed": False}, "found gate_flips 0, expected at most 0"),
    ],
)
def test_a_figure_that_does_not_hold_is_named(folder: Path, change: dict[str, object], words: str) -> None:
    parity = json.loads((folder / PARITY_FILE).read_text())
    parity["results"][0] |= change
    (folder / PARITY_FILE).write_text(json.dumps(parity))
    with pytest.raises(BundleError, match=rf"parity of gate \(fp32, openvino\) fails: {words}"):
        open_bundle(seal(folder))


def test_every_graph_must_have_been_compared(folder: Path) -> None:
    parity = json.loads((folder / PARITY_FILE).read_text())
    parity["results"] = [result for result in parity["results"] if result["graph"] == "gate"]
    (folder / PARITY_FILE).write_text(json.dumps(parity))
    with pytest.raises(BundleError, match=r"no figure of segmenter \(fp32\)"):
        open_bundle(seal(folder))


def test_a_parity_of_another_form_is_refused(folder: Path) -> None:
    (folder / PARITY_FILE).write_text('{"limits": {}, "results": []}')
    with pytest.raises(BundleError, match=r"parity\.json is not valid at results"):
        open_bundle(seal(folder))
