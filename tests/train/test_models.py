"""Every network: its parameter count, its output, and what it does with sizes and dtypes."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from safetensors.torch import save_file

from runtime.errors import ConfigError
from train.models import (
    ARCHITECTURES,
    GREY_MEAN,
    GREY_STD,
    JOBS,
    CrackOutput,
    FractureOutput,
    GateOutput,
    GrainOutput,
    PhaseOutput,
    SegmenterOutput,
    build,
    count_parameters,
    fine_tune_from,
    job_of,
    scale_grey,
)
from train.tasks import TASKS


class Known(NamedTuple):
    job: str
    architecture: str
    outputs: int
    parameters: int
    source: str


STRIP = "Severstal cascade"
FRACTURE = "fracture paper, Table 2"
CRACK = "crack-tip paper, its parameter table"
PHASE = "ferrite and pearlite paper, Table 2"
COUNTED = "counted by hand: the paper gives none"
OURS = "ours"

# One row a network; where the source is a paper, the number is the paper's.
NETWORKS = [
    Known("gate", "resnet50", 1, 23_510_081, STRIP),
    Known("gate", "resnet34", 1, 21_285_185, COUNTED),
    Known("gate", "resnet10-cells", 1, 1_076_521, OURS),
    Known("segmenter", "unet-efficientnet-b3", 4, 13_159_468, STRIP),
    Known("segmenter", "unet-resnet34", 4, 24_436_804, COUNTED),
    Known("segmenter", "unet-resnet50", 4, 32_521_540, COUNTED),
    Known("segmenter", "unet-resnet10-narrow", 4, 712_488, OURS),
    Known("fracture", "vr-vgg11", 1, 9_220_993, FRACTURE),
    Known("fracture", "vr-vgg13", 1, 9_405_505, FRACTURE),
    Known("fracture", "vr-vgg16", 1, 14_715_201, FRACTURE),
    Known("fracture", "vr-vgg19", 1, 20_024_897, FRACTURE),
    Known("fracture", "vr-densenet121", 1, 6_954_881, FRACTURE),
    Known("fracture", "vr-densenet161", 1, 26_474_209, FRACTURE),
    Known("fracture", "vr-resnet18", 1, 11_177_025, FRACTURE),
    Known("fracture", "vr-resnet34", 1, 21_285_185, FRACTURE),
    Known("fracture", "vu-vgg19", 1, 141_823_812, FRACTURE),
    Known("crack", "unet", 1, 1_735_361, CRACK),
    Known("phase", "unet", 2, 7_697_410, PHASE),
    Known("phase", "segnet", 2, 29_444_166, PHASE),
    Known("phase", "deeplab-resnet18", 2, 20_607_636, PHASE),
    Known("phase", "deeplab-resnet50", 2, 43_980_180, PHASE),
    Known("phase", "deeplab-mobilenetv2", 2, 6_784_276, PHASE),
    # ResNet18's 11,176,512 and one unit, or 11; its text says "roughly 11 million" and, of AlexNet, "around 60".
    Known("grain", "resnet18-fc", 1, 11_176_512 + 513, COUNTED),
    Known("grain", "resnet18-fc", 11, 11_176_512 + 11 * 513, COUNTED),
    Known("grain", "resnet18-ext", 1, 11_176_512 + 512 * 513 + 256 * 513 + 257, COUNTED),
    Known("grain", "resnet18-ext", 11, 11_176_512 + 512 * 513 + 256 * 513 + 11 * 257, COUNTED),
    Known("grain", "alexnet-fc", 1, 61_100_840 - 1000 * 4097 + 4097, COUNTED),
    Known("grain", "alexnet-fc", 11, 61_100_840 - 1000 * 4097 + 11 * 4097, COUNTED),
    Known("grain", "alexnet-ext", 1, 61_100_840 - 1000 * 4097 + 512 * 4097 + 256 * 513 + 257, COUNTED),
    Known("grain", "alexnet-ext", 11, 61_100_840 - 1000 * 4097 + 512 * 4097 + 256 * 513 + 11 * 257, COUNTED),
]
COMPACT = [(job, name) for job, table in ARCHITECTURES.items() for name in table if table[name].variant == "compact"]

# Each family once; the deeper ones differ in their number of layers alone.
RUN = {
    *(("gate", name) for name in ("resnet34", "resnet10-cells")),
    *(("segmenter", name) for name in ("unet-efficientnet-b3", "unet-resnet10-narrow")),
    *(("fracture", name) for name in ("vr-vgg11", "vr-densenet121", "vr-resnet18")),
    ("crack", "unet"),
    *(("phase", name) for name in ("unet", "segnet", "deeplab-resnet18", "deeplab-mobilenetv2")),
    *(("grain", name) for name in ("resnet18-fc", "resnet18-ext", "alexnet-fc")),
}
SHAPES = {
    GateOutput: lambda _: ((2,), (2, ...)),
    SegmenterOutput: lambda outputs: ((2, outputs, 63, 67),),
    CrackOutput: lambda outputs: ((2, outputs, 63, 67),),
    PhaseOutput: lambda outputs: ((2, outputs, 63, 67),),
    FractureOutput: lambda _: ((2,), (2, ...)),
    GrainOutput: lambda outputs: ((2, outputs), (2, outputs, ...)),
}
OUTPUTS = {
    "gate": GateOutput,
    "segmenter": SegmenterOutput,
    "fracture": FractureOutput,
    "crack": CrackOutput,
    "phase": PhaseOutput,
    "grain": GrainOutput,
}


def build_known(known: Known) -> torch.nn.Module:
    return build(known.job, known.architecture, classes=known.outputs)  # type: ignore[arg-type]


def name_of(known: Known) -> str:
    return f"{known.job}-{known.architecture}-{known.outputs}"


def test_the_table_covers_every_papers_architecture():
    papers = {(job, name) for job, table in ARCHITECTURES.items() for name in table if table[name].variant == "paper"}
    assert papers <= {(known.job, known.architecture) for known in NETWORKS}


@pytest.mark.parametrize("known", NETWORKS, ids=name_of)
def test_network_has_the_papers_number_of_parameters(known):
    with torch.device("meta"):
        assert count_parameters(build_known(known)) == known.parameters


@pytest.mark.parametrize("known", [each for each in NETWORKS if (each.job, each.architecture) in RUN], ids=name_of)
def test_network_answers_in_its_tasks_terms_whatever_the_frames_type_and_size(known):
    model = build_known(known).eval()
    frames = torch.randint(0, 256, (2, 1, 63, 67), dtype=torch.uint8)
    with torch.inference_mode():
        from_bytes, from_floats = model(frames), model(frames.float())
    kind = OUTPUTS[known.job]
    assert isinstance(from_bytes, kind)
    for found, again, wanted in zip(from_bytes, from_floats, SHAPES[kind](known.outputs), strict=True):
        begin = wanted[: wanted.index(...)] if ... in wanted else wanted
        assert found.shape[: len(begin)] == begin
        assert ... in wanted or found.ndim == len(wanted)
        assert found.dtype == torch.float32
        assert found.isfinite().all()
        torch.testing.assert_close(found, again)


@pytest.mark.parametrize(("job", "architecture"), COMPACT)
def test_a_compact_network_fits_into_what_ships(job, architecture):
    with torch.device("meta"):
        model = build(job, architecture, classes={"segmenter": 4, "phase": 2}.get(job, 1))
    assert 2 * count_parameters(model) < 4e6


def test_every_task_knows_its_network():
    assert set(JOBS) == set(TASKS)
    assert set(JOBS.values()) == set(ARCHITECTURES)
    with pytest.raises(ConfigError, match="task 'rolling': no network is known for it, expected one of strip-gate"):
        job_of("rolling")


def test_padding_changes_nothing_inside_the_frame():
    model = build("segmenter", "unet-resnet10-narrow", classes=4).eval()
    frames = torch.randint(0, 256, (1, 1, 60, 64), dtype=torch.uint8)
    repeated = torch.cat([frames, frames[:, :, -1:].expand(-1, -1, 4, -1)], dim=2)
    with torch.inference_mode():
        torch.testing.assert_close(model(frames).logits, model(repeated).logits[:, :, :60])


def test_grey_is_scaled_by_the_stated_figures():
    scaled = scale_grey(torch.tensor([0, 255], dtype=torch.uint8))
    torch.testing.assert_close(scaled, torch.tensor([-GREY_MEAN / GREY_STD, (255 - GREY_MEAN) / GREY_STD]))


def test_unknown_architecture_names_the_known_ones():
    with pytest.raises(ConfigError, match="no architecture 'resnet51', expected one of resnet50, resnet34"):
        build("gate", "resnet51")


@pytest.mark.parametrize(("job", "architecture"), [("gate", "resnet50"), ("crack", "unet"), ("fracture", "vr-vgg11")])
def test_outputs_that_a_network_does_not_have_are_refused(job, architecture):
    with pytest.raises(ConfigError, match="3 outputs were asked for, expected 1"), torch.device("meta"):
        build(job, architecture, classes=3)


def test_fine_tuning_keeps_all_but_the_last_layer_when_the_classes_differ(tmp_path):
    donor, model = (build("segmenter", "unet-resnet10-narrow", classes=classes) for classes in (4, 5))
    save_file(donor.state_dict(), tmp_path / "best.safetensors")
    fresh = fine_tune_from(model, tmp_path / "best.safetensors")
    assert fresh == ("network.segmentation_head.0.weight", "network.segmentation_head.0.bias")
    torch.testing.assert_close(model.network.decoder.state_dict(), donor.network.decoder.state_dict())


def test_fine_tuning_from_another_architecture_is_refused(tmp_path):
    save_file(build("gate", "resnet10-cells").state_dict(), tmp_path / "best.safetensors")
    with pytest.raises(ConfigError, match="Give weights of the same architecture"):
        fine_tune_from(build("segmenter", "unet-resnet10-narrow", classes=4), tmp_path / "best.safetensors")
