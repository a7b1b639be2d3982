"""What the etchant and the microscope make of a section: boundaries, twins, carbides, stains, light and blur."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camera.steel.tessellation import Floats, Section, periodic_noise

_PAIRS = 4096  # boundaries share this many strengths
_BUMP_PX = 90.0


@dataclass(frozen=True, slots=True)
class Etching:
    """How a specimen was prepared and seen.

    Attributes:
        base_grey: Of a grain, 0 to 255.
        grain_contrast: Deviation of the grains' grey levels, which their orientation gives them.
        boundary_depth: How much darker than the grains a well etched boundary is, in grey levels.
        boundary_px: Half the width of a boundary.
        spread: How much boundaries differ from one another in depth, 0 to 1.
        missing: Share of the boundaries' length that the etchant left out, about.
        overetched: How much of the picture the etchant has eaten into, 0 to 1.
        twins: Share of the grains that have an annealing twin.
        twin_contrast: Grey levels between a twin and its grain.
        twin_line: Depth of a twin's straight boundaries, as a share of a grain boundary's.
        carbides_per_mpx: Dark particles for each million pixels, half of them on boundaries, some in pockets.
        scratches: How many are left from polishing.
        stain: Grey levels of drying stains.
        unevenness: Grey levels of uneven light.
        blur_px: Sigma of the microscope's blur.
        noise: Deviation of the camera's noise, in grey levels.
    """

    base_grey: float = 190.0
    grain_contrast: float = 6.0
    boundary_depth: float = 110.0
    boundary_px: float = 1.0
    spread: float = 0.4
    missing: float = 0.04
    overetched: float = 0.1
    twins: float = 0.35
    twin_contrast: float = 8.0
    twin_line: float = 0.35
    carbides_per_mpx: float = 250.0
    scratches: int = 2
    stain: float = 6.0
    unevenness: float = 10.0
    blur_px: float = 0.7
    noise: float = 2.5


def draw_etching(rng: np.random.Generator) -> Etching:
    """A preparation as it may come from the workshop: another alloy and another etchant each time."""
    base_grey = float(rng.uniform(135, 235))
    return Etching(
        base_grey=base_grey,
        grain_contrast=float(rng.gamma(1.6, 5.0)),
        boundary_depth=base_grey * float(rng.uniform(0.35, 0.8)),
        boundary_px=float(rng.uniform(0.7, 1.7)),
        spread=float(rng.uniform(0.15, 0.7)),
        missing=float(rng.uniform(0.0, 0.12)),
        overetched=float(rng.uniform(0.0, 0.35)),
        twins=float(rng.uniform(0.0, 0.6)),
        twin_contrast=float(rng.gamma(1.5, 6.0)),
        twin_line=float(rng.uniform(0.1, 0.6)),
        carbides_per_mpx=float(rng.gamma(1.0, 350.0)),
        scratches=int(rng.poisson(2.0)),
        stain=float(rng.gamma(1.2, 5.0)),
        unevenness=float(rng.gamma(2.0, 5.0)),
        blur_px=float(rng.uniform(0.45, 1.1)),
        noise=float(rng.uniform(1.0, 4.5)),
    )


def draw(rng: np.random.Generator, section: Section, etching: Etching) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The picture (H, W) uint8, and its true grain boundaries (H, W) bool."""
    from scipy.ndimage import gaussian_filter

    labels, shape = section.labels, section.labels.shape
    boundary, strength = _boundaries(rng, labels, etching)
    twin, twin_edge = _twins(rng, section, etching)
    # Fine grains have finer grooves: the etchant has less to eat between them.
    room = np.clip(section.spacing_px / 14.0, 0.45, 1.0)
    groove = _groove(strength * room + twin_edge * (~boundary), etching)
    grey = etching.base_grey + etching.grain_contrast * rng.standard_normal(section.grains, np.float32)[labels]
    grey += etching.twin_contrast * twin
    grey += etching.stain * np.clip(periodic_noise(rng, shape, 1.9 * _BUMP_PX), -0.5, 2.5)
    grey += 0.25 * etching.noise * periodic_noise(rng, shape, 5.0)
    grey -= etching.boundary_depth * groove
    _particles(rng, grey, boundary, etching)
    _scratch(rng, grey, etching)
    rows, cols = (np.linspace(-1.0, 1.0, side, dtype=np.float32) for side in shape)
    tilt = rng.normal(0.0, 1.0, 2)
    grey += etching.unevenness * (tilt[0] * rows[:, None] + tilt[1] * cols - 0.6 * (rows[:, None] ** 2 + cols**2))
    grey = gaussian_filter(grey, etching.blur_px, mode="nearest", truncate=3.0)
    grey += etching.noise * rng.standard_normal(shape, dtype=np.float32)
    return np.clip(grey, 0, 255).astype(np.uint8), boundary


def _boundaries(
    rng: np.random.Generator, labels: NDArray[np.int32], etching: Etching
) -> tuple[NDArray[np.bool_], Floats]:
    """Where grains meet, and how deeply each place was etched (H, W) float32."""
    strength = np.zeros(labels.shape, np.float32)
    boundary = np.zeros(labels.shape, bool)
    depths = np.clip(1.0 + etching.spread * rng.standard_normal(_PAIRS), 0.12, 1.8).astype(np.float32)
    depths[rng.random(_PAIRS) < etching.missing] = 0.0
    for axis in (0, 1):
        other = np.roll(labels, -1, axis)
        here = labels != other
        low, high = np.minimum(labels[here], other[here]), np.maximum(labels[here], other[here])
        strength[here] = np.maximum(strength[here], depths[(low * 73856093 ^ high * 19349663) % _PAIRS])
        boundary |= here
    # The etchant takes hold of some regions more than of others, and leaves gaps along a boundary.
    hold = periodic_noise(rng, labels.shape, _BUMP_PX)
    gaps = periodic_noise(rng, labels.shape, 9.0)
    strength *= np.clip(1.0 + 0.25 * hold, 0.3, 1.6)
    strength[gaps > 3.2 - 9.0 * etching.missing] *= 0.15
    strength *= 1.0 + 0.8 * np.clip(2.0 * (hold - 2.4 + 3.0 * etching.overetched), 0.0, 1.0)
    return boundary, strength


