from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.errors import EngineError
from runtime.plans.manifest import Gpu
from runtime.plans.preflight import Site
from runtime.plans.user_cache import UserCache, cache_folder, try_out

SITE = Site("tensorrt_rtx", "1.7.1.116", "13", Gpu(name="NVIDIA L4", capability="8.9"))


def cache_in(folder: Path, plan: str = "ab" * 32, driver: str = "13.0") -> UserCache:
    return UserCache.of_kernels(folder, plan, SITE, driver)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    cache = cache_in(tmp_path / "kernels")
    assert cache.read() is None
    cache.write(b"kernels")
    assert cache.read() == b"kernels"
    assert [file.name for file in (tmp_path / "kernels").iterdir()] == [cache.path.name]


def test_another_plan_or_driver_has_another_file(tmp_path: Path) -> None:
    assert len({cache_in(tmp_path, *key).path for key in (("0" * 64,), ("1" * 64,), ("0" * 64, "12.8"))}) == 3


def test_timings_are_one_file_a_machine(tmp_path: Path) -> None:
    timings = UserCache.of_timings(tmp_path, SITE)
    assert timings == UserCache.of_timings(tmp_path, SITE)
    other = replace(SITE, gpu=Gpu(name="NVIDIA L40S", capability="8.9"))
    assert timings != UserCache.of_timings(tmp_path, other)
    assert timings.path != cache_in(tmp_path).path


def test_what_others_may_write_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = cache_in(tmp_path / "kernels")
    cache.write(b"kernels")
    cache.path.chmod(0o666)
    with caplog.at_level(logging.WARNING):
        assert cache.read() is None
    assert "others than its owner may write it" in caplog.text
    cache.path.chmod(0o600)
    assert cache.read() == b"kernels"
    (tmp_path / "kernels").chmod(0o777)
    assert cache.read() is None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    cache = cache_in(tmp_path / "kernels")
    (tmp_path / "elsewhere").write_bytes(b"kernels")
    cache.path.symlink_to(tmp_path / "elsewhere")
    assert cache.read() is None


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="expected a folder that can be written"):
        try_out(tmp_path / "file" / "below")


def test_the_users_folder_follows_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ferrosight"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "ferrosight"
