"""The papers' workloads: their table, bundles with random weights, and torch beside them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks.latency import networks as networks_of
from benchmarks.latency.cli import Papers, run_papers
from benchmarks.latency.heads import head_answer
from benchmarks.latency.markdown import latency_markdown
from benchmarks.latency.measure import Session
from benchmarks.latency.networks import Network, PaperChoice, paper_networks
from benchmarks.latency.papers import NETWORKS, PAPERS, PaperNetwork
from benchmarks.latency.plans import with_plans
from benchmarks.latency.plot import plot_latency
from benchmarks.latency.report import LatencyPlan, Published
from benchmarks.latency.torch_rivals import TorchRival, torch_rivals
from benchmarks.latency.untrained import untrained_bundle, untrained_network
from runtime.errors import BundleError, ConfigError
from tests.bundles import make_strip_bundle
from tests.gpu import no_gpu

pytest.importorskip("torch")

SIZE_PX = (64, 80)
SMALL = PaperNetwork(
    "crack", "crack", "model", "unet-folded", 595_652, lead=True,
    published=Published(latency_ms=58.0, device="a GPU", place="section 4"),
)  # fmt: skip
"""A network small enough for a test, in the place of a paper's."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("papers")


@pytest.fixture(scope="module")
def network(cache: Path) -> Network:
    return Network(untrained_bundle(SMALL, SIZE_PX, cache), "model", SIZE_PX, ("fp32", "fp16"), SMALL.published)


def test_every_paper_leads_with_something_and_says_what_it_knows_of_speed() -> None:
    assert {each.task for each in NETWORKS if each.lead} == set(PAPERS)
    published = {each.architecture: each.published.latency_ms for each in NETWORKS if each.published}
    assert published == {"vr-vgg19": 58.0, "vu-vgg19": 165.0}
    assert len({(each.task, each.graph, each.architecture) for each in NETWORKS}) == len(NETWORKS)


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS, ids=lambda each: each.name)
def test_every_network_is_the_papers_to_the_last_parameter(network: PaperNetwork) -> None:
    assert untrained_network(network).training is False


def test_a_network_with_other_parameters_is_not_the_papers() -> None:
    with pytest.raises(BundleError, match=r"found 595,652 parameters, expected the paper's 595,653"):
        untrained_network(PaperNetwork("crack", "crack", "model", "unet-folded", 595_653))


def test_random_weights_make_a_bundle_once_and_no_line_opens_it(network: Network, cache: Path) -> None:
    told: list[str] = []
    assert untrained_bundle(SMALL, SIZE_PX, cache, told.append).digest == network.bundle.digest
    assert told == []
    assert not network.trained
    assert set(network.graph.files) == {"fp32", "fp16"}
    assert networks_of.carried(network.bundle, "model", "all") == ("fp32", "fp16")
    assert networks_of.carried(network.bundle, "model", None) == ("fp16",)


def test_torch_does_the_same_batch_eager_in_both_types(network: Network) -> None:
    frames = np.zeros((2, 1, *SIZE_PX), np.uint8)
    ways = list(torch_rivals(network, frames, "cpu", ("eager", "compile"), may_compile=lambda: False))
    found = [way.name if isinstance(way, TorchRival) else way for way in ways]
    refused = "torch compiled, {}: its time was used up; rows without a figure of it come after that"
    assert found == ["torch eager, bf16", refused.format("bf16"), "torch eager, fp32", refused.format("fp32")]


def test_a_graph_that_torch_does_not_know_is_left_out_with_a_reason(tiny: Path) -> None:
    network = networks_of.bundle_networks(networks_of.open_bundle(tiny), ("gate",))[0]
    (reason,) = torch_rivals(network, np.zeros((1, 1, 64, 256), np.uint8), "cpu", ("eager",))
    assert isinstance(reason, str)
    assert "no architecture 'tiny-gate'" in reason


@pytest.mark.skipif(not no_gpu(), reason="there is a GPU")
def test_torch_without_a_gpu_is_left_out_there(network: Network) -> None:
    (reason,) = torch_rivals(network, np.zeros((1, 1, *SIZE_PX), np.uint8), "cuda", ("eager",))
    assert isinstance(reason, str)
    assert "finds no GPU" in reason


def test_a_row_stands_beside_torch_and_the_papers_figure(network: Network, tmp_path: Path) -> None:
    plan = LatencyPlan(batches=(1,), runs=3, threads=1, beside=("bare", "eager"))
    report = Session(plan).measure([network], "a network")
    assert [row.precision for row in report.rows] == ["fp32", "fp16"]
    for row in report.rows:
        assert [rival.name for rival in row.rivals] == ["torch eager, bf16", "torch eager, fp32", "openvino, bare"]
        assert (row.trained, row.stages_ms.post, row.published) == (False, None, SMALL.published)
    said = latency_markdown(report)
    assert "crack: unet-folded *" in said
    assert "random weights" in said
    plot_latency(report, tmp_path / "latency.png")
    assert (tmp_path / "latency.png").stat().st_size > 10_000


