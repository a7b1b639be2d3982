from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.bundle import Draft, write_bundle
from runtime.bundle import GOLDEN_FILE, digest_of, open_bundle
from runtime.errors import BundleError
from runtime.golden.frames import Golden
from runtime.spec import SPEC_FILE
from tests.bundles import make_strip_bundle
from tests.export.test_parity import golden_of


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    source = make_strip_bundle(tmp_path / "source", 32, 64, precisions=("fp32", "fp16"))
    opened = open_bundle(source)
    onnx = [file for graph in opened.spec.graphs.values() for file in graph.files.values()]
    return Draft(
        name="fresh",
        task=opened.spec.task,
        graphs=opened.spec.graphs,
        onnx={file: source / file for file in onnx},
        settings=opened.spec.settings,
        provenance=opened.spec.provenance,
        golden=golden_of(source),
        parity=opened.parity,
    )


def failing(draft: Draft) -> Draft:
    first, *others = draft.parity.results
    wrong = first.model_copy(update={"value": 9.0, "passed": False})
    return replace(draft, parity=draft.parity.model_copy(update={"results": (wrong, *others)}))


def test_what_is_written_opens(draft: Draft, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "bundle"
    bundle = write_bundle(draft, out)
    assert bundle.path == out
    assert bundle.spec.name == "fresh"
    written = {path.name for path in out.iterdir()}
    assert written == {*bundle.spec.files, SPEC_FILE}
    assert all(digest_of(out / name) == digest for name, digest in bundle.spec.files.items())
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]


def test_failed_parity_writes_nothing(draft: Draft, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"parity of gate .* found .* 9, expected at most .* Nothing was written"):
        write_bundle(failing(draft), tmp_path / "out" / "bundle")
    assert not (tmp_path / "out").exists()


def test_what_ships_has_no_fp32(draft: Draft, tmp_path: Path) -> None:
    bundle = write_bundle(draft, tmp_path / "bundle", ship=True)
    assert not list(bundle.path.glob("*.fp32.onnx"))
    assert {tuple(graph.files) for graph in bundle.spec.graphs.values()} == {("fp16",)}
    assert {result.precision for result in bundle.parity.results} == {"fp16"}


def test_golden_keeps_as_many_frames_as_asked(draft: Draft, tmp_path: Path) -> None:
    assert isinstance(draft.golden, Golden)
    bundle = write_bundle(draft, tmp_path / "bundle", golden_frames=2)
    with np.load(bundle.path / GOLDEN_FILE) as arrays:
        assert {name: len(arrays[name]) for name in arrays} == {
            "frames": 2,
            "gate.defect_probability": 2,
            "segmenter.class_probability": 2,
        }


def test_a_bundle_that_is_there_stays(draft: Draft, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    first = write_bundle(draft, out)
    with pytest.raises(BundleError, match="found a bundle there, expected a free place"):
        write_bundle(replace(draft, name="second"), out)
    assert open_bundle(out).digest == first.digest


def test_a_bundle_that_is_there_is_replaced_whole(draft: Draft, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    write_bundle(draft, out)
    (out / "engines").mkdir()
    second = write_bundle(replace(draft, name="second"), out, ship=True, replace=True)
    assert open_bundle(out).spec.name == second.spec.name == "second"
    assert not (out / "engines").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "source"]


def test_a_write_that_breaks_off_leaves_the_old_one(draft: Draft, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    first = write_bundle(draft, out)
    gone = replace(draft, onnx={**draft.onnx, "gate.fp16.onnx": tmp_path / "nowhere.onnx"})
    with pytest.raises(BundleError, match="No such file"):
        write_bundle(gone, out, replace=True)
    assert open_bundle(out).digest == first.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "source"]


def test_other_folders_are_not_overwritten(draft: Draft, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "dog.png").write_bytes(b"dog")
    with pytest.raises(BundleError, match="found something that is no bundle"):
        write_bundle(draft, tmp_path / "photos", replace=True)
    assert (tmp_path / "photos" / "dog.png").read_bytes() == b"dog"
