"""Writing a bundle: everything or nothing, and only if its parity holds."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.parity import check
from runtime.bundle import GOLDEN_FILE, PARITY_FILE, Bundle, Parity, digest_of, open_bundle
from runtime.errors import BundleError
from runtime.golden.frames import Golden
from runtime.spec import SCHEMA, SPEC_FILE, GraphSpec, ModelSpec, Precision, Provenance

SHIPPED: tuple[Precision, ...] = ("fp16",)
"""What leaves the lab: the half file alone serves every backend."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A bundle that is not written yet.

    Attributes:
        name: Of the bundle.
        task: Of the bundle.
        graphs: Contracts by role; their `files` name the ONNX files in the bundle.
        onnx: Where each of these files lies now.
        settings: The head's settings.
        provenance: Where the weights came from.
        golden: Frames and torch outputs.
        parity: What was measured on all golden frames.
    """

    name: str
    task: str
    graphs: Mapping[str, GraphSpec]
    onnx: Mapping[str, Path]
    settings: Mapping[str, Any]
    provenance: Provenance
    golden: Golden
    parity: Parity

    def shipped(self) -> Draft:
        """The same without what stays in the lab."""
        graphs = {
            role: graph.model_copy(
                update={"files": {name: file for name, file in graph.files.items() if name in SHIPPED}}
            )
            for role, graph in self.graphs.items()
        }
        kept = {file for graph in graphs.values() for file in graph.files.values()}
        results = tuple(result for result in self.parity.results if result.precision in SHIPPED)
        return Draft(
            name=self.name,
            task=self.task,
            graphs=graphs,
            onnx={file: path for file, path in self.onnx.items() if file in kept},
            settings=self.settings,
            provenance=self.provenance,
            golden=self.golden,
            parity=self.parity.model_copy(update={"results": results}),
        )


def write_bundle(
    draft: Draft, out: Path, *, ship: bool = False, replace: bool = False, golden_frames: int | None = None
) -> Bundle:
    """Write a bundle and open it again as the line will.

    It is written beside its place and renamed, so that no reader ever sees half of it.

    Args:
        draft: What to write.
        out: The bundle's folder.
        ship: Leave out the FP32 files.
        replace: Put it in the place of a bundle that is there.
        golden_frames: How many frames `golden.npz` keeps; parity was measured on all. None keeps all.

    Raises:
        BundleError: Parity fails, the place is taken, or the folder cannot be written.
    """
    check(draft.parity.results)
    _check_place(out, replace=replace)
    chosen = draft.shipped() if ship else draft
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise _unwritable(out, error) from error
    try:
        # mkdtemp makes a private folder; a bundle is for everyone who may read its parent.
        temporary.chmod(0o755)
        _fill(chosen, temporary, golden_frames)
        open_bundle(temporary)
        _move(temporary, out)
    except OSError as error:
        raise _unwritable(out, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return open_bundle(out)


def write_spec(bundle: Path, spec: ModelSpec) -> None:
    """Put `spec.json` in place, whole or not at all.

    Raises:
        OSError: The folder cannot be written.
    """
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=bundle, prefix=".spec-", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(spec.to_json())
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(bundle / SPEC_FILE)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _fill(draft: Draft, folder: Path, golden_frames: int | None) -> None:
    for name, source in draft.onnx.items():
        shutil.copyfile(source, folder / name)
    arrays: dict[str, Any] = draft.golden.arrays(golden_frames)
    np.savez_compressed(folder / GOLDEN_FILE, **arrays)
    (folder / PARITY_FILE).write_text(draft.parity.model_dump_json(indent=2) + "\n", encoding="utf-8")
    spec = ModelSpec(
        schema=SCHEMA,
        name=draft.name,
        task=draft.task,
        graphs=dict(draft.graphs),
        settings=dict(draft.settings),
        provenance=draft.provenance,
        files={name: digest_of(folder / name) for name in (*sorted(draft.onnx), GOLDEN_FILE, PARITY_FILE)},
    )
    write_spec(folder, spec)


def _check_place(out: Path, *, replace: bool) -> None:
    if not out.exists():
        return
    if not (out / SPEC_FILE).is_file():
        raise BundleError(
            f"bundle {out}: found something that is no bundle, expected a free place. Give another --out."
        )
    if not replace:
        raise BundleError(
            f"bundle {out}: found a bundle there, expected a free place. Give another --out, or --replace it."
        )


def _move(temporary: Path, out: Path) -> None:
    """Rename into place; an old bundle is moved aside first and removed last."""
    aside = temporary.with_name(f"{temporary.name}-old")
    if out.exists():
        out.rename(aside)
    try:
        temporary.rename(out)
    except OSError:
        if aside.exists():
            aside.rename(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _unwritable(out: Path, error: OSError) -> BundleError:
    return BundleError(
        f"bundle {out}: {error.strerror or error}, expected a folder that can be written. Give another --out."
    )