def test_the_workloads_are_the_shipped_bundles_and_what_is_asked_of_the_papers(tiny: Path, tmp_path: Path) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "strip").symlink_to(tiny)
    found = list(paper_networks(PaperChoice(("strip", "crack"), ("compact",)), shipped, tmp_path))
    assert [str(each) for each in found] == [
        "strip gate tiny-gate 64x256",
        "strip segmenter tiny-segmenter 64x256",
        f"crack, compact: there is no bundle {shipped / 'crack'}",
    ]


@pytest.mark.skipif(not no_gpu(), reason="there is a GPU")
def test_without_a_gpu_there_is_no_plan_and_the_note_says_why(tiny: Path, tmp_path: Path) -> None:
    networks = networks_of.bundle_networks(networks_of.open_bundle(tiny), ("gate",))
    on_gpu = LatencyPlan(backends=("openvino", "tensorrt_rtx"), batches=(1,))
    (note,) = with_plans(networks, on_gpu, tmp_path)
    assert isinstance(note, str)
    assert "no plan: " in note
    assert list(with_plans(networks, LatencyPlan(batches=(1,)), tmp_path)) == networks


def test_a_precision_that_does_not_ship_is_left_out_and_said(tmp_path: Path) -> None:
    shipped = make_strip_bundle(tmp_path / "strip").parent
    papers = Papers(("strip",), "compact", lead=False, shipped=shipped, cache=tmp_path)
    plan = LatencyPlan(precision=("fp32",), graphs=("gate",))
    with pytest.raises(ConfigError, match=r"tiny-strip gate: its bundle carries fp16, and no fp32. Export"):
        run_papers(papers, plan, lambda _: contextlib.nullcontext(print), print)
    plan = LatencyPlan(batches=(1,), graphs=("gate",), runs=1)
    report = run_papers(papers, plan, lambda _: contextlib.nullcontext(print), print)
    assert [row.graph for row in report.rows] == ["gate"]
    assert report.subject == "the shipped networks at the papers' sizes"


def test_int8_is_taken_from_the_quantised_bundle_and_never_from_another_file(tmp_path: Path) -> None:
    shipped = make_strip_bundle(tmp_path / "strip").parent
    make_strip_bundle(shipped / "strip-int8", precisions=("int8",), name="tiny-strip-int8")
    make_strip_bundle(shipped / "crack", name="no-crack")
    choice = PaperChoice(("strip", "crack"), ("compact",), graphs=("gate",), precisions=("int8", "fp16"))
    found = list(paper_networks(choice, shipped, tmp_path))
    networks = [each for each in found if isinstance(each, Network)]
    assert [(each.bundle.path.name, each.precisions) for each in networks] == [
        ("strip", ("fp16",)),
        ("strip-int8", ("int8",)),
        ("crack", ("fp16",)),
    ]
    (note,) = (each for each in found if isinstance(each, str))
    assert note.startswith("no-crack gate: its bundle carries fp16, and no int8.")
    assert f"ferrosight quantise {shipped / 'crack'} --precision int8 --out {shipped / 'crack-int8'}" in note


def test_random_weights_are_not_quantised_and_the_note_says_so(tmp_path: Path) -> None:
    choice = PaperChoice(("crack",), ("paper",), precisions=("int8",))
    assert list(paper_networks(choice, tmp_path, tmp_path)) == [
        "crack-unet, int8: random weights are not quantised, since nothing says what they may lose"
    ]


def test_nothing_to_measure_is_said(tmp_path: Path) -> None:
    papers = Papers(("phase",), "compact", lead=False, shipped=tmp_path, cache=tmp_path)
    with pytest.raises(ConfigError, match=r"nothing to measure \(phase, compact: there is no bundle"):
        run_papers(papers, LatencyPlan(), lambda _: contextlib.nullcontext(print), print)


def test_the_head_answers_for_every_frame_of_a_batch(tiny: Path) -> None:
    bundle = networks_of.open_bundle(tiny)
    frames = np.full((2, 1, 64, 256), 120, np.uint8)
    for role, outputs in (
        ("gate", {"defect_probability": np.zeros(2, np.float32)}),
        ("segmenter", {"class_probability": np.zeros((2, 4, 64, 256), np.uint8)}),
    ):
        answer = head_answer(bundle, role, "openvino")
        assert answer is not None
        answer(frames, outputs)
        with pytest.raises(IndexError):
            answer(np.concatenate([frames, frames]), outputs)
