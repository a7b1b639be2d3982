"""The small models that messages are made of."""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256, in hex."""


class Wire(BaseModel):
    """Frozen, a key that does not exist is an error, and so is NaN, which JSON cannot say."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),
        validate_by_name=True,
        validate_by_alias=True,
        json_schema_serialization_defaults_required=True,
    )


class Box(Wire):
    """A rectangle in a frame, half-open, in pixels."""

    first_row: int = Field(ge=0)
    first_col: int = Field(ge=0)
    stop_row: int = Field(ge=1)
    stop_col: int = Field(ge=1)


class Raster(Wire):
    """A small picture inside a message: levels 0 to 255 row by row, deflated (zlib), in base64.

    >>> import numpy as np
    >>> Raster.of(np.arange(6, dtype=np.uint8).reshape(2, 3)).array()
    array([[0, 1, 2],
           [3, 4, 5]], dtype=uint8)
    """

    height_px: int = Field(ge=1)
    width_px: int = Field(ge=1)
    levels: str = Field(description="base64 of zlib of height_px * width_px bytes, row by row")

    @classmethod
    def of(cls, levels: NDArray[np.uint8]) -> Raster:
        """From (h, w) uint8."""
        height, width = levels.shape
        packed = base64.b64encode(zlib.compress(levels.tobytes(), 6)).decode("ascii")
        return cls(height_px=height, width_px=width, levels=packed)

    def array(self) -> NDArray[np.uint8]:
        """(h, w) uint8.

        Raises:
            ValueError: The text does not hold that many levels.
        """
        import numpy as np

        size = self.height_px * self.width_px
        unpacked = zlib.decompressobj().decompress(base64.b64decode(self.levels, validate=True), size + 1)
        if len(unpacked) != size:
            raise ValueError(f"raster: found {len(unpacked)} or more levels, expected {size}.")
        return np.frombuffer(unpacked, np.uint8).reshape(self.height_px, self.width_px)
