from pathlib import Path

import pytest

from camera.config import FolderSettings
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
    assert isinstance(station.camera, FolderSettings)
    assert station.camera.path == tmp_path / "pictures"


EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_the_examples_that_ship_are_valid(example: Path) -> None:
    for station in read_config(example).stations:
        assert (station.camera is None) != (station.trigger is None)
        assert station.bundle.parent == EXAMPLES / "../models"


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


RIG = """
line = "test-house"
[[stations]]
name = "rig"
bundle = "fracture"
[stations.trigger]
album = "album"
[stations.trigger.hot_folder]
path = "hot"
[stations.trigger.request]
keep = "kept"
"""


def test_a_trigger_stands_in_for_a_camera_with_its_paths_relative_to_the_file(tmp_path: Path) -> None:
    (station,) = read_config(write(tmp_path, RIG)).stations
    assert station.camera is None
    assert station.trigger is not None
    assert station.trigger.hot_folder is not None
    assert (station.trigger.hot_folder.path, station.trigger.album) == (tmp_path / "hot", tmp_path / "album")
    assert station.trigger.request.keep == tmp_path / "kept"
    assert station.endpoints[-1] == "tcp://127.0.0.1:5558"


def test_a_triggered_station_may_take_other_bundles(tmp_path: Path) -> None:
    (station,) = read_config(write(tmp_path, RIG + '[stations.swap]\nbundles = "bundles"\n')).stations
    assert station.swap is not None
    assert station.swap.bundles == tmp_path / "bundles"
    assert station.endpoints[-2:] == ("tcp://127.0.0.1:5558", "tcp://127.0.0.1:5559")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[stations.trigger]", "[stations.triger]"), "'stations.0.triger' does not exist. Did you mean 'trigger'"),
        (('path = "hot"', 'path = "hot"\nsettle_ms = 5'), "settle_ms' does not exist. Did you mean 'settle_s'"),
        (('path = "hot"', 'path = "hot"\nsettle_s = 0'), "'stations.0.trigger.hot_folder.settle_s': found 0"),
        (('path = "hot"', ""), "'stations.0.trigger.hot_folder.path' is missing"),
        (('album = "album"', 'needs = ["weight_kg"]'), "'stations.0.trigger.needs.0': found 'weight_kg'"),
        (('album = "album"', "max_bytes = 1"), "'stations.0.trigger.max_bytes': found 1"),
        (('album = "album"', "max_bytes = 1e12"), "'stations.0.trigger.max_bytes': found 1000000000000"),
        (('[stations.trigger.hot_folder]\npath = "hot"\n', ""), ""),
        (
            ('[stations.trigger.hot_folder]\npath = "hot"\n[stations.trigger.request]\nkeep = "kept"',
             "[stations.trigger.request]\npictures = false"),
            "'stations.0.trigger': nothing would ever be scored",
        ),
        (("[stations.trigger]", '[stations.camera]\nkind = "folder"\npath = "x"\n[stations.trigger]'),
         "'stations.0': found camera and trigger, expected exactly one of them. Change it."),
        (("[stations.trigger]", "[stations.ring]\nslots = 8\n[stations.trigger]"),
         "'stations.0': ring is for cameras, and this station has a trigger"),
        (('keep = "kept"', 'endpoint = "tcp://127.0.0.1:5557"'), "endpoint 'tcp://127.0.0.1:5557' stands twice"),
    ],
)  # fmt: skip
def test_a_wrong_trigger_is_named_with_what_to_do(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in RIG
    path = write(tmp_path, RIG.replace(*change))
    if not message:
        read_config(path)
        return
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert message in str(caught.value)


def test_a_station_without_camera_and_trigger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found neither camera nor trigger"):
        read_config(write(tmp_path, RIG[: RIG.index("[stations.trigger]")]))


def test_stations_that_share_an_endpoint_are_refused(tmp_path: Path) -> None:
    second = STATION[STATION.index("[[stations]]") :].replace('"top"', '"bottom"').replace("top.sql", "b.sql")
    with pytest.raises(ConfigError, match=r"endpoint 'tcp://127.0.0.1:5556' stands twice"):
        read_config(write(tmp_path, STATION + second))


def test_a_missing_file_says_where_an_example_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"examples/strip_line\.toml"):
        read_config(tmp_path / "absent.toml")
