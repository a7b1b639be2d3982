"""ASTM E112 on masks whose answer is known: grids, hexagons, synthetic austenite and published measurements."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camera.steel.austenite import MM_PER_PX, make_micrograph
from runtime.errors import DataError
from runtime.grain_size import (
    TestLine,
    chords_px,
    circles,
    clear_px,
    grain_number_of_density,
    grain_number_of_intercept,
    intercept,
    intersections,
    line_grid,
    measure_all,
    planimetric,
    straight_lines,
)

DATA = Path(__file__).parents[3] / "shared" / "data"
NIST, TBM = DATA / "nist_gsat_grain", DATA / "tbm_grain_boundary"


def grid(pitch_px: int, cells: int) -> np.ndarray:
    """Square grains of pitch x pitch px, drawn so that the picture is a whole number of periods."""
    boundary = np.zeros((pitch_px * cells, pitch_px * cells), bool)
    boundary[pitch_px // 2 :: pitch_px] = True
    boundary[:, pitch_px // 2 :: pitch_px] = True
    return boundary


def hexagons(size_px: int, columns: int, rows: int) -> np.ndarray:
    """Regular hexagons by their centres: a pixel is a boundary where the next one has another nearest centre."""
    from scipy.spatial import KDTree

    step = size_px * math.sqrt(3.0) / 2.0
    shape = (round(rows * step), columns * size_px)
    centres = np.array(
        [
            (row * step, (column + 0.5 * (row % 2)) * size_px)
            for row in range(-1, rows + 2)
            for column in range(-1, columns + 2)
        ]
    )
    # Half a pixel beyond the picture too, and off the lattice, so that no boundary lies along an edge.
    places = np.stack(np.indices((shape[0] + 1, shape[1] + 1)), axis=-1) + np.array((5, size_px // 4))
    labels = KDTree(centres).query(places)[1]
    return (labels[:-1, :-1] != labels[1:, :-1]) | (labels[:-1, :-1] != labels[:-1, 1:])


@pytest.mark.parametrize(("grain_number", "per_mm2"), [(1.0, 15.50), (5.0, 248.0), (10.0, 7936.0)])
def test_the_formula_gives_the_standards_own_table(grain_number: float, per_mm2: float):
    assert grain_number_of_density(per_mm2) == pytest.approx(grain_number, abs=0.01)


@pytest.mark.parametrize(("grain_number", "intercept_um"), [(1.0, 226.3), (5.0, 56.6), (10.0, 10.0)])
def test_the_intercept_formula_gives_the_standards_own_table(grain_number: float, intercept_um: float):
    assert grain_number_of_intercept(intercept_um / 1000) == pytest.approx(grain_number, abs=0.01)


@settings(max_examples=20, deadline=None)
@given(pitch=st.integers(12, 40).map(lambda each: 2 * (each // 2)), cells=st.integers(5, 12))
def test_square_grains_are_counted_exactly(pitch: int, cells: int):
    boundary = grid(pitch, cells)
    found = planimetric(boundary, 0.001)
    assert found.counted == cells**2
    assert found.grain_number == pytest.approx(grain_number_of_density(1e6 / pitch**2), abs=1e-6)


def test_square_grains_have_their_pitch_as_intercept():
    boundary = grid(20, 12)
    across = [line for line in line_grid(boundary.shape) if len(set(line.rows)) == 1 and not boundary[line.rows[0], 3]]
    found = intercept(boundary, 0.001, across)
    assert found.mean_intercept_mm == pytest.approx(0.020 * 239 / 240)  # a line runs from pixel centre to pixel centre
    assert chords_px(boundary, across[0]) == pytest.approx(np.full(11, 20.0))
    assert found.interval == pytest.approx(0.0, abs=1e-9)  # every line says the same


def test_hexagons_are_counted_and_their_mean_intercept_is_that_of_geometry():
    boundary = hexagons(80, 10, 12)
    area_px = 80 * 80 * math.sqrt(3.0) / 2.0
    assert planimetric(boundary, 0.001).grain_number == pytest.approx(grain_number_of_density(1e6 / area_px), abs=0.06)
    # Mean chord of any convex grain: pi times its area over its perimeter.
    chord_mm = math.pi * area_px / (6 * 80 / math.sqrt(3.0)) / 1000
    found = intercept(boundary, 0.001, line_grid(boundary.shape, 7))  # a spacing that does not beat with the hexagons
    assert found.mean_intercept_mm == pytest.approx(chord_mm, rel=0.03)


@pytest.mark.parametrize("grade", [5.0, 7.5])
def test_all_procedures_agree_on_synthetic_austenite(grade: float):
    made = make_micrograph(8, [grade])
    for found in measure_all(made.boundary, MM_PER_PX):
        assert found.grain_number == pytest.approx(made.grain_number, abs=0.15 + found.interval), found.procedure
        assert found.interval > 0
    assert planimetric(made.boundary, MM_PER_PX).grain_number == pytest.approx(made.grain_number, abs=0.1)


def test_an_intersection_is_a_run_and_half_a_one_at_a_lines_end():
    boundary = np.zeros((20, 20), bool)
    boundary[:, [0, 8, 9, 15]] = True
    row = TestLine(np.full(20, 5), np.arange(20), 19.0)
    assert intersections(boundary, row) == 2.5
    assert chords_px(boundary, row) == pytest.approx([8.5, 6.5])
    boundary[:, 11] = True  # one pixel from the second: the same boundary, met on its staircase
    assert intersections(boundary, row) == 2.5


def test_a_circle_counts_the_boundary_at_its_seam_once():
    boundary = np.zeros((101, 101), bool)
    boundary[49:52] = True
    (circle, *_) = circles(boundary.shape)
    assert intersections(boundary, circle) == 2.0
    assert chords_px(boundary, circle).sum() == pytest.approx(circle.length_px)


def test_too_few_grains_and_a_missing_scale_are_refused():
    empty = np.zeros((100, 100), bool)
    with pytest.raises(DataError, match="found 1 grains"):
        planimetric(empty, 0.001)
    with pytest.raises(DataError, match="found 0 intersections"):
        intercept(empty, 0.001, straight_lines(empty.shape))
    with pytest.raises(DataError, match="scale is 0"):
        planimetric(empty, 0.0)
    with pytest.raises(DataError, match=r"\(3, 4, 5\)"):
        planimetric(np.zeros((3, 4, 5), bool), 0.001)


@pytest.mark.skipif(not NIST.is_dir(), reason=f"needs {NIST}")
@pytest.mark.parametrize(
    ("mask", "table"),
    [
        ("steel_mask.tif", "intercepts_optical_etched_grains_steel_highlighted_distances_line_grid.csv"),
        ("ti64_sem_mask.tif", "intercepts_sem_polished_sem_alpha_beta_ti_6al_4v_distances_line_grid.csv"),
    ],
)
def test_nists_intercepts_are_found_again(mask: str, table: str):
    from PIL import Image

    boundary = np.array(Image.open(NIST / mask)) > 127
    expected_px = np.loadtxt(NIST / table, delimiter=",", skiprows=1)[:, 1].mean()
    lines = line_grid(boundary.shape)
    # NIST measures from edge to edge of the boundaries; ours runs from middle to middle.
    across_px = sum(float(boundary[line.rows, line.cols].mean()) * line.length_px for line in lines)
    chords = np.concatenate([chords_px(boundary, line) for line in lines])
    crossings = sum(intersections(boundary, line) for line in lines)
    assert chords.mean() - across_px / crossings == pytest.approx(expected_px, rel=0.06)


@pytest.mark.skipif(not TBM.is_dir(), reason=f"needs {TBM}")
def test_tbms_heyn_intercepts_are_found_again():
    """The published ground truth of each sample: the mean over lines of the mean length on a line, edge to edge."""
    import csv

    from PIL import Image

    published: dict[int, list[float]] = {}
    with (TBM / "Results_grain_sizes.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["Model"] == "Ground_Truth":
                published.setdefault(int(row["Degem"]), []).append(float(row["Grain Size"]))
    found: dict[int, list[float]] = {}
    for path in sorted(TBM.glob("*/masks/*.png")):
        boundary = np.array(Image.open(path).convert("L")) > 127
        for row in np.linspace(6, 249, 20).astype(int):
            lengths = clear_px(boundary, TestLine(np.full(256, row), np.arange(256), 255.0))
            if len(lengths):
                found.setdefault(int(path.stem.partition("-")[0]), []).append(float(lengths.mean()))
    ratios = np.array([np.mean(found[sample]) / np.mean(published[sample]) for sample in found])
    assert len(ratios) == 19
    # Ours are some of the tiles that theirs were measured on.
    assert np.abs(ratios - 1).mean() < 0.10
    assert abs(ratios.mean() - 1) < 0.03


def test_clear_lengths_go_from_edge_to_edge():
    boundary = np.zeros((4, 12), bool)
    boundary[:, [3, 4, 8]] = True
    line = TestLine(np.full(12, 1), np.arange(12), 11.0)
    assert clear_px(boundary, line) == pytest.approx([3, 3, 3])
    assert clear_px(~np.zeros((4, 12), bool), line).size == 0


def test_the_command_measures_a_mask(tmp_path: Path):
    import json

    from PIL import Image
    from typer.testing import CliRunner

    from runtime.metallography import app

    made = make_micrograph(8, [7.0], height_px=480, width_px=640)
    path = tmp_path / "mask.png"
    Image.fromarray((made.boundary * 255).astype(np.uint8)).save(path)
    answer = CliRunner().invoke(app, [str(path), "--mm-per-px", str(MM_PER_PX), "--json"])
    assert answer.exit_code == 0, answer.output
    found = {each["procedure"]: each for each in json.loads(answer.stdout)}
    assert set(found) == {"planimetric", "lines", "circles"}
    assert found["planimetric"]["grain_number"] == pytest.approx(made.grain_number, abs=0.15)
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(path)
    wrong = CliRunner().invoke(app, [str(path), "--mm-per-px", "0.001"])
    assert isinstance(wrong.exception, DataError)
