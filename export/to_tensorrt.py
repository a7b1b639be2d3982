"""From a bundle's typed ONNX to TensorRT plans, each with its manifest beside it.

TensorRT-RTX builds for compute capabilities, so a laptop without a GPU builds the plans of every machine. TensorRT
builds for the GPU that it runs on. Both read the same typed graph, half or INT8: a strongly typed network has no
precision to choose.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from export.bundle import write_spec
from export.plan_builder import build_plan
from export.time_left import TimeLeft
from runtime.bundle import Bundle, digest_of, open_bundle
from runtime.cuda import DEFAULT_API, CudaApi, open_cuda
from runtime.errors import BundleError, EngineError
from runtime.plans.chips import least_capability, numbers_of
from runtime.plans.flavours import FLAVOURS, FlavourName, cuda_of, import_flavour
from runtime.plans.manifest import CAPABILITY, FOLDER, EngineManifest, Gpu, Profile, ShapeRange
from runtime.plans.preflight import Site
from runtime.plans.user_cache import UserCache
from runtime.spec import Precision, TensorSpec

TARGETS = ("8.6", "8.9", "12.0")
"""The desktop GPUs of the RTX 30, 40 and 50 series."""
BATCHES = (1, 8, 32)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The shapes that a plan is built for.

    Attributes:
        batches: For which it is tuned, in any order; it runs every batch from 1 up to the largest.
        height_px: Smallest, most frequent and largest number of rows, where the graph leaves them free.
        width_px: The same of the columns.
    """

    batches: tuple[int, ...] = BATCHES
    height_px: tuple[int, int, int] | None = None
    width_px: tuple[int, int, int] | None = None

    def profiles(self, tensor: TensorSpec) -> tuple[Profile, ...]:
        """One profile for each batch, which begins above the batch before it: the narrower, the better its kernels.

        Raises:
            BundleError: A free size has no range.
        """
        tuned = sorted(set(self.batches))
        return tuple(
            {tensor.name: self._shapes(tensor, (below + 1, batch, batch))}
            for below, batch in zip([0, *tuned], tuned, strict=False)
        )

    def _shapes(self, tensor: TensorSpec, batch: tuple[int, int, int]) -> ShapeRange:
        free = {"N": batch, "H": self.height_px, "W": self.width_px}
        axes: list[tuple[int, int, int]] = []
        for size in tensor.shape:
            known = free.get(size) if isinstance(size, str) else (size, size, size)
            if known is None:
                raise BundleError(
                    f"build: the graph leaves {size} of its input {tensor.name!r} free, expected the smallest, usual "
                    f"and largest {size}. Give --height and --width."
                )
            axes.append(known)
        smallest, usual, largest = zip(*axes, strict=True)
        return ShapeRange(smallest=smallest, usual=usual, largest=largest)


@dataclass(frozen=True, slots=True)
class BuildState:
    """How far a build has come.

    Attributes:
        role: Of the graph that is being built.
        number: Of its plan, from 1.
        count: Of the plans that are to be built.
        phase: The builder's own name for what it does.
        done: Steps of the phase that are over.
        steps: Of the phase.
        left_s: Until all plans are built; None while nothing is known of it.
    """

    role: str
    number: int
    count: int
    phase: str
    done: int
    steps: int
    left_s: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """One built plan.

    Attributes:
        manifest: What it is.
        path: Where it lies.
        size_bytes: Of the file.
        built: Whether this call built it; otherwise it was there and sound.
    """

    manifest: EngineManifest
    path: Path
    size_bytes: int
    built: bool


def build_plans(
    bundle: Path,
    sizes: Sizes | None = None,
    *,
    flavour: FlavourName = "tensorrt_rtx",
    targets: Sequence[str] = TARGETS,
    precision: Precision | None = None,
    rebuild: bool = False,
    progress: Callable[[BuildState], None] = lambda _: None,
    gpu: Callable[[], Gpu] | None = None,
    cache: Path | None = None,
) -> tuple[Plan, ...]:
    """Build a plan of every graph of a bundle and put it, with its digest, into the bundle.

    A plan that is there, sound and has the same manifest is kept. Nothing is added to the bundle before all plans are
    built.

    Args:
        bundle: Its folder.
        sizes: Shapes to build for; None takes `BATCHES`.
        flavour: Which TensorRT builds.
        targets: Compute capabilities, for a flavour that builds ahead of time.
        precision: Which ONNX file; TensorRT computes in the types that it states. None takes the bundle's preference.
        rebuild: Build again what is there.
        progress: Told of each step; an error in it stops the build and comes out.
        gpu: Gives the GPU present, for a flavour that builds for it.
        cache: Folder for what is timed while a plan is built, and how long that took; None takes the user's.

    Raises:
        BundleError: The bundle is not sound, or lacks what is asked for.
        EngineError: TensorRT is not installed, no GPU is present, one does not compute in a graph's precision, the
            cache cannot be written, or a graph cannot be parsed or built.
    """
    opened = open_bundle(bundle)
    trt = import_flavour(flavour, "build")
    present = None if FLAVOURS[flavour].ahead_of_time else (gpu or present_gpu)()
    wanted = {
        role: EngineManifest(
            role=role,
            onnx_sha256=digest_of(opened.model_file(role, precision)),
            flavour=flavour,
            version=str(trt.__version__),
            cuda=cuda_of(flavour),
            targets=_in_order(targets) if FLAVOURS[flavour].ahead_of_time else (),
            gpu=present,
            precision=opened.precision_of(role, precision),
            profiles=(sizes or Sizes()).profiles(graph.input),
        )
        for role, graph in opened.spec.graphs.items()
    }
    for manifest in wanted.values():
        _require_chips(manifest)
    missing = {role: each for role, each in wanted.items() if rebuild or not _is_there(opened, each)}
    if missing:
        _try_out(bundle)
    timings = None
    if missing and present is not None and FLAVOURS[flavour].times_kernels:
        timings = UserCache.of_timings(cache, Site(flavour, str(trt.__version__), cuda_of(flavour), present))
    took = {role: _kept_seconds(cache, manifest) for role, manifest in missing.items()}
    left = TimeLeft({role: _seconds(kept) for role, kept in took.items()})
    built: dict[str, memoryview] = {}
    for number, (role, manifest) in enumerate(missing.items(), start=1):

        def tell(role: str, phase: str, done: int, steps: int, number: int = number) -> None:
            progress(BuildState(role, number, len(missing), phase, done, steps, left.left_s()))

        left.begin(role)
        model = opened.model_file(role, precision)
        built[role] = build_plan(trt, model, opened.spec.graphs[role], manifest, tell, timings)
        _keep_seconds(took[role], left.finish())
    _add(opened, [(wanted[role], plan) for role, plan in built.items()])
    return tuple(
        Plan(each, bundle / each.plan_file, (bundle / each.plan_file).stat().st_size, built=role in built)
        for role, each in wanted.items()
    )


