"""The line stays light: what is heavy or optional is imported late, by the one file that needs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from export.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    "torch", "torchvision", "timm", "segmentation_models_pytorch", "lightning_fabric", "torchmetrics", "pandas", "onnx",
    "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "pycuda", "cuda", "cv2", "matplotlib", "skimage", "gi",
)  # fmt: skip


@pytest.mark.parametrize(
    "module",
    ["runtime.loop", "runtime.station", "runtime.delivery.client", "camera.grabber", "camera.open", "export.parity",
     "export.bundle", "export.to_tensorrt", "export.on_device", "runtime.plans.preflight", "runtime.doctor.report",
     "runtime.cuda", "runtime.backends.tensorrt", "ferrosight", *sorted(set(TASKS.values()))],
)  # fmt: skip
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & set(HEAVY)
