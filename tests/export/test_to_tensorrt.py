"""Plans are really built, with no GPU: TensorRT-RTX does it ahead of time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from export.bundle import Draft, write_bundle
from export.to_tensorrt import BuildState, Sizes, build_plans
from runtime.bundle import Parity, ParityResult, open_bundle
from runtime.errors import BundleError, EngineError
from runtime.golden.frames import Golden
from runtime.plans.manifest import Gpu, read_manifest
from runtime.plans.preflight import Site, find_plan
from runtime.spec import GraphSpec, Provenance, TensorSpec
from tests.bundles import PLAIN_SETTINGS, make_strip_bundle, plain_frames, seal
from tests.export.rtx import needs_rtx


@needs_rtx
def test_plans_lie_in_the_bundle_with_their_manifests(tiny: Path) -> None:
    told: list[BuildState] = []
    plans = build_plans(tiny, batch_of(4), targets=("8.6", "12.0"), progress=told.append)
    bundle = open_bundle(tiny)
    assert [plan.manifest.role for plan in plans] == ["gate", "segmenter"]
    for plan in plans:
        assert plan.built
        assert plan.size_bytes == plan.path.stat().st_size > 1000
        assert plan.manifest.plan_file in bundle.spec.files
        assert read_manifest(tiny / plan.manifest.side_car_file) == plan.manifest
        assert plan.manifest.onnx_sha256 == bundle.spec.files[f"{plan.manifest.role}.fp16.onnx"]
        assert plan.manifest.targets == ("8.6", "12.0")
        assert [each.largest for each in plan.manifest.ranges("frames")] == [(1, 1, 64, 64), (4, 1, 64, 64)]
    assert {(state.role, state.number, state.count) for state in told} == {("gate", 1, 2), ("segmenter", 2, 2)}
    assert all(0 <= state.done <= state.steps for state in told)
    # Of a first build nothing is known until the first plan is there.
    assert {state.left_s is None for state in told if state.number == 1} == {True}
    assert told[[state.number for state in told].index(2)].left_s is not None


@needs_rtx
def test_a_plan_that_was_built_here_fits_the_machines_it_was_built_for(tiny: Path) -> None:
    """From the real builder to the door of the real runtime, which takes no more than a GPU to open it."""
    import tensorrt_rtx

    built = {plan.manifest.role: plan for plan in build_plans(tiny, batch_of(4), targets=("8.6", "8.9"))}
    spec = open_bundle(tiny).spec
    for role, graph in spec.graphs.items():
        model = tiny / graph.files["fp16"]
        manifest = built[role].manifest
        for capability in ("8.6", "8.9"):
            site = Site("tensorrt_rtx", tensorrt_rtx.__version__, manifest.cuda, Gpu(name="any", capability=capability))
            plan = find_plan("test", model, graph, (64, 64), 4, site)
            assert (plan.manifest, plan.sha256) == (manifest, spec.files[manifest.plan_file])
            assert plan.data == built[role].path.read_bytes()
        elsewhere = Site("tensorrt_rtx", tensorrt_rtx.__version__, manifest.cuda, Gpu(name="any", capability="12.0"))
        with pytest.raises(EngineError, match=r"found 8\.6, 8\.9, expected 12\.0 among them .*--target 12\.0 --batch"):
            find_plan("test", model, graph, (64, 64), 4, elsewhere)
        with pytest.raises(EngineError, match=r"profile: found 1x1x64x64 to 1x1x64x64 and 2x1x64x64 to 4x1x64x64"):
            find_plan("test", model, graph, (64, 64), 5, site)


@needs_rtx
def test_what_is_there_is_not_built_again(tiny: Path) -> None:
    first = build_plans(tiny, batch_of(4))
    spec = (tiny / "spec.json").read_bytes()
    second = build_plans(tiny, batch_of(4))
    assert [plan.built for plan in second] == [False, False]
    assert [plan.path for plan in second] == [plan.path for plan in first]
    assert (tiny / "spec.json").read_bytes() == spec
    assert all(plan.built for plan in build_plans(tiny, batch_of(4), rebuild=True))
    assert len(list((tiny / "engines").iterdir())) == 4


@needs_rtx
def test_a_build_that_was_done_before_is_estimated_from_its_first_step(tiny: Path) -> None:
    build_plans(tiny, batch_of(4))
    told: list[BuildState] = []
    build_plans(tiny, batch_of(4), rebuild=True, progress=told.append)
    assert told[0].left_s is not None
    told.clear()
    build_plans(tiny, batch_of(8), progress=told.append)
    assert told[0].left_s is None  # another plan: nothing is known


@needs_rtx
def test_a_cache_folder_that_cannot_be_written_costs_the_estimate_alone(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("a file, and no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    assert all(plan.built for plan in build_plans(tiny, batch_of(4)))


@needs_rtx
def test_a_folder_that_cannot_be_written_is_found_before_anything_is_built(tiny: Path) -> None:
    (tiny / "engines").write_text("in the way")
    told: list[object] = []
    with pytest.raises(BundleError, match="expected a folder that can be written"):
        build_plans(tiny, batch_of(4), progress=told.append)
    assert not told


@needs_rtx
def test_another_batch_is_another_plan(tiny: Path) -> None:
    build_plans(tiny, batch_of(4))
    build_plans(tiny, batch_of(8))
    assert len(list((tiny / "engines").glob("*.plan"))) == 4
    open_bundle(tiny)


@needs_rtx
def test_a_target_that_does_not_exist_is_refused(tiny: Path) -> None:
    with pytest.raises(EngineError, match=r"found the target 9\.9, expected one of .*8\.9"):
        build_plans(tiny, batch_of(4), targets=("9.9",))
    with pytest.raises(EngineError, match="found the target 'sm89', expected a compute capability such as 8"):
        build_plans(tiny, batch_of(4), targets=("sm89",))
    assert not list(tiny.glob("engines/*"))


@needs_rtx
def test_the_order_of_targets_makes_no_other_plan(tiny: Path) -> None:
    (first, _) = build_plans(tiny, batch_of(4), targets=("12.0", "8.6", "8.6"))
    (second, _) = build_plans(tiny, batch_of(4), targets=("8.6", "12.0"))
    assert first.manifest.targets == ("8.6", "12.0")
    assert (second.path, second.built) == (first.path, False)


@needs_rtx
def test_a_build_can_be_stopped(tiny: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plans(tiny, batch_of(4), progress=stop)
    assert not list(tiny.glob("engines/*"))
    open_bundle(tiny)


@needs_rtx
def test_what_the_parser_says_is_passed_on(tiny: Path) -> None:
    (tiny / "gate.fp16.onnx").write_bytes(b"no graph at all")
    with pytest.raises(EngineError, match=r"build gate .*found gate\.fp16\.onnx, which its parser refuses: .*\w"):
        build_plans(seal(tiny), batch_of(4))


@needs_rtx
def test_a_graph_that_breaks_its_contract_is_refused(tiny: Path) -> None:
    gate, segmenter = tiny / "gate.fp16.onnx", tiny / "segmenter.fp16.onnx"
    gate.write_bytes(segmenter.read_bytes())
    with pytest.raises(EngineError, match=r"found outputs \{'class_probability': 'uint8'\}, expected"):
        build_plans(seal(tiny), batch_of(4))


@needs_rtx
def test_free_sizes_need_a_range(tmp_path: Path) -> None:
    free = make_strip_bundle(tmp_path / "free", 64, 64, dynamic_size=True)
    with pytest.raises(BundleError, match="leaves H of its input 'frames' free"):
        build_plans(free, batch_of(4))
    plans = build_plans(free, Sizes((1, 2, 4), (32, 64, 64), (32, 64, 128)))
    assert [each.largest for each in plans[0].manifest.ranges("frames")] == [
        (1, 1, 64, 128), (2, 1, 64, 128), (4, 1, 64, 128)
    ]  # fmt: skip


def test_a_flavour_that_is_not_installed_is_named(tiny: Path) -> None:
    # In a process of its own, without its installed packages: also shows that nothing else is needed to say so.
    code = (
        "import importlib.util, pathlib, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'tensorrt' else find(name)\n"
        "from export.to_tensorrt import build_plans\n"
        "try:\n"
        "    build_plans(pathlib.Path(sys.argv[1]), flavour='tensorrt')\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
        "print(sorted({'torch', 'onnx', 'onnx_ir', 'train'} & set(sys.modules)))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(tiny)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": "."},
    ).stdout
    assert said.startswith("EngineError build: found no library 'tensorrt', expected it to be installed. Run: pip")
    assert said.endswith("[]\n")


def batch_of(most: int) -> Sizes:
    return Sizes((1, most))


@needs_rtx
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("gate", "segmenter"),
    [
        pytest.param(("resnet50", 23_510_081), ("unet-efficientnet-b3", 13_159_468), id="proposed"),
        pytest.param(("resnet34", 21_285_185), ("unet-resnet34", 24_436_804), id="resnet34", marks=pytest.mark.large),
        pytest.param(("resnet50", 23_510_081), ("unet-resnet50", 32_521_540), id="resnet50", marks=pytest.mark.large),
    ],
)
def test_the_papers_strip_networks_are_built_for_batches_of_1_to_32(
    gate: tuple[str, int], segmenter: tuple[str, int], tmp_path: Path
) -> None:
    """With random weights, half, 256x1600."""
    import onnx_ir as ir
    import torch

    from export.half import to_half
    from export.tasks.strip_graphs import ENDS
    from export.to_onnx import output_specs, to_onnx
    from train.models import build, count_parameters

    torch.manual_seed(0)
    graphs: dict[str, GraphSpec] = {}
    for role, (architecture, parameters), classes in (("gate", gate, 1), ("segmenter", segmenter, 4)):
        network = build(role, architecture, classes=classes).eval()  # type: ignore[arg-type]
        assert count_parameters(network) == parameters
        file = f"{role}.fp16.onnx"
        single = to_onnx(network, role, ENDS[role], (256, 1600))
        ir.save(to_half(single), tmp_path / file)
        graphs[role] = GraphSpec(
            architecture=architecture,
            variant="paper",
            parameters=count_parameters(network),
            files={"fp16": file},
            input=TensorSpec(name="frames", dtype="uint8", shape=("N", 1, 256, 1600)),
            outputs=output_specs(single, ENDS[role]),
        )
    # Parity is another test's business: these weights were never trained.
    results = tuple(
        ParityResult(graph=role, precision="fp16", backend="none", figure="none", value=0, limit=0, passed=True)
        for role in graphs
    )
    provenance = Provenance(recipe={}, data={}, git_commit="none", created_at="2024-01-01T00:00:00Z", metrics={})
    draft = Draft(
        name="paper",
        task="strip",
        graphs=graphs,
        onnx={f"{role}.fp16.onnx": tmp_path / f"{role}.fp16.onnx" for role in graphs},
        settings=PLAIN_SETTINGS,
        provenance=provenance,
        golden=Golden(plain_frames(1), {}),
        parity=Parity(limits={"none": 0}, results=results),
    )
    bundle = write_bundle(draft, tmp_path / "paper")
    for plan in build_plans(bundle.path):
        assert [(each.smallest, each.usual, each.largest) for each in plan.manifest.ranges("frames")] == [
            ((low, 1, 256, 1600), (high, 1, 256, 1600), (high, 1, 256, 1600)) for low, high in ((1, 1), (2, 8), (9, 32))
        ]
        assert plan.manifest.precision == "fp16"
        assert plan.manifest.targets == ("8.6", "8.9", "12.0")
        assert plan.size_bytes > graphs[plan.manifest.role].parameters * 2 * 0.9
        assert read_manifest(bundle.path / plan.manifest.side_car_file) == plan.manifest
    open_bundle(bundle.path)
