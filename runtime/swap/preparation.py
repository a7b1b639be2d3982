"""A bundle made ready to take over: opened, held against the station's own terms, proven on the backend, and warm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

from runtime.bundle import open_bundle
from runtime.errors import BundleError
from runtime.golden.check import measure_golden, require_golden
from runtime.heads import head_of
from runtime.serving import E, Serving
from runtime.sized_engines import fixed_size

if TYPE_CHECKING:
    from pathlib import Path

    from runtime.engine import EngineSettings
    from runtime.facts import Facts
    from runtime.messages import ModelIdentity
    from runtime.pipeline import Pipeline
    from runtime.spec import ModelSpec, Precision


@dataclass(frozen=True, slots=True)
class Terms:
    """What a bundle must fit to take over at a station.

    Attributes:
        task: Of the bundle that the station started with.
        backend: A key of `runtime.backends.BACKENDS`; a swap never changes it.
        precision: Which files are run; the bundle's preference where it is None.
        engines: How its engines are opened; rows and columns are those of the frames.
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


def make_ready(path: Path, terms: Terms) -> Successor[Pipeline]:
    """Open a bundle and everything of it, the cheapest refusals first.

    Args:
        path: Its folder.
        terms: What it must fit.

    Raises:
        BundleError: A file is missing or altered, it is of another task or for other frames, or its golden frames do
            not come out as they should.
        ConfigError: The station's rules do not fit it.
        EngineError: A graph does not run on the backend, or there is no memory for it.
    """
    bundle = open_bundle(path)
    _check_terms(path, bundle.spec, terms)
    model = bundle.identity(terms.backend, terms.precision)
    head = head_of(bundle.spec.task)
    answerer = head.answerer(bundle.spec, terms.rules, model, terms.facts)
    require_golden(measure_golden(bundle, terms.backend, terms.engines, terms.precision))
    pipeline = head.open_pipeline(bundle, terms.backend, terms.engines, terms.precision)
    return Successor(model, Serving(pipeline, answerer))


def _check_terms(path: Path, spec: ModelSpec, terms: Terms) -> None:
    if spec.task != terms.task:
        raise BundleError(
            f"bundle {path}: found one of the task {spec.task!r}, expected {terms.task!r}, which the station inspects. "
            "Stop the station to change its task."
        )
    found, expected = fixed_size(spec), (terms.engines.height_px, terms.engines.width_px)
    if any(fixed not in (None, size) for fixed, size in zip(found, expected, strict=True)):
        raise BundleError(
            f"bundle {path}: found one for frames of {found[0]}x{found[1]}, expected {expected[0]}x{expected[1]}, "
            "which the camera gives. Export it for this size."
        )
