"""A bundle made ready to take over: opened, held against the station's own terms, proven on the backend, and warm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

from runtime.bundle import open_bundle
from runtime.errors import BundleError
from runtime.golden.check import measure_golden, require_golden
from runtime.heads import head_of
from runtime.serving import E, Serving
from runtime.sized_engines import fits, fixed_size, size_text

if TYPE_CHECKING:
    from pathlib import Path

    from runtime.bundle import Bundle
    from runtime.engine import EngineSettings
    from runtime.facts import Facts
    from runtime.messages import ModelIdentity
    from runtime.spec import ModelSpec, Precision


@dataclass(frozen=True, slots=True)
class Terms:
    """What a bundle must fit to take over at a station.

    Attributes:
        task: Of the bundle that the station started with.
        backend: A key of `runtime.backends.BACKENDS`; a swap never changes it.
        precision: Which files are run; the bundle's preference where it is None.
        engines: How the engines are opened that run its golden frames; size, batch and slots are theirs.
        rules: For a verdict, as the station's configuration has them.
        facts: What is known of every frame.
    """

    task: str
    backend: str
    precision: Precision | None
    engines: EngineSettings
    rules: Mapping[str, Any]
    facts: Facts


@dataclass(frozen=True, slots=True)
class Successor(Generic[E]):
    """A bundle that could take over at any moment.

    Attributes:
        model: As its messages will name it.
        serving: Its engines, open and warm, and its answerer; they belong to the thread that made them ready.
    """

    model: ModelIdentity
    serving: Serving[E]


def make_ready(
    path: Path, terms: Terms, check_size: Callable[[Path, ModelSpec], None], open_engines: Callable[[Bundle], E]
) -> Successor[E]:
    """Open a bundle and everything of it, the cheapest refusals first.

    Args:
        path: Its folder.
        terms: What it must fit.
        check_size: Raises `BundleError` where the bundle does not take the station's frames.
        open_engines: Opens the engines that are to serve, and runs each once.

    Raises:
        BundleError: A file is missing or altered, it is of another task or for other frames, or its golden frames do
            not come out as they should.
        ConfigError: The station's rules do not fit it.
        EngineError: A graph does not run on the backend, or there is no memory for it.
    """
    bundle = open_bundle(path)
    _check_task(path, bundle.spec, terms.task)
    check_size(path, bundle.spec)
    model = bundle.identity(terms.backend, terms.precision)
    answerer = head_of(bundle.spec.task).answerer(bundle.spec, terms.rules, model, terms.facts)
    require_golden(measure_golden(bundle, terms.backend, terms.engines, terms.precision))
    return Successor(model, Serving(open_engines(bundle), answerer))


def check_frames(path: Path, spec: ModelSpec, size_px: tuple[int | None, int | None]) -> None:
    """Refuse a bundle that does not take the camera's frames.

    Raises:
        BundleError: It is for other rows or columns than `size_px`.
    """
    found_px = fixed_size(spec)
    if any(fixed not in (None, size) for fixed, size in zip(found_px, size_px, strict=True)):
        raise BundleError(
            f"bundle {path}: found one for frames of {size_text(found_px)}, expected {size_text(size_px)}, "
            "which the camera gives. Export it for this size."
        )


def check_pictures(path: Path, spec: ModelSpec, sizes_px: Iterable[tuple[int, int]]) -> None:
    """Refuse a bundle that does not take pictures that the one that serves takes.

    Args:
        path: Its folder.
        spec: Its spec.
        sizes_px: Rows and columns of the pictures that are to be expected.

    Raises:
        BundleError: It insists on another size.
    """
    fixed_px = fixed_size(spec)
    refused = [size_text(size_px) for size_px in sizes_px if not fits(fixed_px, size_px)]
    if refused:
        raise BundleError(
            f"bundle {path}: found one for pictures of {size_text(fixed_px)}, expected one that takes "
            f"{', '.join(refused)}, as the station does. Export it for this size, or restart the station with it."
        )


def _check_task(path: Path, spec: ModelSpec, task: str) -> None:
    if spec.task != task:
        raise BundleError(
            f"bundle {path}: found one of the task {spec.task!r}, expected {task!r}, which the station inspects. "
            "Stop the station to change its task."
        )
