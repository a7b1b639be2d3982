"""Whether a plan decides as the trained network did, on this very GPU: the record that lies beside the plan.

The same ONNX gives other figures on every GPU, since the kernels differ. So a plan serves only where its golden frames
were run on the device and compared in the task's units (`ferrosight parity`); the result is kept beside its manifest,
one file for each GPU, and names the plan and the golden frames by their digests.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from runtime.bundle import GOLDEN_FILE, ParityResult
from runtime.errors import BundleError, EngineError
from runtime.plans.in_bundle import Plan
from runtime.plans.manifest import FOLDER, EngineManifest, Gpu
from runtime.plans.preflight import Site
from runtime.spec import Digest, Strict, read_spec

SUFFIX = ".parity.json"


class PlanParity(Strict):
    """What was measured of a plan on a GPU."""

    schema_version: Literal["ferrosight.plan_parity/1"] = "ferrosight.plan_parity/1"
    plan_sha256: Digest
    golden_sha256: Digest
    gpu: Gpu
    version: str = Field(description="of the TensorRT that ran it")
    driver_cuda: str = Field(description="the newest CUDA that the driver served")
    measured_at: str = Field(description="UTC, ISO 8601")
    frames: int = Field(ge=1, description="golden frames that were compared")
    results: tuple[ParityResult, ...] = Field(min_length=1)


def record_file(manifest: EngineManifest, gpu: Gpu) -> str:
    """The record's path in the bundle."""
    card = re.sub(r"[^A-Za-z0-9]+", "_", gpu.name).strip("_")
    return f"{FOLDER}/{manifest.file_stem}.{card}{SUFFIX}"


def read_record(bundle: Path, manifest: EngineManifest, gpu: Gpu) -> PlanParity | None:
    """The record of a plan on a GPU; None where there is none.

    Raises:
        BundleError: There is one that is not valid.
    """
    path = bundle / record_file(manifest, gpu)
    try:
        return PlanParity.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise BundleError(
            f"bundle {bundle}: {path.name} is not a valid record of parity ({type(error).__name__}). Remove it and run "
            "'ferrosight parity' again."
        ) from error


def why_not(record: PlanParity | None, plan_sha256: str, golden_sha256: str | None, site: Site) -> str | None:
    """Why a record does not let a plan serve; None where it does.

    Args:
        record: Of the plan on the GPU, if there is one.
        plan_sha256: Of the plan.
        golden_sha256: Of the bundle's golden frames now; None where it has none.
        site: Where the plan would run.
    """
    if record is None:
        return "its parity was not measured on this GPU"
    if record.plan_sha256 != plan_sha256:
        return "its parity was measured of another plan"
    if record.golden_sha256 != golden_sha256:
        return "its parity was measured with other golden frames"
    if (record.gpu, record.version) != (site.gpu, site.version):
        return f"its parity was measured on {record.gpu.name} with {record.version}"
    failed = next((each for each in record.results if not each.holds), None)
    if failed is not None:
        return (
            f"its parity fails: found {failed.figure} {failed.value:.6g} of {failed.graph}, expected at most "
            f"{failed.limit:.6g}"
        )
    return None


def require_parity(owner: str, plan: Plan, site: Site) -> None:
    """Refuse a plan whose parity on this GPU was not measured, or does not hold.

    Raises:
        EngineError: It may not serve.
        BundleError: The record is not valid.
    """
    record = read_record(plan.bundle, plan.manifest, site.gpu)
    golden = read_spec(plan.bundle).files.get(GOLDEN_FILE)
    fault = why_not(record, plan.sha256, golden, site)
    if fault is not None:
        raise EngineError(
            f"{owner}: found {plan.manifest.plan_file}, but {fault}; expected it to decide as the trained network did. "
            f"Run: ferrosight parity {plan.bundle} --backend {site.flavour}"
        )
