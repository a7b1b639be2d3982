"""In which types a GPU computes, by its compute capability; asked before a plan is built or looked for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.spec import Precision

LEAST_CAPABILITY: Mapping[Precision, str] = MappingProxyType({"fp8": "8.9"})
"""The first compute capability for files of a precision; every GPU that TensorRT serves takes the others."""


def least_capability(precision: Precision, capability: str) -> str | None:
    """The compute capability that a precision asks for, where one falls short of it; None where it does not.

    >>> least_capability("fp8", "8.6"), least_capability("fp8", "12.0"), least_capability("int8", "8.6")
    ('8.9', None, None)
    """
    least = LEAST_CAPABILITY.get(precision)
    return least if least is not None and numbers_of(capability) < numbers_of(least) else None


def numbers_of(capability: str) -> tuple[int, ...]:
    """Major and minor number, by which capabilities are compared: 8.9 comes before 12.0."""
    return tuple(map(int, capability.split(".")))
