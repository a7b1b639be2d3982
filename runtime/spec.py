"""The contract of a bundle: what is trained, checked, shipped and swapped.

A bundle is a folder. `spec.json` holds one `ModelSpec`; every other file is named in it with its SHA-256.
The line owns this file and the lab obeys it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from runtime.errors import BundleError

SPEC_FILE = "spec.json"
SCHEMA = "ferrosight.bundle/1"

Precision = Literal["fp32", "fp16", "int8", "fp8"]
"""In which type a file holds its weights and states its arithmetic; an `int8` or `fp8` file is half elsewhere."""
Arithmetic = Literal["backend", "fp32"]
"""In what a CPU computes a half file: `backend` leaves it to the library, which takes bfloat16 where the CPU has it, up
to twice as fast; `fp32` has it widened. bfloat16 has three digits: enough for a mask, too few for some measures."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$")]


class Strict(BaseModel):
    """Frozen, and a key that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class TensorSpec(Strict):
    """One input or output of a graph; a dimension is a size, or the name of a free one (`N`, `H`, `W`)."""

    name: str
    dtype: Literal["uint8", "float32"]
    shape: tuple[int | str, ...]


class GraphSpec(Strict):
    """One ONNX graph: frames in as the camera gives them, small outputs in the task's terms.

    All scaling, grey-to-RGB, sigmoid or argmax and quantisation lie inside the graph.
    """

    architecture: str = Field(description="the network, such as resnet50 or unet-efficientnet-b3")
    variant: Literal["paper", "compact"]
    parameters: int = Field(ge=1, description="trainable parameters")
    files: dict[Precision, FileName] = Field(description="ONNX file of each precision", min_length=1)
    arithmetic: Arithmetic = Field(default="backend", description="in what a CPU computes the half file")
    input: TensorSpec
    outputs: tuple[TensorSpec, ...] = Field(min_length=1)


class Provenance(Strict):
    """Where the weights came from."""

    recipe: dict[str, Any] = Field(description="the recipe of each trained part, as it ran")
    data: dict[str, str] = Field(description="digest of the training data of each part")
    git_commit: str
    created_at: str = Field(description="UTC, ISO 8601")
    metrics: dict[str, float] = Field(description="validation figures at the chosen weights")


class ModelSpec(Strict):
    """What a bundle is: its task, its graphs, its settings and the digest of each of its files.

    Attributes:
        graphs: By role: `gate` and `segmenter` for the strip cascade, `model` where a task has one graph.
        settings: The head's settings; `runtime.heads` checks them against the task's own model.
        files: SHA-256 of every file of the bundle but `spec.json` itself, by its path in the bundle.
    """

    schema_version: Literal["ferrosight.bundle/1"] = Field(SCHEMA, alias="schema")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    task: str
    graphs: dict[str, GraphSpec] = Field(min_length=1)
    settings: dict[str, Any]
    provenance: Provenance
    files: dict[FileName, Digest]

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), validate_by_name=True, validate_by_alias=True
    )

    @model_validator(mode="after")
    def _graph_files_have_digests(self) -> ModelSpec:
        for role, graph in self.graphs.items():
            for precision, file in graph.files.items():
                if file not in self.files:
                    raise ValueError(f"graph {role}: file {file!r} ({precision}) has no digest in 'files'")
        return self

    def to_json(self) -> str:
        """The text of `spec.json`."""
        return self.model_dump_json(indent=2, by_alias=True) + "\n"


def read_spec(bundle: Path) -> ModelSpec:
    """Read `spec.json` of a bundle; the digests are not checked here (see `runtime.bundle`).

    Raises:
        BundleError: No such folder or file, or the text is not a valid spec.
    """
    path = bundle / SPEC_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BundleError(
            f"bundle {bundle}: found no readable {SPEC_FILE} ({error.strerror}), expected a bundle folder. "
            "Give the folder that 'ferrosight export' wrote."
        ) from error
    try:
        return ModelSpec.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise BundleError(
            f"bundle {bundle}: {SPEC_FILE} is not valid at {place}: {first['msg']}. "
            "Export the bundle again with this version of ferrosight."
        ) from error
