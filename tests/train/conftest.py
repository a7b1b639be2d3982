from __future__ import annotations

from pathlib import Path

import pytest
import torch

# Tiny networks gain nothing from a second thread, and on a busy machine threads that wait for each other crawl.
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a file's tests keep the pictures that they draw."""
    return tmp_path_factory.mktemp("cache")
