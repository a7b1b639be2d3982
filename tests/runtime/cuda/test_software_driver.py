"""The CUDA libraries on the software driver: each promise of the contract, in a process that has no other driver."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from runtime.cuda import CUDA_APIS, CudaApi
from tests.software_driver.library import DEVICE_NAME, compile_driver, environment, needs_compiler

ROOT = Path(__file__).parents[3]
CONTRACT = "tests/runtime/cuda/test_contract.py"
ONLY_HERE = "tests/runtime/cuda/on_software_driver.py"
ENGINES = ("tests/runtime/backends/test_engines.py", "tests/runtime/backends/test_opening.py")
GPU_CHECK = "tests/benchmarks/test_gpu_check.py"

pytestmark = needs_compiler


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.skipif(not entry.installed, reason=f"{entry.library} is not installed"))
        for name, entry in CUDA_APIS.items()
    ]
)
def api(request: pytest.FixtureRequest) -> CudaApi:
    return request.param


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_driver(tmp_path_factory.mktemp("driver"))


def run(driver: Path, *arguments: str) -> str:
    """Run Python where the driver is the software one; gives what it said, once it ended well."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment(driver), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_tests(driver: Path, report: Path, which: str, *files: str) -> dict[str, str]:
    """Run tests there; gives why each was skipped by its name, empty where it passed."""
    run(driver, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", "-k", which, *files)
    cases = ET.parse(report).getroot().iter("testcase")
    skips = {case.attrib["name"]: case.find("skipped") for case in cases}
    return {name: "" if skip is None else skip.attrib["message"] for name, skip in skips.items()}


def test_every_promise_is_kept(api: CudaApi, driver: Path, tmp_path: Path) -> None:
    outcomes = run_tests(driver, tmp_path / "report.xml", api, CONTRACT, ONLY_HERE)
    assert f"test_bytes_go_up_and_come_back[{api}]" in outcomes
    assert f"test_nobody_takes_it_for_a_gpu[{api}]" in outcomes
    assert set(outcomes.values()) <= {"", "it has no graphs"}
    assert CUDA_APIS[api].captures == ("it has no graphs" not in outcomes.values())


@pytest.mark.slow
def test_an_engine_computes_through_it(api: CudaApi, driver: Path, tmp_path: Path) -> None:
    outcomes = run_tests(driver, tmp_path / "report.xml", f"{api}-driver", *ENGINES)
    assert {name.partition("[")[2].partition(f"-{api}-driver")[0] for name in outcomes} >= {"tensorrt", "tensorrt_rtx"}
    assert set(outcomes.values()) == {""}


@pytest.mark.slow
def test_tests_that_need_a_gpu_stay_skipped(driver: Path, tmp_path: Path) -> None:
    outcomes = run_tests(driver, tmp_path / "report.xml", "steps_run_on_a_gpu", GPU_CHECK)
    assert outcomes
    assert all(DEVICE_NAME in why for why in outcomes.values())


def test_a_process_that_never_closes_it_ends_well(api: CudaApi, driver: Path) -> None:
    program = f"""
from runtime.cuda import open_cuda
both = open_cuda({api!r}), open_cuda({api!r})
made = [(each.make_stream(), each.make_event(), each.allocate(1), each.allocate_pinned(1)) for each in both]
print("at its end")
"""
    assert run(driver, "-c", program) == "at its end\n"


def test_the_doctor_says_what_it_opens(api: CudaApi, driver: Path) -> None:
    said = run(driver, "ferrosight.py", "doctor", "--json")
    assert f"opens {DEVICE_NAME}, driver for CUDA 13.0" in said
