"""Synthetic fracture surfaces of drop-weight tear tests, with the exact brittle map.

The crack runs from the notch at the left to the hammer at the right; the plate's thickness runs down the picture, and
its free surfaces are the upper and the lower edge. Where steel cleaved, the surface is bright, faceted and glittering,
with chevrons that point back to the notch; where it tore, it is dull and fibrous, with shear lips along the free edges
and clefts where the plate came apart in layers.

Everything is a pure function of the seed and the settings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from camera.base import CameraError
from camera.steel import fracture_texture as texture
from camera.steel.fracture_texture import Floats

if TYPE_CHECKING:
    from numpy.typing import NDArray

GENERATOR = 1
"""Rises whenever the same seed gives another picture, so that rendered caches are not mistaken for each other."""

View = Literal["ligament", "rated"]
"""What the picture shows: the whole surface from notch root to hammer edge, or the part between the thicknesses that
are left out, which is how the paper's pictures are cut."""

LIGAMENT_MM = 71.1
"""A 3 in (76.2 mm) specimen behind a pressed notch of 5.1 mm (ASTM E436, figure 1)."""
LEAST_SIZE_PX = 64
_STREAM_SPECIMEN, _STREAM_MAP, _STREAM_STEEL, _STREAM_CAMERA = range(4)  # keeps draws of different purposes apart
_NO_BRITTLE, _ALL_BRITTLE = 0.01, 0.99


@dataclass(frozen=True, slots=True)
class FractureSurface:
    """One specimen's picture with its truth.

    Attributes:
        pixels: (H, W) uint8.
        brittle: (H, W) bool, where the steel cleaved.
        view: What the picture shows.
        mm_per_px: Scale.
        thickness_mm: Of the plate.
    """

    pixels: NDArray[np.uint8]
    brittle: NDArray[np.bool_]
    view: View
    mm_per_px: float
    thickness_mm: float

    @property
    def brittle_ratio(self) -> float:
        """Brittle pixels by all pixels, 0 to 1 (paper, equation 2)."""
        return float(self.brittle.mean())

    @property
    def rated_cols(self) -> tuple[int, int]:
        """First and one past the last column that ASTM E436 rates: one thickness off at the notch and the hammer."""
        off_px = round(self.thickness_mm / self.mm_per_px) if self.view == "ligament" else 0
        return off_px, self.brittle.shape[1] - off_px

    @property
    def rated_brittle_ratio(self) -> float:
        """Brittle pixels by all pixels of the rated columns, 0 to 1."""
        first, stop = self.rated_cols
        return float(self.brittle[:, first:stop].mean())


@dataclass(frozen=True, slots=True)
class _Specimen:
    """Outline and scale, before anything is drawn."""

    height_px: int
    width_px: int
    view: View
    mm_per_px: float
    thickness_mm: float
    upper: Floats  # (W,) row of the upper free surface
    lower: Floats

    @property
    def shape(self) -> tuple[int, int]:
        return self.height_px, self.width_px

    @property
    def thickness_px(self) -> float:
        return self.thickness_mm / self.mm_per_px

    def depth(self) -> Floats:
        """(H, W): rows to the nearer free surface, negative beyond it."""
        row = np.arange(self.height_px, dtype=np.float32)[:, None]
        return np.minimum(row - self.upper[None, :], self.lower[None, :] - row)


def fracture_surface(
    seed: int,
    *,
    view: View | None = None,
    brittle_ratio: float | None = None,
    height_px: int | None = None,
    width_px: int | None = None,
) -> FractureSurface:
    """Break a specimen.

    Args:
        seed: 0 or more; the specimen's identity.
        view: What the picture shows; None draws one.
        brittle_ratio: Share of the steel in the picture that cleaved, 0 to 1; None draws one.
        height_px: Rows; None draws the specimen's own size, as in the paper's table 1 for `rated`.
        width_px: Columns; None draws them too.

    Raises:
        CameraError: A setting is out of range.
    """
    if seed < 0:
        raise CameraError(f"fracture surface: seed is {seed}, expected 0 or more. Choose another seed.")
    if brittle_ratio is not None and not 0.0 <= brittle_ratio <= 1.0:
        raise CameraError(f"fracture surface: brittle_ratio is {brittle_ratio}, expected 0 to 1. Set it within that.")
    for name, size in (("height_px", height_px), ("width_px", width_px)):
        if size is not None and size < LEAST_SIZE_PX:
            raise CameraError(f"fracture surface: {name} is {size}, expected {LEAST_SIZE_PX} or more. Set it larger.")
    rng = np.random.default_rng((seed, _STREAM_SPECIMEN))
    drawn_view: View = "ligament" if rng.random() < 0.5 else "rated"
    drawn_ratio = _draw_ratio(rng)
    specimen = _cut_specimen(rng, view or drawn_view, height_px, width_px)
    wanted = drawn_ratio if brittle_ratio is None else brittle_ratio
    depth = specimen.depth()
    lip_px = _lip_width(seed, specimen, wanted)
    brittle = _brittle_map(seed, specimen, depth, lip_px, wanted)
    steel = _draw_steel(seed, specimen, depth, lip_px, brittle)
    pixels = _photograph(seed, specimen, depth, steel)
    return FractureSurface(pixels, brittle, specimen.view, specimen.mm_per_px, specimen.thickness_mm)


