"""Every network: its parameter count, its output, and what it does with sizes and dtypes."""

import pytest
import torch
from safetensors.torch import save_file

from runtime.errors import ConfigError
from train.models import (
    ARCHITECTURES,
    GREY_MEAN,
    GREY_STD,
    GateOutput,
    SegmenterOutput,
    build,
    count_parameters,
    fine_tune_from,
    scale_grey,
)

# (role, architecture, classes, parameters); the first and the fourth are the paper's own figures.
COUNTS = [
    ("gate", "resnet50", 1, 23_510_081),
    ("gate", "resnet34", 1, 21_285_185),
    ("gate", "resnet10-cells", 1, 1_076_521),
    ("segmenter", "unet-efficientnet-b3", 4, 13_159_468),
    ("segmenter", "unet-resnet34", 4, 24_436_804),
    ("segmenter", "unet-resnet50", 4, 32_521_540),
    ("segmenter", "unet-resnet10-narrow", 4, 712_488),
]


def test_the_table_of_counts_covers_every_architecture():
    assert {(role, name) for role, name, _, _ in COUNTS} == {
        (role, name) for role, table in ARCHITECTURES.items() for name in table
    }


@pytest.mark.parametrize(("role", "architecture", "classes", "parameters"), COUNTS)
def test_network_has_the_papers_size_and_keeps_the_frames_own(role, architecture, classes, parameters):
    model = build(role, architecture, classes=classes).eval()
    assert count_parameters(model) == parameters
    frames = torch.randint(0, 256, (2, 1, 70, 101), dtype=torch.uint8)
    with torch.inference_mode():
        from_bytes, from_floats = model(frames), model(frames.float())
    if role == "gate":
        assert isinstance(from_bytes, GateOutput)
        assert from_bytes.logit.shape == (2,)
    else:
        assert isinstance(from_bytes, SegmenterOutput)
        assert from_bytes.logits.shape == (2, classes, 70, 101)
    assert from_bytes[0].dtype == torch.float32
    torch.testing.assert_close(from_bytes[0], from_floats[0])


def test_compact_models_together_stay_below_the_shipped_size():
    bytes_as_half = 2 * sum(
        count_parameters(build(role, name, classes=classes))
        for role, name, classes, _ in COUNTS
        if ARCHITECTURES[role][name].variant == "compact"
    )
    assert bytes_as_half < 9e6


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


def test_a_gate_begins_from_a_segmenters_encoder_with_a_fresh_last_stage(tmp_path):
    donor = build("segmenter", "unet-resnet10-narrow", classes=4)
    save_file(donor.state_dict(), tmp_path / "best.safetensors")
    gate = build("gate", "resnet10-cells", encoder_weights=str(tmp_path / "best.safetensors"))
    known = donor.network.encoder.model.state_dict()
    for name, tensor in gate.network.encoder.state_dict().items():
        assert name.startswith("layer4.") or torch.equal(tensor, known[name])


def test_encoder_weights_from_a_file_reach_the_encoder_and_not_the_classifier(tmp_path):
    donor = build("gate", "resnet34")
    save_file(donor.network.classifier.state_dict(), tmp_path / "encoder.safetensors")
    gate = build("gate", "resnet34", encoder_weights=str(tmp_path / "encoder.safetensors"))
    torch.testing.assert_close(gate.network.classifier.conv1.weight, donor.network.classifier.conv1.weight)
    assert not torch.equal(gate.network.classifier.fc.weight, donor.network.classifier.fc.weight)


def test_encoder_weights_of_another_network_are_refused(tmp_path):
    save_file({"conv1.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="expected the weights of this very encoder"):
        build("gate", "resnet34", encoder_weights=str(tmp_path / "other.safetensors"))


def test_encoder_weights_that_are_no_weights_are_refused(tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ConfigError, match=r"text\.pth: .*expected a safetensors file or a state dict"):
        build("gate", "resnet34", encoder_weights=str(tmp_path / "text.pth"))


def test_compact_encoder_has_no_imagenet_weights():
    with pytest.raises(ConfigError, match="nobody has trained this compact encoder"):
        build("segmenter", "unet-resnet10-narrow", encoder_weights="imagenet")


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
