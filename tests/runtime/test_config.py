from pathlib import Path

import pytest

from runtime.config import read_config
from runtime.errors import ConfigError

STATION = """
line = "mill"
[[stations]]
name = "top"
bundle = "bundles/strip"
journal = "var/top.sqlite"
[stations.camera]
kind = "folder"
path = "pictures"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "line.toml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (station,) = read_config(write(tmp_path, STATION)).stations
    assert station.bundle == tmp_path / "bundles/strip"
    assert station.journal == tmp_path / "var/top.sqlite"
    assert station.camera.path == tmp_path / "pictures"


def test_the_example_that_ships_is_valid() -> None:
    example = Path(__file__).parents[2] / "examples/strip_line.toml"
    assert read_config(example).stations[0].name == "top"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("bundle =", "bundel ="), "'stations.0.bundel' does not exist. Did you mean 'bundle'"),
        (('name = "top"', 'name = "top/left"'), "'stations.0.name': found 'top/left'"),
        (('kind = "folder"', 'kind = "folders"'), "stations.0.camera"),
        (('name = "top"\n', 'name = "top"\nbatch = 0\n'), "'stations.0.batch': found 0"),
        (('bundle = "bundles/strip"\n', ""), "'stations.0.bundle' is missing"),
        (('line = "mill"', "line = "), "not valid TOML"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_to_do(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = write(tmp_path, STATION.replace(*change))
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_stations_that_share_an_endpoint_are_refused(tmp_path: Path) -> None:
    second = STATION[STATION.index("[[stations]]") :].replace('"top"', '"bottom"').replace("top.sql", "b.sql")
    with pytest.raises(ConfigError, match=r"endpoint 'tcp://127.0.0.1:5556' stands twice"):
        read_config(write(tmp_path, STATION + second))


def test_a_missing_file_says_where_an_example_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"examples/strip_line\.toml"):
        read_config(tmp_path / "absent.toml")
