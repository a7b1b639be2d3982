"""What the five papers ran, as data: networks, sizes of their pictures, and what they say of their own speed.

Only one paper tells how long one picture takes. Of the others it is said here that they do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from benchmarks.latency.report import Published


@dataclass(frozen=True, slots=True)
class Paper:
    """One paper's pictures.

    Attributes:
        about: The paper in a few words.
        sizes_px: Rows and columns of what its networks are given, the usual size first.
        sizes_from: Where these sizes stand.
        speed: What the paper says of the time that one picture takes, beyond the figures of single networks.
    """

    about: str
    sizes_px: tuple[tuple[int, int], ...]
    sizes_from: str
    speed: str


@dataclass(frozen=True, slots=True)
class PaperNetwork:
    """One network of a paper.

    Attributes:
        task: As a bundle's spec names it; a key of `PAPERS`.
        trained_task: As `train.tasks.TASKS` and `export.tasks.TASKS` name it.
        graph: Role of the graph.
        architecture: A key of `train.models.ARCHITECTURES`.
        parameters: Trainable ones; a network that has others is not the paper's.
        outputs: As `train.models.build` wants them.
        lead: Whether it is what the paper proposes, or what it compares its speed with.
        published: The paper's own latency, where it gives one.
    """

    task: str
    trained_task: str
    graph: str
    architecture: str
    parameters: int
    outputs: int = 1
    lead: bool = False
    published: Published | None = None

    @property
    def name(self) -> str:
        """A name for a folder."""
        return f"{self.trained_task}-{self.architecture}"


_GTX_1080_TI = "GTX 1080 Ti, Xeon E5-2690 v4, TensorFlow, batch 1, pictures of 262-676 x 611-810 px"
_SECTION = "section IV: average inference time of the test samples; device in section III.B"

PAPERS: Mapping[str, Paper] = MappingProxyType(
    {
        "strip": Paper(
            about="Severstal cascade: gate, then segmenter",
            sizes_px=((256, 1600),),
            sizes_from="the public data's frames",
            speed="no inference time is given",
        ),
        "fracture": Paper(
            about="VR-net: brittle fracture ratio of DWTT specimens",
            sizes_px=((462, 626),),
            sizes_from="mean of 462.65 x 625.82 px; pictures are never resized",
            speed="VR-net 58 ms and VU-Net 165 ms on a GTX 1080 Ti; DenseNet121 is 'about 10 times' slower than VR-net",
        ),
        "crack": Paper(
            about="U-Net for cracks and their tips",
            sizes_px=((512, 640),),
            sizes_from="pictures of 2048 x 2560 px, resized",
            speed="no inference time is given",
        ),
        "phase": Paper(
            about="ferrite and pearlite of optical micrographs",
            sizes_px=((224, 224),),
            sizes_from="tiles of micrographs of 1542 x 2080 px",
            speed="training times alone are given",
        ),
        "grain": Paper(
            about="grain size of austenitic steel",
            sizes_px=((960, 1280), (224, 224)),
            sizes_from="whole pictures, and crops",
            speed="no inference time is given",
        ),
    }
)
"""By the task of a bundle."""


def _strip(part: str, architecture: str, parameters: int, *, lead: bool = False) -> PaperNetwork:
    return PaperNetwork(
        "strip", f"strip-{part}", part, architecture, parameters, outputs=4 if part == "segmenter" else 1, lead=lead
    )


def _fracture(architecture: str, parameters: int, published_ms: float | None = None) -> PaperNetwork:
    published = None if published_ms is None else Published(
        latency_ms=published_ms, device=_GTX_1080_TI, place=_SECTION
    )  # fmt: skip
    return PaperNetwork(
        "fracture", "fracture", "model", architecture, parameters, lead=published is not None, published=published
    )


def _phase(architecture: str, parameters: int, *, lead: bool = False) -> PaperNetwork:
    return PaperNetwork("phase", "phase", "model", architecture, parameters, outputs=2, lead=lead)


def _grain(architecture: str, parameters: int, *, lead: bool = False) -> PaperNetwork:
    return PaperNetwork("grain", "grain", "model", architecture, parameters, lead=lead)


NETWORKS: tuple[PaperNetwork, ...] = (
    _strip("gate", "resnet50", 23_510_081, lead=True),
    _strip("gate", "resnet34", 21_285_185),
    _strip("segmenter", "unet-efficientnet-b3", 13_159_468, lead=True),
    _strip("segmenter", "unet-resnet34", 24_436_804),
    _strip("segmenter", "unet-resnet50", 32_521_540),
    _fracture("vr-vgg19", 20_024_897, 58.0),
    _fracture("vu-vgg19", 141_823_812, 165.0),
    _fracture("vr-vgg16", 14_715_201),
    _fracture("vr-vgg13", 9_405_505),
    _fracture("vr-vgg11", 9_220_993),
    _fracture("vr-densenet121", 6_954_881),
    _fracture("vr-densenet161", 26_474_209),
    _fracture("vr-resnet18", 11_177_025),
    _fracture("vr-resnet34", 21_285_185),
    PaperNetwork("crack", "crack", "model", "unet", 1_735_361, lead=True),
    _phase("deeplab-mobilenetv2", 6_784_276, lead=True),
    _phase("deeplab-resnet18", 20_607_636),
    _phase("deeplab-resnet50", 43_980_180),
    _phase("unet", 7_697_410),
    _phase("segnet", 29_444_166),
    _grain("resnet18-fc", 11_177_025, lead=True),
    _grain("resnet18-ext", 11_570_753),
    _grain("alexnet-fc", 57_007_937),
    _grain("alexnet-ext", 59_233_089),
)
"""Every network of the papers. A grain classification has a last layer of 11 outputs instead of one, and is as fast."""
