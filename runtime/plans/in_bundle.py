"""The plans in a bundle: which its spec vouches for, and their bytes, once they are the ones that it names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from runtime.errors import BundleError
from runtime.plans.manifest import FOLDER, PLAN_SUFFIX, SIDE_CAR_SUFFIX, EngineManifest, read_manifest
from runtime.spec import SPEC_FILE, ModelSpec


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that fits, read and checked.

    Attributes:
        bundle: Its bundle's folder.
        manifest: What it is.
        sha256: Of its bytes.
        data: The bytes; what is opened is what was checked, whatever happens to the file.
    """

    bundle: Path
    manifest: EngineManifest
    sha256: str
    data: bytes


def read_plans(bundle: Path, spec: ModelSpec) -> Mapping[str, EngineManifest]:
    """The manifests of a bundle's plans by the plan's path; those alone that the spec names with their digests.

    Raises:
        BundleError: A side-car is altered.
    """
    return MappingProxyType({manifest.plan_file: manifest for manifest in _signed(bundle, spec)})


def unreadable_plans(bundle: Path, spec: ModelSpec) -> list[str]:
    """What is wrong with side-cars that are as they were written, by another ferrosight; they keep no other plan out.

    Raises:
        BundleError: A side-car is altered.
    """
    return [str(found) for _, found in _side_cars(bundle, spec) if isinstance(found, BundleError)]


def unsigned_plans(bundle: Path, spec: ModelSpec) -> list[str]:
    """Plans in the folder that the spec does not name, by their paths: nobody vouches for them, and none is opened."""
    found = sorted((bundle / FOLDER).glob(f"*{PLAN_SUFFIX}"))
    return [name for file in found if (name := f"{FOLDER}/{file.name}") not in spec.files]


def read_plan(owner: str, bundle: Path, spec: ModelSpec, manifest: EngineManifest) -> Plan:
    """A plan's bytes, once they are the ones that the spec names.

    Raises:
        BundleError: They are not.
    """
    expected = spec.files[manifest.plan_file]
    try:
        data = (bundle / manifest.plan_file).read_bytes()
    except OSError as error:
        raise BundleError(
            f"{owner}: {manifest.plan_file} cannot be read ({error.strerror}), expected the plan that {SPEC_FILE} "
            "names. Run 'ferrosight build' again."
        ) from error
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != expected:
        raise BundleError(
            f"{owner}: {manifest.plan_file} was altered: found SHA-256 {sha256[:12]}..., expected {expected[:12]}... "
            "It was not opened. Find out who changed it, and copy the bundle again."
        )
    return Plan(bundle, manifest, sha256, data)


def _signed(bundle: Path, spec: ModelSpec) -> Iterator[EngineManifest]:
    for name, found in _side_cars(bundle, spec):
        if isinstance(found, BundleError):
            continue
        if found.side_car_file != name:
            raise _altered(bundle, name)
        if found.plan_file in spec.files:
            yield found


def _side_cars(bundle: Path, spec: ModelSpec) -> Iterator[tuple[str, EngineManifest | BundleError]]:
    """What each side-car that the spec names says, or why it says nothing; one that was altered is not parsed."""
    for name in sorted(spec.files):
        if not (name.startswith(f"{FOLDER}/") and name.endswith(SIDE_CAR_SUFFIX)):
            continue
        side_car = bundle / name
        if side_car.exists() and hashlib.sha256(side_car.read_bytes()).hexdigest() != spec.files[name]:
            raise _altered(bundle, name)
        try:
            yield name, read_manifest(side_car)
        except BundleError as error:
            yield name, error


def _altered(bundle: Path, name: str) -> BundleError:
    return BundleError(
        f"bundle {bundle}: {name} was altered: its digest or its name is not the one that was written. Copy the "
        "bundle again."
    )