def _draw_ratio(rng: np.random.Generator) -> float:
    """Mills see much ductile steel and some brittle; between them every share turns up."""
    kind, share = float(rng.random()), float(rng.random())
    if kind < 0.08:
        return 0.0
    if kind < 0.14:
        return 1.0
    if kind < 0.50:
        return 0.45 * share
    return share


def _cut_specimen(rng: np.random.Generator, view: View, height_px: int | None, width_px: int | None) -> _Specimen:
    """Draw the size of specimen and picture, and the outline that the free surfaces have after the fracture."""
    if view == "ligament":
        width = width_px or int(np.clip(611 + rng.gamma(1.6, 45.0), 611, 810))
        mm_per_px = LIGAMENT_MM / width
        thickness_mm = float(rng.uniform(16.0, 29.0))
        height = height_px or round(thickness_mm / mm_per_px * 1.04)
        # A height that was asked for decides the thickness: the surface fills the picture.
        thickness_mm = thickness_mm if height_px is None else height * mm_per_px / 1.04
    else:
        width = width_px or int(np.clip(rng.normal(626.0, 22.0), 611, 810))
        height = height_px or int(np.clip(rng.normal(462.0, 93.0), 262, 676))
        thickness_mm = float(rng.uniform(14.0, 32.0))
        mm_per_px = thickness_mm / (0.98 * height)
    thickness_px = thickness_mm / mm_per_px
    across = np.linspace(0.0, 1.0, width, dtype=np.float32)
    # Steel that tears grows thinner, steel under the hammer thicker.
    neck = float(rng.uniform(0.0, 0.03)) * thickness_px * np.sin(math.pi * np.clip(1.2 * across, 0.0, 1.0))
    edges = []
    for _ in range(2):
        wander = texture.product(
            texture.interpolation(width, 9), 0.006 * thickness_px * rng.standard_normal((9, 1), dtype=np.float32)
        )[:, 0]
        edges.append(0.5 * thickness_px - neck + wander)
    middle = 0.5 * (height - 1)
    return _Specimen(height, width, view, mm_per_px, thickness_mm, middle - edges[0], middle + edges[1])


def _lip_width(seed: int, specimen: _Specimen, ratio: float) -> Floats:
    """(2, W) float32: how far the shear lips at the upper and the lower surface reach in; less where more cleaved."""
    rng = np.random.default_rng((seed, _STREAM_MAP, 1))
    reach = specimen.thickness_px * float(rng.uniform(0.05, 0.16)) * (1.0 - ratio) ** 0.5
    knots = np.exp(0.45 * rng.standard_normal((8, 2), dtype=np.float32))
    return (reach * texture.product(texture.interpolation(specimen.width_px, 8), knots)).T


def _brittle_map(seed: int, specimen: _Specimen, depth: Floats, lip_px: Floats, ratio: float) -> NDArray[np.bool_]:
    """Where the steel cleaves: the part of the steel where a rough field is highest, of exactly the share asked for."""
    steel = depth >= 0.0
    if ratio < _NO_BRITTLE:
        return np.zeros(specimen.shape, np.bool_)
    if ratio > _ALL_BRITTLE:
        return steel
    rng = np.random.default_rng((seed, _STREAM_MAP))
    along = np.linspace(0.0, 1.0, specimen.width_px, dtype=np.float32)[None, :]
    rows = np.arange(specimen.height_px, dtype=np.float32)[:, None]
    middle = float(rng.normal(0.0, 0.12))
    off = 2.0 * (rows - 0.5 * (specimen.height_px - 1)) / specimen.thickness_px - middle
    form = float(rng.random())
    if form < 0.35:  # a tongue from the notch, narrower on its way
        field = 1.0 - 1.2 * along - float(rng.uniform(0.5, 1.0)) * np.abs(off) ** float(rng.uniform(1.2, 2.5))
    elif form < 0.60:  # a band in the middle between the lips
        field = 0.35 * float(rng.normal()) * along - np.abs(off) ** float(rng.uniform(1.2, 3.0))
    elif form < 0.80:  # islands
        field = -0.35 * off * off + 0.0 * along
    elif form < 0.90:  # abnormal appearance: cleavage where the hammer had hardened the steel
        field = 1.4 * along - 0.6 * off * off
    else:  # both ends
        field = 1.5 * np.abs(along - float(rng.uniform(0.4, 0.6))) - 0.5 * off * off
    thickness_px = specimen.thickness_px
    field = field + float(rng.uniform(0.25, 0.6)) * texture.clouds(rng, specimen.shape, 0.45 * thickness_px)
    field += 0.13 * texture.clouds(rng, specimen.shape, 0.12 * thickness_px)
    field += 0.035 * texture.clouds(rng, specimen.shape, 0.035 * thickness_px)
    upper = rows < 0.5 * specimen.height_px
    lip = np.where(upper, lip_px[:1], lip_px[1:])
    field -= 4.0 * np.clip(1.0 - depth / np.maximum(lip, 1.0), 0.0, 1.0)
    level = np.quantile(field[steel], 1.0 - ratio)
    return steel & (field > level)


