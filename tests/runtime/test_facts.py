from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import ConfigError, DataError
from runtime.facts import Facts, read_facts
from runtime.folder_settings import read_folder_settings

USUAL = Facts(mm_per_px=0.1, thickness_mm=19.0)


def test_without_a_sidecar_the_usual_facts_hold(tmp_path: Path) -> None:
    assert read_facts(tmp_path / "7.png", USUAL) == USUAL


def test_a_sidecar_says_more_and_comes_first(tmp_path: Path) -> None:
    (tmp_path / "7.toml").write_text('specimen = "S7"\nthickness_mm = 25.4\nnotch_side = "left"\n')
    found = read_facts(tmp_path / "7.png", USUAL)
    assert found == Facts(specimen="S7", mm_per_px=0.1, thickness_mm=25.4, notch_side="left")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("thickness_mm = -3", "thickness_mm: found -3"),
        ("thickness_mm = 19000", "thickness_mm: found 19000"),
        ("mm_per_px = nan", "mm_per_px: found nan"),
        ("thickness = 19", "Known keys: specimen, mm_per_px, thickness_mm"),
        ('notch_side = "front"', "notch_side: found 'front'"),
        ("thickness_mm = ", "is not valid TOML"),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_bad_sidecar_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "7.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"7\.toml") as caught:
        read_facts(tmp_path / "7.png", USUAL)
    assert words in str(caught.value)


def test_a_folder_names_its_bundle_facts_and_rules(tmp_path: Path) -> None:
    (tmp_path / "inspect.toml").write_text('bundle = "../b"\nfacts.mm_per_px = 0.2\nrules.min_shear_percent = 90\n')
    found = read_folder_settings([tmp_path / "nothing.png", tmp_path])
    assert (found.bundle, found.facts, found.rules) == (
        tmp_path / "../b",
        Facts(mm_per_px=0.2),
        {"min_shear_percent": 90},
    )
    assert read_folder_settings([tmp_path / "nothing.png"]).bundle is None


@pytest.mark.parametrize("text", ["bundel = 3", "facts.mm = 3", "facts.mm_per_px = 0", "bundle"])
def test_bad_folder_settings_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "inspect.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"inspect\.toml"):
        read_folder_settings([tmp_path])
