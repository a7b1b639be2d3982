"""An engine that is closed in another thread leaves the process able to take signals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.bundles import make_strip_bundle

PROGRAM = """
import gc, os, signal, sys, threading
from pathlib import Path
from runtime.backends import open_engine
from runtime.bundle import open_bundle
from runtime.engine import EngineSettings

heard = []
signal.signal(signal.SIGHUP, lambda *_: heard.append("SIGHUP"))
bundle = open_bundle(Path(sys.argv[1]))
graph = bundle.spec.graphs["gate"]
settings = EngineSettings(max_batch=1, height_px=64, width_px=256, threads=1)
engines = [open_engine("openvino", bundle.path / "gate.fp16.onnx", graph, settings)]

def close():
    engines.pop().close()
    gc.collect()

thread = threading.Thread(target=close)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGHUP)
print(*heard)
"""


def test_signals_come_through_after_the_last_engine_was_closed_elsewhere(tmp_path: Path):
    # OpenVINO's CPU plugin lends the thread that loads it a stack for signals and takes it back when it is unloaded.
    make_strip_bundle(tmp_path / "bundle")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "bundle")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "SIGHUP\n"), done.stderr
