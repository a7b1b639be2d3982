"""A bundle, opened: every file is what its spec says, and its parity holds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from runtime.errors import BundleError
from runtime.messages import ModelIdentity
from runtime.spec import SPEC_FILE, ModelSpec, Precision, Strict, read_spec

PARITY_FILE = "parity.json"
GOLDEN_FILE = "golden.npz"

PREFERRED: tuple[Precision, ...] = ("int8", "fp16", "fp32", "fp8")
"""Which file of a graph is taken when nobody asks for one: who quantised it wants that one, then the one that ships,
then the lab's reference. FP8 comes last, because no CPU computes in it: only where there is nothing else."""


QUANTISED: frozenset[Precision] = frozenset({"int8", "fp8"})
"""What `ferrosight quantise` writes."""


class ParityResult(Strict):
    """How far one graph on one backend is from the network that was trained.

    A figure is a deviation, in the task's units: the smaller the better, 0 is the same.
    """

    graph: str = Field(description="role of the graph")
    precision: Precision
    backend: str
    figure: str = Field(description="what was compared, such as 'probability_max_abs' or 'dice_loss'")
    value: float
    limit: float = Field(description="the largest value that is allowed")
    passed: bool

    @property
    def holds(self) -> bool:
        """Whether the value is within its limit, whatever `passed` says; a NaN is not."""
        return self.passed and self.value <= self.limit


class Parity(Strict):
    """`parity.json`: the limits that the export set, and what it measured."""

    limits: dict[str, float] = Field(description="by figure")
    results: tuple[ParityResult, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files and parity were checked.

    Attributes:
        path: Its folder.
        spec: What it is.
        digest: SHA-256 of `spec.json`, which holds the digests of all other files.
        parity: How far its graphs are from the networks that were trained.
    """

    path: Path
    spec: ModelSpec
    digest: str
    parity: Parity

    def precision_of(self, role: str, asked: Precision | None = None) -> Precision:
        """The precision in which a graph is run: the one asked for, else the first of `PREFERRED`.

        Raises:
            BundleError: No such graph, or the bundle does not carry the precision asked for.
        """
        graph = self.spec.graphs.get(role)
        if graph is None:
            raise BundleError(
                f"bundle {self.path}: found no graph {role!r}, expected one of {sorted(self.spec.graphs)}. "
                "Give a bundle of the right task."
            )
        for precision in PREFERRED if asked is None else (asked,):
            if precision in graph.files:
                return precision
        raise BundleError(
            f"bundle {self.path}: found no {asked} file of graph {role!r}, expected one of "
            f"{sorted(graph.files)}. Ask for one of these, or make it. {self.how_to_have(asked)}"
        )

    def how_to_have(self, precision: Precision | None) -> str:
        """What gives a bundle of the same networks in a precision that this one does not carry."""
        if precision not in QUANTISED:
            return f"Export the bundle with {precision}."
        if any(each in QUANTISED for graph in self.spec.graphs.values() for each in graph.files):
            return f"Quantise the half bundle that this one was made of with --precision {precision}."
        name = self.path.with_name(f"{self.path.name}-{precision}")
        return f"Run: ferrosight quantise {self.path} --precision {precision} --out {name}"

    def model_file(self, role: str, precision: Precision | None = None) -> Path:
        """The ONNX file of a graph.

        Raises:
            BundleError: No such graph, or the bundle does not carry the precision asked for.
        """
        chosen = self.precision_of(role, precision)
        return self.path / self.spec.graphs[role].files[chosen]

    def identity(self, backend: str, precision: Precision | None = None) -> ModelIdentity:
        """Which model speaks, as every message says it.

        Args:
            backend: What runs the graphs.
            precision: What was asked for; None is the bundle's preference.

        Raises:
            BundleError: The bundle does not carry the precision asked for.
        """
        precisions = {self.precision_of(role, precision) for role in self.spec.graphs}
        return ModelIdentity(
            bundle=self.spec.name, digest=self.digest, backend=backend, precision="+".join(sorted(precisions))
        )


def open_bundle(path: Path) -> Bundle:
    """Open a bundle: read its spec, check the digest of every file, and refuse it unless its parity holds.

    Raises:
        BundleError: A file is missing, altered or not named in the spec, or a figure of its parity does not
            hold. The text names the file or the figure.
    """
    spec = read_spec(path)
    digest = digest_of(path / SPEC_FILE)
    inside = path.resolve()
    for name, expected in spec.files.items():
        file = path / name
        if not file.resolve().is_relative_to(inside):
            raise BundleError(
                f"bundle {path}: {SPEC_FILE} names {name!r}, expected a file inside the bundle. Do not use this bundle."
            )
        if not file.is_file():
            raise BundleError(
                f"bundle {path}: {name} is missing, expected SHA-256 {expected[:12]}... Copy the whole folder again."
            )
        found = digest_of(file)
        if found != expected:
            raise BundleError(
                f"bundle {path}: {name} was altered: found SHA-256 {found[:12]}..., expected "
                f"{expected[:12]}... Copy the bundle again, or export it again."
            )
    return Bundle(path=path, spec=spec, digest=digest, parity=_read_parity(path, spec))


def digest_of(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _read_parity(path: Path, spec: ModelSpec) -> Parity:
    if PARITY_FILE not in spec.files:
        raise BundleError(
            f"bundle {path}: {SPEC_FILE} has no digest of {PARITY_FILE}, expected one: a bundle is run only "
            "if its graphs were compared with what was trained. Export it again."
        )
    try:
        parity = Parity.model_validate_json((path / PARITY_FILE).read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise BundleError(
            f"bundle {path}: {PARITY_FILE} is not valid at {place}: {first['msg']}. Export the bundle again."
        ) from error
    for result in parity.results:
        if not result.holds:
            raise BundleError(
                f"bundle {path}: parity of {result.graph} ({result.precision}, {result.backend}) fails: "
                f"found {result.figure} {result.value:.6g}, expected at most {result.limit:.6g}. "
                "Export it again; do not run it."
            )
    compared = {(result.graph, result.precision) for result in parity.results}
    for role, graph in spec.graphs.items():
        for precision in graph.files:
            if (role, precision) not in compared:
                raise BundleError(
                    f"bundle {path}: {PARITY_FILE} has no figure of {role} ({precision}), expected every "
                    "graph to be compared. Export the bundle again."
                )
    return parity
