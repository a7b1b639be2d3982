import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camera.steel.micrograph import Look, MicrographSettings, draw_settings, make_micrograph
from camera.steel.microstructure import Structure, grow

PLAIN = Look(unevenness=0.0, noise=0.0, inclusions_per_mpx=0.0, scratches_per_mpx=0.0, stains_per_mpx=0.0)
"""Nothing but the steel itself."""


def test_a_micrograph_is_a_function_of_seed_and_settings() -> None:
    own = draw_settings(7, (96, 130))
    one, two = make_micrograph(7, own), make_micrograph(7, own)
    assert np.array_equal(one.pixels, two.pixels)
    assert np.array_equal(one.pearlite, two.pearlite)
    assert one.pixels.shape == one.pearlite.shape == (96, 130)
    assert one.pixels.dtype == np.uint8
    assert not np.array_equal(one.pixels, make_micrograph(8, own).pixels)
    assert draw_settings(8, (96, 130)) != own


@settings(deadline=None, max_examples=25)
@given(
    ratio=st.floats(0.0, 1.0),
    network=st.sampled_from([0.0, 0.4, 1.0]),
    banding=st.sampled_from([0.0, 0.6]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_pearlite_fraction_is_met_to_the_pixel(ratio: float, network: float, banding: float, seed: int) -> None:
    structure = Structure(64, 90, pearlite_ratio=ratio, grain_px=20.0, network=network, banding=banding)
    grown = grow(np.random.default_rng(seed), structure)
    # Equal potentials would fall on one side together; the hair of tilt leaves but a few.
    assert abs(int(grown.pearlite.sum()) - round(ratio * 64 * 90)) <= 3


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_one_phase_alone_may_be_asked_for(ratio: float) -> None:
    made = make_micrograph(1, MicrographSettings(Structure(80, 80, pearlite_ratio=ratio), PLAIN))
    assert made.pearlite_ratio == ratio


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_any_size_may_be_asked_for(height: int, width: int, seed: int) -> None:
    assert make_micrograph(seed, draw_settings(seed, (height, width))).pixels.shape == (height, width)


def test_the_grains_are_as_many_as_their_size_says() -> None:
    grown = grow(np.random.default_rng(3), Structure(600, 600, grain_px=30.0, colony_px=45.0))
    for cells, size_px in ((grown.grains, 30.0), (grown.colonies, 45.0)):
        assert 0.85 <= len(np.unique(cells.labels)) * size_px**2 / 600**2 <= 1.35  # those that are cut count whole
        assert cells.labels.max() < cells.count


def test_a_boundary_is_where_the_distance_to_it_is_nothing() -> None:
    grains = grow(np.random.default_rng(3), Structure(300, 300, grain_px=30.0)).grains
    differs = np.zeros((300, 300), bool)
    differs[:, 1:] |= grains.labels[:, 1:] != grains.labels[:, :-1]
    differs[1:] |= grains.labels[1:] != grains.labels[:-1]
    assert np.quantile(grains.edge_px[differs], 0.95) < 1.5
    assert (grains.edge_px >= 0.0).all()


def test_pearlite_is_dark_and_ferrite_is_bright() -> None:
    made = make_micrograph(5, MicrographSettings(Structure(200, 200, pearlite_ratio=0.5), PLAIN))
    grey = made.pixels.astype(float)
    assert grey[~made.pearlite].mean() > 1.6 * grey[made.pearlite].mean()


def test_the_lamellae_are_as_far_apart_as_asked() -> None:
    """One colony over all of the picture: its spectrum has one peak, near the spacing that its cut gives."""
    look = Look(**{**_plain(), "spacing_px": 8.0, "lamella_depth": 60.0, "blur_px": 0.6, "defocus_px": 0.0})
    structure = Structure(128, 128, pearlite_ratio=1.0, colony_px=2000.0)
    spacings = []
    for seed in range(6):
        grey = make_micrograph(seed, MicrographSettings(structure, look)).pixels.astype(float)
        power = np.abs(np.fft.fft2((grey - grey.mean()) * np.outer(np.hanning(128), np.hanning(128)))) ** 2
        down, across = np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None, :]
        pitch = np.hypot(down, across)
        power[pitch < 0.02] = 0.0
        spacings.append(1.0 / pitch.ravel()[int(power.argmax())])
    # A plane cuts lamellae at any angle, so that they never look much closer than they are, but often farther apart.
    assert 5.0 <= min(spacings) <= 12.0
    assert max(spacings) <= 40.0


def test_faults_leave_the_truth_alone() -> None:
    structure = Structure(150, 150)
    clean = make_micrograph(4, MicrographSettings(structure, PLAIN))
    faulty = make_micrograph(
        4, MicrographSettings(structure, Look(inclusions_per_mpx=4000.0, scratches_per_mpx=900.0, stains_per_mpx=300.0))
    )
    assert np.array_equal(clean.pearlite, faulty.pearlite)
    assert not np.array_equal(clean.pixels, faulty.pixels)


def _plain() -> dict[str, float]:
    return {name: getattr(PLAIN, name) for name in PLAIN.__slots__}