def _groove(strength: Floats, etching: Etching) -> Floats:
    """The dark line around each etched place, 0 to 1, wider where it is stronger."""
    from scipy.ndimage import gaussian_filter

    width = etching.boundary_px
    core = gaussian_filter(strength, 0.45 * width, mode="wrap", truncate=3.0) * width
    flank = gaussian_filter(strength, 1.3 * width, mode="wrap", truncate=3.0) * width
    return 1.0 - np.exp(-(1.1 * core + 0.45 * flank))


def _twins(rng: np.random.Generator, section: Section, etching: Etching) -> tuple[Floats, Floats]:
    """Annealing twins: straight bands across a grain. Their grey (H, W), -1 to 1, and their edges' strength."""
    labels, grains = section.labels, section.grains
    chosen = rng.random(grains) < etching.twins
    angle = rng.uniform(0, np.pi, grains)
    direction = np.stack((np.sin(angle), np.cos(angle))).astype(np.float32)
    place = np.zeros(labels.shape, np.float32)
    areas = np.bincount(labels.ravel(), minlength=grains)
    for axis, side in enumerate(labels.shape):
        line = np.arange(side, dtype=np.float32)
        along = np.broadcast_to(line[:, None] if axis == 0 else line, labels.shape)
        # From any one pixel of the grain, the short way around the period.
        first = np.empty(grains, np.float32)
        first[labels.ravel()] = along.ravel()
        offset = (along - first[labels] + side / 2) % side - side / 2
        place += direction[axis][labels] * offset
    mean = np.bincount(labels.ravel(), place.ravel(), grains) / np.maximum(areas, 1)
    diameter = np.sqrt(areas)
    middle = (mean + rng.uniform(-0.25, 0.25, grains) * diameter).astype(np.float32)
    half = np.where(chosen, rng.uniform(0.04, 0.2, grains) * diameter, -1.0).astype(np.float32)
    # Some grains have a second band beside the first.
    period = np.where(rng.random(grains) < 0.3, rng.uniform(0.45, 0.7, grains) * diameter, 1e6).astype(np.float32)
    distance = place - middle[labels]
    period_here = period[labels]
    distance -= period_here * np.clip(np.round(distance / period_here), 0, 1)
    inside = np.abs(distance) < half[labels]
    shade = np.where(rng.random(grains) < 0.5, -1.0, 1.0) * rng.uniform(0.3, 1.3, grains)
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        edge |= (inside != np.roll(inside, -1, axis)) & (labels == np.roll(labels, -1, axis))
    line_strength = (etching.twin_line * rng.uniform(0.3, 1.4, grains)).astype(np.float32)
    return inside * shade.astype(np.float32)[labels], edge * line_strength[labels]


def _particles(rng: np.random.Generator, grey: Floats, boundary: NDArray[np.bool_], etching: Etching) -> None:
    """Carbides on boundaries, in pockets and alone; etch pits among them."""
    from scipy.ndimage import gaussian_filter

    count = int(rng.poisson(etching.carbides_per_mpx * grey.size / 1e6))
    if count == 0:
        return
    height, width = grey.shape
    edges = np.flatnonzero(boundary) if boundary.any() else np.arange(grey.size)  # a single grain has no edge
    on_edge = np.stack(np.unravel_index(rng.choice(edges, count // 2), grey.shape), axis=1)
    alone = rng.random((count // 4, 2)) * grey.shape
    pockets = rng.random((max(1, count // 120), 2)) * grey.shape
    near = pockets[rng.integers(len(pockets), size=count - count // 2 - count // 4)]
    in_pockets = near + rng.standard_normal(near.shape) * rng.uniform(8.0, 22.0)
    where = np.concatenate((on_edge, alone, in_pockets)).astype(int) % (height, width)
    spots = np.zeros(grey.shape, np.float32)
    np.add.at(spots, (where[:, 0], where[:, 1]), rng.gamma(2.0, 1.0, len(where)).astype(np.float32))
    dark = gaussian_filter(spots, rng.uniform(0.7, 1.4), mode="wrap", truncate=3.0)
    grey -= etching.base_grey * 0.75 * (1.0 - np.exp(-2.2 * dark))


def _scratch(rng: np.random.Generator, grey: Floats, etching: Etching) -> None:
    """Polishing scratches: thin, straight, fading, dark or bright, nearly parallel."""
    height, width = grey.shape
    heading = rng.uniform(0, np.pi)
    for _ in range(etching.scratches):
        angle = heading + rng.normal(0, 0.12)
        length = rng.uniform(0.1, 0.7) * width
        steps = np.linspace(-0.5, 0.5, max(2, int(length * 2)))
        rows = (rng.uniform(0, height) + steps * length * np.sin(angle)).astype(int)
        cols = (rng.uniform(0, width) + steps * length * np.cos(angle)).astype(int)
        seen = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        fade = (1.0 - (2 * steps) ** 2) * rng.normal(-10.0, 18.0)
        np.add.at(grey, (rows[seen], cols[seen]), fade[seen].astype(np.float32) * 0.5)