def _draw_steel(seed: int, specimen: _Specimen, depth: Floats, lip_px: Floats, brittle: NDArray[np.bool_]) -> Floats:
    """The surface in grey levels under even light, (H, W) float32."""
    from scipy.ndimage import gaussian_filter, gaussian_filter1d

    rng = np.random.default_rng((seed, _STREAM_STEEL))
    shape, thickness_px = specimen.shape, specimen.thickness_px
    grain_px = float(rng.uniform(2.8, 5.2))
    dull = float(rng.uniform(62.0, 100.0))
    bright = dull * float(rng.uniform(1.25, 1.9))
    torn = texture.fibres(rng, shape, grain_px, float(rng.choice((0.3, 0.5, 2.0, 4.0))))
    cleaved = texture.facets(rng, shape, grain_px, float(rng.uniform(0.20, 0.36)))
    middle = 0.5 * (specimen.height_px - 1)
    cleaved *= texture.chevrons(rng, shape, middle, float(rng.uniform(0.10, 0.22)) * thickness_px)
    # Some places are hard to rate: cleavage that is dull, tearing that shines.
    doubt = np.clip(0.5 * texture.clouds(rng, shape, 0.3 * thickness_px), -1.0, 1.0) * float(rng.uniform(0.0, 0.22))
    torn *= dull * (1.0 + doubt)
    cleaved *= bright * (1.0 + doubt)

    upper = np.arange(shape[0])[:, None] < middle
    lip = np.where(upper, lip_px[:1], lip_px[1:])
    slant = np.clip(2.5 * (1.0 - depth / np.maximum(lip, 1.0)), 0.0, 1.0)
    walls = np.where(upper, float(rng.uniform(0.75, 1.3)), float(rng.uniform(0.65, 1.15))).astype(np.float32)
    torn += slant * (dull * walls * texture.lips(rng, shape, grain_px) - torn)

    soft = gaussian_filter(brittle.astype(np.float32), float(rng.uniform(0.8, 2.2)), truncate=2.5)
    steel = torn + soft * (cleaved - torn)
    # The step between the two is a small cliff that catches the light.
    cliff = gaussian_filter1d(gaussian_filter1d(soft, 1.2, axis=0, order=1, truncate=2.5), 1.2, axis=1, truncate=2.5)
    steel *= 1.0 + 0.9 * np.clip(cliff, -0.15, 0.15)
    count = int(rng.poisson(1.4)) if rng.random() < 0.6 else 0
    span = float(specimen.upper.mean()) + 0.2 * thickness_px, float(specimen.lower.mean()) - 0.2 * thickness_px
    steel *= texture.relief(rng, shape, 0.35 * thickness_px)
    steel *= texture.splits(rng, shape, thickness_px, count, span)
    if specimen.view == "ligament":
        steel *= _ends(rng, shape, thickness_px)
    return steel


def _ends(rng: np.random.Generator, shape: tuple[int, int], thickness_px: float) -> Floats:
    """The shadow at the notch root, and the steel that the hammer squeezed and rubbed."""
    along = np.arange(shape[1], dtype=np.float32)[None, :]
    root = along + 3.0 * texture.clouds(rng, shape, 0.2 * thickness_px)
    notch = 1.0 - 0.75 * np.clip(1.0 - root / float(rng.uniform(3.0, 9.0)), 0.0, 1.0)
    left = shape[1] - 1 - along + 0.05 * thickness_px * texture.clouds(rng, shape, 0.25 * thickness_px)
    rubbed = np.clip(1.0 - left / (float(rng.uniform(0.05, 0.2)) * thickness_px), 0.0, 1.0)
    return notch * (1.0 + float(rng.uniform(-0.3, 0.3)) * rubbed)


def _photograph(seed: int, specimen: _Specimen, depth: Floats, steel: Floats) -> NDArray[np.uint8]:
    """Light, stains, the dark bench behind the specimen, lens and sensor; (H, W) uint8."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng((seed, _STREAM_CAMERA))
    shape = specimen.shape
    steel = steel * texture.light(rng, shape, float(rng.uniform(0.05, 0.28)))
    steel *= texture.wear(rng, shape, rust=rng.random() < 0.25, scratches=int(rng.poisson(0.6)))
    inside = np.clip(depth + 0.5, 0.0, 1.0)
    rim = 1.0 - 0.35 * np.exp(-np.maximum(depth, 0.0) / 2.5)
    picture = inside * steel * rim + (1.0 - inside) * float(rng.uniform(6.0, 22.0))
    blur_px = float(rng.uniform(0.0, 0.8))
    if blur_px > 0.25:
        picture = gaussian_filter(picture, blur_px, truncate=2.5)
    picture = float(rng.uniform(0.85, 1.15)) * picture + float(rng.uniform(-4.0, 8.0))
    picture += float(rng.uniform(1.0, 3.5)) * rng.standard_normal(shape, dtype=np.float32)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
