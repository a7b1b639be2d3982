"""The doctor on machines as they were met: a desktop, a Jetson, one without a GPU, one with a hidden TensorRT."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from export.on_device import prove_plans
from runtime.bundle import open_bundle
from runtime.config import LineConfig
from runtime.cuda.calls import Cuda
from runtime.doctor.gpu import FIELDS
from runtime.doctor.report import Asked, Finding, Surroundings, examine, is_healthy, show, this_machine, to_json
from runtime.errors import EngineError
from tests.bundles import make_strip_bundle
from tests.software_cuda import SoftwareCuda
from tests.software_plans import VERSION, add_plan, manifest_of, software_device

THROTTLING = "nvidia-smi --query-gpu=clocks_throttle_reasons.active --format=csv,noheader"
NVIDIA_SMI = {
    "nvidia-smi " + f"--query-gpu={','.join(FIELDS)} --format=csv,noheader": (
        "NVIDIA L4, 580.82.07, 8.9, 23034 MiB, 41, 16.45 W, 72.00 W, 210 MHz, 2040 MHz, Enabled\n"
    ),
    THROTTLING: "0x0000000000000001\n",
}
LIBRARIES = {"openvino": "2026.4", "onnxruntime": "1.31", "cv2": "5.0", "cuda.bindings": "13.5"}
GPU = frozenset({"tensorrt_rtx"})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def no_gpu(_: Any) -> Cuda:
    raise EngineError("CUDA (cuda_bindings): found no NVIDIA driver (no libcuda), expected one. Install it.")


def machine(
    root: Path,
    said: Mapping[str, str] | None = None,
    libraries: Mapping[str, str | None] = LIBRARIES,
    open_cuda: Callable[[Any], Cuda] = no_gpu,
    *,
    in_environment: bool = False,
) -> Surroundings:
    def run(command: Sequence[str]) -> str | None:
        return (said or {}).get(" ".join(command))

    return Surroundings(root, run, lambda name: name in libraries, libraries.get, open_cuda, in_environment)


def of(findings: Sequence[Finding], area: str, what: str = "") -> Finding:
    (finding,) = [each for each in findings if each.area == area and what in each.what]
    return finding


def test_a_machine_without_a_gpu_is_healthy_until_a_backend_needs_one(tmp_path: Path) -> None:
    findings = examine(Asked(), machine(tmp_path))
    assert is_healthy(findings)
    assert of(findings, "GPU").state == "note"
    findings = examine(Asked(backends=GPU), machine(tmp_path))
    assert not is_healthy(findings)
    problems = {(each.area, each.what) for each in findings if each.state == "problem"}
    assert problems == {("GPU", "driver"), ("CUDA", "cuda_bindings"), ("TensorRT", "tensorrt_rtx")}
    assert of(findings, "CUDA", "cuda_bindings").found == "opens no GPU: found no NVIDIA driver (no libcuda)"
    assert of(findings, "TensorRT", "tensorrt_rtx").do == "pip install 'ferrosight[tensorrt-rtx]'"


def test_a_desktop_with_all_it_needs(tmp_path: Path) -> None:
    libraries = {**LIBRARIES, "tensorrt_rtx": VERSION}
    findings = examine(Asked(backends=GPU), machine(tmp_path, NVIDIA_SMI, libraries, lambda _: SoftwareCuda()))
    assert is_healthy(findings)
    assert of(findings, "GPU", "GPU 0").found.startswith(
        "NVIDIA L4, compute capability 8.9, 23034 MiB, driver 580.82.07"
    )
    assert of(findings, "CUDA", "cuda_bindings").found == "opens Software GPU, driver for CUDA 13.0, CUDA graphs"
    assert of(findings, "Clocks and power", "GPU 0").found == "210 MHz of 2040 MHz, 16.45 W of 72.00 W, 41 C"


def test_a_library_without_graphs_is_named_where_native_plans_would_have_them(tmp_path: Path) -> None:
    libraries = {**LIBRARIES, "pycuda": "2026.1", "tensorrt": VERSION, "tensorrt_rtx": VERSION}
    around = machine(tmp_path, NVIDIA_SMI, libraries, lambda api: SoftwareCuda(can_capture=api != "pycuda"))
    for backend, state in (("tensorrt", "note"), ("tensorrt_rtx", "ok")):
        asked = Asked(backends=frozenset({backend}), cuda_apis=frozenset({"pycuda"}))
        found = of(examine(asked, around), "CUDA", "pycuda")
        assert (found.state, "no CUDA graphs" in found.found) == (state, True)


def test_the_library_that_is_asked_for_is_a_problem_where_it_is_not_there(tmp_path: Path) -> None:
    asked = Asked(backends=GPU, cuda_apis=frozenset({"pycuda"}))
    libraries = {**LIBRARIES, "tensorrt_rtx": VERSION}
    findings = examine(asked, machine(tmp_path, NVIDIA_SMI, libraries, lambda _: SoftwareCuda()))
    assert (of(findings, "CUDA", "pycuda").state, of(findings, "CUDA", "cuda_bindings").state) == ("problem", "ok")


def test_a_gpu_that_is_slowed_down_by_heat_is_a_problem(tmp_path: Path) -> None:
    hot = {
        **NVIDIA_SMI,
        "nvidia-smi --query-gpu=clocks_throttle_reasons.active --format=csv,noheader": "0x0000000000000048\n",
    }
    findings = examine(Asked(), machine(tmp_path, hot))
    (problem,) = [each for each in findings if each.state == "problem"]
    assert problem.found == "slowed down now: hardware slowdown, hardware thermal slowdown"


def test_a_driver_that_was_updated_under_a_running_system(tmp_path: Path) -> None:
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text("NVRM version")
    assert of(examine(Asked(), machine(tmp_path)), "GPU").do == "Restart the machine after a driver update."


def test_a_jetson_that_does_not_run_at_full_power(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.0, GCID: 37537400\n")
    findings = examine(Asked(), machine(tmp_path, {"nvpmodel -q": "NV Power Mode: 15W\n2\n"}))
    assert of(findings, "GPU").found == "R36 (release), REVISION: 4.0, GCID: 37537400"
    mode = of(findings, "Clocks and power", "power mode")
    assert (mode.state, mode.found) == ("note", "15W")
    findings = examine(Asked(), machine(tmp_path, {"nvpmodel -q": "NV Power Mode: MAXN\n0\n"}))
    assert of(findings, "Clocks and power", "power mode").state == "ok"


def test_jetpacks_tensorrt_behind_a_virtual_environment(tmp_path: Path) -> None:
    package = tmp_path / "usr/lib/python3.10/dist-packages/tensorrt"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    asked = Asked(backends=frozenset({"tensorrt"}))
    found = of(examine(asked, machine(tmp_path, in_environment=True)), "TensorRT", "tensorrt_rtx")
    assert found.state == "note"
    (hidden,) = [each for each in examine(asked, machine(tmp_path, in_environment=True)) if each.what == "tensorrt"]
    assert hidden.state == "problem"
    assert "this virtual environment hides it" in hidden.found
    assert "--system-site-packages" in hidden.do


def test_a_library_without_its_python_package(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/aarch64-linux-gnu").mkdir(parents=True)
    (tmp_path / "usr/lib/aarch64-linux-gnu/libnvinfer.so.10").write_text("")
    (found,) = [each for each in examine(Asked(), machine(tmp_path)) if each.what == "tensorrt"]
    assert "python3-libnvinfer" in found.do


def test_a_library_that_breaks_when_it_is_imported(tmp_path: Path) -> None:
    broken = of(examine(Asked(), machine(tmp_path, libraries={**LIBRARIES, "openvino": None})), "Backends", "openvino")
    assert (broken.state, broken.found) == ("problem", "installed, and cannot be imported")


def test_an_unknown_backend_is_a_problem(tmp_path: Path) -> None:
    findings = examine(Asked(backends=frozenset({"openvno"})), machine(tmp_path))
    assert of(findings, "Backends", "openvno").do.startswith("Give one of openvino, onnxruntime, tensorrt")


def line_of(folder: Path, port: int) -> LineConfig:
    return LineConfig.model_validate(
        {
            "line": "test",
            "stations": [
                {
                    "name": "top",
                    "bundle": folder / "strip",
                    "journal": folder / "journal.sqlite",
                    "camera": {"kind": "folder", "name": "files", "path": folder / "gone"},
                    "wire": {"publish": f"tcp://127.0.0.1:{port}", "replay": "tcp://127.0.0.1:*"},
                }
            ],
        }
    )


def test_a_port_that_is_taken_and_a_folder_that_is_gone(tmp_path: Path) -> None:
    make_strip_bundle(tmp_path / "strip", 64, 64)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        findings = examine(Asked(line=line_of(tmp_path, port)), machine(tmp_path))
        assert of(findings, "Ports", str(port)).found == "in use"
        assert f"sport = :{port}" in of(findings, "Ports", str(port)).do
    findings = examine(Asked(line=line_of(tmp_path, port)), machine(tmp_path))
    assert of(findings, "Ports", str(port)).state == "ok"
    assert "gone is not there" in of(findings, "Cameras", "camera of top").found
    assert of(findings, "Bundle").state == "ok"


class TestBundles:
    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Path:
        folder = make_strip_bundle(tmp_path / "strip", 64, 64)
        for role, graph in open_bundle(folder).spec.graphs.items():
            file = folder / graph.files["fp16"]
            add_plan(folder, manifest_of(role, file, graph, (64, 64), 4), file)
        return folder

    def look(self, root: Path, bundle: Path, *, backends: frozenset[str] = GPU) -> list[Finding]:
        libraries = {**LIBRARIES, "tensorrt_rtx": VERSION}
        around = machine(root, NVIDIA_SMI, libraries, lambda _: SoftwareCuda())
        return [each for each in examine(Asked((bundle,), backends=backends), around) if each.area == "Bundle"]

    def test_unproven_plans_are_a_problem_and_proven_ones_are_not(
        self, tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The plans say CUDA 13, as the installed distribution would.
        monkeypatch.setattr("runtime.doctor.bundle.cuda_of", lambda _: "13")
        findings = self.look(tmp_path, bundle)
        assert sum("parity was not measured on this GPU" in each.found for each in findings) == 2
        assert any(each.do == f"ferrosight parity {bundle} --backend tensorrt_rtx" for each in findings)
        prove_plans(bundle, "tensorrt_rtx", device=lambda flavour, _: software_device(flavour))
        findings = self.look(tmp_path, bundle)
        assert is_healthy(findings)
        assert sum("parity measured here at" in each.found for each in findings) == 2

    def test_plans_of_another_version_do_not_fit(
        self, tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("runtime.doctor.bundle.cuda_of", lambda _: "12")
        findings = self.look(tmp_path, bundle)
        assert sum("does not fit: CUDA: found 13, expected 12" in each.found for each in findings) == 2
        problems = [each for each in findings if each.state == "problem"]
        assert [each.what for each in problems] == ["gate on tensorrt_rtx", "segmenter on tensorrt_rtx"]
        named = f"{bundle} --backend tensorrt_rtx"
        assert {each.do for each in problems} == {f"ferrosight build {named}, then ferrosight parity {named}"}

    def of_station(self, root: Path, **settings: Any) -> list[Finding]:
        libraries = {**LIBRARIES, "tensorrt_rtx": VERSION}
        around = machine(root, NVIDIA_SMI, libraries, lambda _: SoftwareCuda())
        line = line_of(root, 5556)
        station = line.stations[0].model_copy(update={"backend": "tensorrt_rtx", **settings})
        asked = Asked(line=line.model_copy(update={"stations": (station,)}), backends=GPU)
        return [each for each in examine(asked, around) if each.what.endswith(" of top") and each.area == "Bundle"]

    def test_a_stations_own_batch_is_asked_for(
        self, tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("runtime.doctor.bundle.cuda_of", lambda _: "13")
        unproven = self.of_station(tmp_path, batch=4)
        assert [each.do for each in unproven] == [f"ferrosight parity {bundle} --backend tensorrt_rtx"] * 2
        prove_plans(bundle, "tensorrt_rtx", device=lambda flavour, _: software_device(flavour))
        assert [(each.what, each.state) for each in self.of_station(tmp_path, batch=4)] == [
            ("gate of top", "ok"), ("segmenter of top", "ok")
        ]  # fmt: skip
        for finding in self.of_station(tmp_path, batch=5):
            assert (finding.state, "none holds 5x1x64x64" in finding.found) == ("problem", True)
            assert finding.do == f"ferrosight build {bundle} --backend tensorrt_rtx --target 8.9 --batch 1,5"
        for finding in self.of_station(tmp_path, batch=4, precision="fp32"):
            assert (finding.state, "found no fp32 file of graph" in finding.found) == ("problem", True)

    def test_a_stranger_among_the_plans_is_a_problem(self, tmp_path: Path, bundle: Path) -> None:
        (bundle / "engines" / "stranger.plan").write_bytes(b"who knows")
        (found,) = [each for each in self.look(tmp_path, bundle) if each.what == "stranger.plan"]
        assert found.state == "problem"

    def test_without_a_gpu_plans_are_listed_and_no_problem(self, tmp_path: Path, bundle: Path) -> None:
        findings = examine(Asked((bundle,)), machine(tmp_path))
        assert is_healthy(findings)
        assert sum("no GPU here" in each.found for each in findings) == 2

    def test_an_altered_bundle_is_a_problem(self, tmp_path: Path, bundle: Path) -> None:
        (bundle / "golden.npz").write_bytes(b"")
        (found,) = self.look(tmp_path, bundle)
        assert "golden.npz was altered" in found.found


def test_the_report_for_people_and_the_one_for_programs(tmp_path: Path) -> None:
    findings = examine(Asked(backends=GPU), machine(tmp_path))
    console = Console(width=200, record=True, file=io.StringIO())
    show(findings, console)
    text = console.export_text()
    assert "PROBLEM driver: no NVIDIA GPU" in text
    assert "3 problems" in text
    report = json.loads(to_json(findings))
    assert report["healthy"] is False
    assert {"area", "what", "state", "found", "do"} == set(report["findings"][0])


def test_the_command_on_this_machine() -> None:
    from runtime.cli import app

    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code in (0, 1)
    report = json.loads(done.stdout)
    assert report["healthy"] is (done.exit_code == 0)
    assert this_machine().version("numpy")
    assert this_machine().run(["no-such-command"]) is None
