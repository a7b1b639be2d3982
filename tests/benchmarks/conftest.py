from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundles import make_strip_bundle


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A strip bundle for frames of 64x256."""
    return make_strip_bundle(tmp_path_factory.mktemp("bundles") / "tiny", precisions=("fp16", "fp32"))


@pytest.fixture(scope="session")
def tiny_any_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for frames of any size."""
    return make_strip_bundle(tmp_path_factory.mktemp("bundles") / "any", dynamic_size=True)