def _kept_seconds(cache: Path | None, manifest: EngineManifest) -> UserCache | None:
    """Where the duration of a plan's build is kept; None where that cannot be: it is worth no failure."""
    try:
        return UserCache.of_build_seconds(cache, manifest)
    except EngineError:
        return None


def _seconds(kept: UserCache | None) -> float | None:
    try:
        return float((kept.read() if kept is not None else None) or b"")
    except ValueError:
        return None


def _keep_seconds(kept: UserCache | None, seconds: float) -> None:
    if kept is not None:
        kept.write(f"{seconds:.3f}".encode())


def _in_order(targets: Sequence[str]) -> tuple[str, ...]:
    """Each target once, rising, so that one choice has one plan."""
    for target in targets:
        if not re.fullmatch(CAPABILITY, target):
            raise EngineError(
                f"build: found the target {target!r}, expected a compute capability such as 8.9. Correct --target."
            )
    return tuple(sorted(set(targets), key=numbers_of))


def _require_chips(manifest: EngineManifest) -> None:
    """Refuse a plan for a GPU that does not compute in the graph's precision.

    Raises:
        EngineError: Names the GPU or the targets, and what to build instead.
    """
    made_for = manifest.targets if manifest.gpu is None else (manifest.gpu.capability,)
    short = {each: least for each in made_for if (least := least_capability(manifest.precision, each))}
    if not short:
        return
    rest = " ".join(f"--target {each}" for each in made_for if each not in short)
    advice = f"Build for the others alone ({rest}), and give these" if rest else "Give such GPUs"
    raise EngineError(
        f"build {manifest.role}: found an {manifest.precision} file for compute capability {', '.join(short)}, "
        f"expected {next(iter(short.values()))} and up. {advice} the half bundle that this one was made of, or INT8."
    )


def present_gpu(api: CudaApi = DEFAULT_API) -> Gpu:
    """The first GPU of this machine, named as the line will find it when it opens the plan.

    Args:
        api: By what it is driven.

    Raises:
        EngineError: There is none, or no driver.
    """
    try:
        with open_cuda(api) as cuda:
            return Gpu(name=cuda.gpu.name, capability=cuda.gpu.capability)
    except EngineError as error:
        raise EngineError(
            f"build: found no GPU ({error}), expected the one to build for. Build on the machine that runs the plan, "
            "or build with tensorrt_rtx, which needs none."
        ) from error


def _is_there(bundle: Bundle, manifest: EngineManifest) -> bool:
    """Opening the bundle has checked the digest of every file that it names, plans included."""
    return manifest.plan_file in bundle.spec.files and manifest.side_car_file in bundle.spec.files


def _try_out(bundle: Path) -> None:
    """Write to the plans' folder before minutes are spent on a plan that could not be kept."""
    try:
        (bundle / FOLDER).mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=bundle / FOLDER, prefix=".try-"):
            pass
    except OSError as error:
        raise BundleError(
            f"bundle {bundle}: {error.strerror or error}, expected a folder that can be written. "
            "Copy the bundle to such a place and build there."
        ) from error


def _add(bundle: Bundle, plans: Sequence[tuple[EngineManifest, memoryview]]) -> None:
    """Write plans and side-cars, then the spec that names them; a plan that no spec names is never opened."""
    digests: dict[str, str] = {}
    try:
        (bundle.path / FOLDER).mkdir(exist_ok=True)
        for manifest, plan in plans:
            for name, data in ((manifest.plan_file, plan), (manifest.side_car_file, manifest.to_json().encode())):
                _put(bundle.path / name, data)
                digests[name] = digest_of(bundle.path / name)
        if digests:
            write_spec(bundle.path, bundle.spec.model_copy(update={"files": {**bundle.spec.files, **digests}}))
    except OSError as error:
        raise BundleError(
            f"bundle {bundle.path}: {error.strerror or error}, expected a folder that can be written. "
            "Copy the bundle to such a place and build there."
        ) from error


def _put(path: Path, data: bytes | memoryview) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".plan-", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(data)
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
