"""Synthetic optical micrographs of ferrite and pearlite, with the exact phase of every pixel.

What an etched section shows under the microscope: bright ferrite with thin dark grain boundaries, pearlite as dark
colonies of lamellae that are partly too fine to be resolved, and what goes wrong in between (uneven etching and light,
a picture partly out of focus, inclusions, scratches, stains). A micrograph is a pure function of its seed and settings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from camera.steel.microstructure import Cells, Floats, Microstructure, Structure, grow
from camera.steel.surface import value_noise

GENERATOR = 1
"""Rises whenever the same seed and settings give another picture or another truth."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a section was prepared and photographed. Grey levels are 0..255, lengths in pixels.

    Attributes:
        ferrite_level: Mean grey of ferrite.
        pearlite_level: Mean grey of pearlite.
        grain_contrast: Deviation between ferrite grains.
        colony_contrast: Deviation between pearlite colonies.
        boundary_depth: How much darker ferrite grain boundaries are.
        spacing_px: Median distance of the lamellae of a colony, as cut; 2 and less is not resolved.
        lamella_depth: Amplitude of resolved lamellae.
        unevenness: Deviation of light and etching over the picture, as a ratio.
        blur_px: Sigma of the optics where the picture is in focus.
        defocus_px: Sigma added where it is not.
        noise: Deviation of the sensor's noise at full brightness.
        sharpening: Weight of the halo that a camera's sharpening leaves.
        inclusions_per_mpx: Manganese sulphides and oxides in a million pixels.
        scratches_per_mpx: Scratches of the polish.
        stains_per_mpx: Drying stains.
    """

    ferrite_level: float = 205.0
    pearlite_level: float = 92.0
    grain_contrast: float = 5.0
    colony_contrast: float = 14.0
    boundary_depth: float = 70.0
    spacing_px: float = 4.5
    lamella_depth: float = 45.0
    unevenness: float = 0.05
    blur_px: float = 0.8
    defocus_px: float = 0.5
    noise: float = 3.0
    sharpening: float = 0.3
    inclusions_per_mpx: float = 60.0
    scratches_per_mpx: float = 3.0
    stains_per_mpx: float = 1.0


@dataclass(frozen=True, slots=True)
class MicrographSettings:
    """What is drawn, and how it looks."""

    structure: Structure = field(default_factory=Structure)
    look: Look = field(default_factory=Look)


@dataclass(frozen=True, slots=True)
class Micrograph:
    """A picture and its truth.

    Attributes:
        pixels: (H, W) uint8.
        pearlite: (H, W) bool; the rest is ferrite. An inclusion counts as the phase that surrounds it.
    """

    pixels: NDArray[np.uint8]
    pearlite: NDArray[np.bool_]

    @property
    def pearlite_ratio(self) -> float:
        """Share of the pixels that are pearlite."""
        return float(self.pearlite.mean())


def draw_settings(
    seed: int,
    size_px: tuple[int, int],
    pearlite_ratio: tuple[float, float] = (0.08, 0.9),
) -> MicrographSettings:
    """Settings of one steel, one preparation and one microscope, as they differ from sample to sample.

    Args:
        seed: Another seed is another sample.
        size_px: Rows and columns.
        pearlite_ratio: Between which shares of pearlite is drawn.

    >>> draw_settings(1, (224, 224)) == draw_settings(1, (224, 224))
    True
    """
    rng = np.random.default_rng((seed, 1))
    ratio = float(rng.uniform(*pearlite_ratio))
    grain_px = float(math.exp(rng.uniform(math.log(18.0), math.log(62.0))))
    # The more carbon, the likelier that ferrite is the network.
    network = float(np.clip(rng.normal(1.6 * ratio - 0.35, 0.25), 0.0, 1.0))
    structure = Structure(
        *size_px,
        pearlite_ratio=ratio,
        grain_px=grain_px,
        colony_px=grain_px * float(rng.uniform(0.7, 1.5)),
        network=network,
        austenite_px=grain_px * float(rng.uniform(2.2, 4.5)),
        banding=float(rng.choice([0.0, rng.uniform(0.1, 0.8)])),
    )
    ferrite = float(rng.uniform(165.0, 232.0))
    look = Look(
        ferrite_level=ferrite,
        pearlite_level=ferrite * float(rng.uniform(0.36, 0.6)),
        grain_contrast=float(rng.uniform(1.5, 9.0)),
        colony_contrast=float(rng.uniform(6.0, 18.0)),
        boundary_depth=ferrite * float(rng.uniform(0.15, 0.55)),
        spacing_px=float(rng.uniform(2.2, 7.0)),
        lamella_depth=ferrite * float(rng.uniform(0.12, 0.3)),
        unevenness=float(rng.uniform(0.015, 0.09)),
        blur_px=float(rng.uniform(0.6, 1.4)),
        defocus_px=float(rng.choice([0.0, rng.uniform(0.3, 1.3)])),
        noise=float(rng.uniform(1.0, 5.0)),
        sharpening=float(rng.choice([0.0, rng.uniform(0.1, 0.6)])),
        inclusions_per_mpx=float(rng.uniform(0.0, 160.0)),
        scratches_per_mpx=float(rng.choice([0.0, rng.uniform(0.0, 25.0)])),
        stains_per_mpx=float(rng.choice([0.0, rng.uniform(0.0, 12.0)])),
    )
    return MicrographSettings(structure, look)


def make_micrograph(seed: int, settings: MicrographSettings) -> Micrograph:
    """Draw a micrograph; the same for the same seed and settings."""
    rng = np.random.default_rng((seed, 2))
    grown = grow(rng, settings.structure)
    grey = _etch(rng, grown, settings)
    _add_inclusions(rng, grey, settings.look)
    _add_scratches(rng, grey, settings.look)
    _light(rng, grey, settings.look)
    grey = _photograph(rng, grey, settings.look)
    return Micrograph(np.clip(np.rint(grey), 0, 255).astype(np.uint8), grown.pearlite)


def _etch(rng: np.random.Generator, grown: Microstructure, settings: MicrographSettings) -> Floats:
    """The etched section as an ideal microscope shows it."""
    ferrite = _etch_ferrite(rng, grown.grains, settings.look)
    pearlite = _etch_pearlite(rng, grown.colonies, settings)
    return np.where(grown.pearlite, pearlite, ferrite)


def _etch_ferrite(rng: np.random.Generator, grains: Cells, look: Look) -> Floats:
    """Bright grains; boundaries are dark, of uneven depth, and in places hardly etched."""
    shape = grains.labels.shape
    grey = (look.ferrite_level + look.grain_contrast * rng.standard_normal(grains.count, dtype=np.float32)).astype(
        np.float32
    )[grains.labels]
    depth = _noise(rng, shape, 22.0)
    depth *= np.float32(0.35 * look.boundary_depth)
    depth += np.float32(look.boundary_depth)
    np.maximum(depth, 0.1 * look.boundary_depth, out=depth)
    line = np.clip(np.float32(1.35) - grains.edge_px, 0.0, 1.0, out=grains.edge_px)
    line *= depth
    grey -= line
    return grey


def _etch_pearlite(rng: np.random.Generator, colonies: Cells, settings: MicrographSettings) -> Floats:
    """Dark colonies; each has its direction, its apparent spacing and its darkness.

    The plane cuts the lamellae of a colony at some angle, so that those of one true spacing look up to several times
    as wide (Underwood); where they are finer than the optics resolve, the colony is an even grey.
    """
    look, shape, count = settings.look, colonies.labels.shape, colonies.count
    angle = rng.uniform(0.0, math.pi, count)
    # The cosine of the angle between plane and lamellae is even for directions that are.
    spacing = 0.87 * look.spacing_px / np.sqrt(1.0 - rng.uniform(0.0, 0.93, count) ** 2)
    spacing *= np.exp(rng.normal(0.0, 0.12, count))
    optics = np.exp(-0.5 * (2.0 * math.pi * 0.55 / spacing) ** 2)  # what no lens resolves would only alias
    depth = look.lamella_depth * optics * rng.uniform(0.6, 1.25, count)
    # Coarse colonies have wide ferrite lamellae and are brighter.
    level = look.pearlite_level + look.colony_contrast * rng.normal(0.0, 1.0, count)
    level += 0.35 * look.colony_contrast * np.log(spacing / look.spacing_px)
    turns = rng.uniform(0.0, 1.0, count)
    table = np.stack((np.sin(angle) / spacing, np.cos(angle) / spacing, turns, depth, level)).astype(np.float32)

    down, across, turn, amplitude, grey = (each[colonies.labels] for each in table)
    # Lamellae bend, and break off: the bend is in turns, as wide as it is in pixels for the median spacing.
    phase = _noise(rng, shape, 26.0)
    phase *= np.float32(1.8 / look.spacing_px)
    phase += down * np.arange(shape[0], dtype=np.float32)[:, None]
    phase += across * np.arange(shape[1], dtype=np.float32)[None, :]
    phase += turn
    phase *= np.float32(2.0 * math.pi)
    wave = np.sin(phase, out=phase)
    wave += np.float32(0.28) * (wave * wave - np.float32(0.5))  # cementite lines are narrower than the ferrite between
    clarity = _noise(rng, shape, 9.0)
    clarity *= np.float32(0.4)
    clarity += np.float32(0.9)
    np.clip(clarity, 0.05, 1.5, out=clarity)
    wave *= clarity
    wave *= amplitude
    grey += wave
    mottle = _noise(rng, shape, 14.0)
    mottle *= np.float32(0.45 * look.colony_contrast)
    grey += mottle
    np.minimum(grey, look.ferrite_level - 6.0, out=grey)
    return np.maximum(grey, 12.0, out=grey)


def _add_inclusions(rng: np.random.Generator, grey: Floats, look: Look) -> None:
    """Sulphides drawn out along the rolling direction, and small dark oxides."""
    for _ in range(rng.poisson(look.inclusions_per_mpx * grey.size / 1e6)):
        sulphide = rng.random() < 0.35
        half_width = float(rng.uniform(0.7, 1.8) if sulphide else np.clip(rng.lognormal(0.2, 0.5), 0.6, 4.0))
        half_length = half_width * float(rng.uniform(2.0, 9.0) if sulphide else rng.uniform(0.8, 1.4))
        level = look.ferrite_level * float(rng.uniform(0.4, 0.6) if sulphide else rng.uniform(0.05, 0.3))
        row, col = rng.uniform(0.0, grey.shape[0]), rng.uniform(0.0, grey.shape[1])
        window, down, across = _window(grey, row, col, half_width + 2.0, half_length + 2.0)
        tilt = float(rng.normal(0.0, 0.06))
        radius = np.hypot((down - tilt * across) / half_width, across / half_length)
        cover = np.clip((1.0 - radius) * half_width + 0.5, 0.0, 1.0)
        window += cover * (level - window)


def _add_scratches(rng: np.random.Generator, grey: Floats, look: Look) -> None:
    """Fine lines right across, a little brighter or darker than what they cross."""
    height, width = grey.shape
    for _ in range(rng.poisson(look.scratches_per_mpx * grey.size / 1e6)):
        angle = float(rng.uniform(0.0, math.pi))
        middle = np.array([rng.uniform(0.0, height), rng.uniform(0.0, width)])
        length = float(rng.uniform(0.2, 1.2)) * max(height, width)
        steps = np.arange(-0.5 * length, 0.5 * length, 0.5)
        bow = float(rng.normal(0.0, 0.02)) * steps * steps / length
        rows = middle[0] + steps * math.sin(angle) + bow * math.cos(angle)
        cols = middle[1] + steps * math.cos(angle) - bow * math.sin(angle)
        strength = look.ferrite_level * float(rng.uniform(0.06, 0.28)) * (-1.0 if rng.random() < 0.6 else 0.7)
        fade = np.minimum(1.0, 4.0 * (0.5 - np.abs(steps) / length)) * strength
        inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        places = np.unique(rows[inside].astype(int) * width + cols[inside].astype(int), return_index=True)
        grey.reshape(-1)[places[0]] += fade[inside][places[1]].astype(np.float32)


def _light(rng: np.random.Generator, grey: Floats, look: Look) -> None:
    """Uneven light and etching over the picture, and drying stains."""
    height, width = grey.shape
    field_px = 0.4 * math.hypot(height, width)
    gain = _noise(rng, grey.shape, max(field_px, 160.0))
    gain *= np.float32(look.unevenness)
    gain += np.float32(1.0)
    across = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :]
    down = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
    gain -= np.float32(0.8 * look.unevenness) * (across * across + down * down - np.float32(0.67))
    grey *= gain
    for _ in range(rng.poisson(look.stains_per_mpx * grey.size / 1e6)):
        radius = float(rng.uniform(14.0, 70.0))
        row, col = rng.uniform(0.0, height), rng.uniform(0.0, width)
        window, down, across = _window(grey, row, col, 1.4 * radius, 1.4 * radius)
        wobble = 0.12 * radius * _noise(rng, window.shape, 0.5 * radius)
        away = np.clip((radius - np.hypot(down, across) + wobble) / (0.25 * radius), 0.0, 1.0)
        window *= 1.0 - float(rng.uniform(0.04, 0.22)) * away * away * (3.0 - 2.0 * away)


def _photograph(rng: np.random.Generator, grey: Floats, look: Look) -> Floats:
    """Optics, sensor noise and the camera's sharpening."""
    from scipy.ndimage import gaussian_filter

    sharp = gaussian_filter(grey, look.blur_px, truncate=2.5)
    if look.defocus_px:
        soft = gaussian_filter(sharp, look.defocus_px, truncate=2.5)
        share = _noise(rng, grey.shape, 0.6 * max(grey.shape))
        share += np.float32(0.4)
        np.clip(share, 0.0, 1.0, out=share)
        soft -= sharp
        soft *= share
        sharp += soft
    noise = rng.standard_normal(grey.shape, dtype=np.float32)
    noise *= np.sqrt(np.maximum(sharp, 8.0)) * np.float32(look.noise / 16.0)
    sharp += noise
    if look.sharpening:
        halo = gaussian_filter(sharp, 1.2, truncate=2.5)
        halo -= sharp
        halo *= np.float32(look.sharpening)
        sharp -= halo
    return sharp


def _noise(rng: np.random.Generator, shape: tuple[int, ...], bump_px: float) -> Floats:
    """A smooth random field (H, W) of about unit deviation, with bumps `bump_px` wide."""
    return value_noise(rng, shape[0], shape[1], cells=(round(shape[0] / bump_px), round(shape[1] / bump_px)))


def _window(grey: Floats, row: float, col: float, down_px: float, across_px: float) -> tuple[Floats, Floats, Floats]:
    """The part of a picture around a place, as a view, and how far its rows and columns are from there."""
    first_row, stop_row = max(0, int(row - down_px)), min(grey.shape[0], int(row + down_px) + 1)
    first_col, stop_col = max(0, int(col - across_px)), min(grey.shape[1], int(col + across_px) + 1)
    down = np.arange(first_row, stop_row, dtype=np.float32)[:, None] - np.float32(row)
    across = np.arange(first_col, stop_col, dtype=np.float32)[None, :] - np.float32(col)
    return grey[first_row:stop_row, first_col:stop_col], down, across
