"""Where encoders get their first weights from: files, and the libraries' own downloads where they lie in the cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from runtime.errors import ConfigError
from train.models import build


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


# (job, architecture, outputs, torchvision's name, a tensor there, the same tensor here); small networks, for a test.
FILES = [
    ("grain", "resnet18-fc", 1, "resnet18", "layer4.1.conv2.weight", "encoder.layer4.1.conv2.weight"),
    ("fracture", "vr-resnet18", 1, "resnet18", "layer4.1.conv2.weight", "encoder.layer4.1.conv2.weight"),
    ("fracture", "vr-densenet121", 1, "densenet121", "features.norm5.weight", "encoder.features.norm5.weight"),
    ("phase", "deeplab-resnet18", 2, "resnet18", "conv1.weight", "network.backbone.conv1.weight"),
    (
        "phase",
        "deeplab-mobilenetv2",
        2,
        "mobilenet_v2",
        "features.17.conv.2.weight",
        "network.backbone.features.17.conv.2.weight",
    ),
]


@pytest.mark.parametrize(("job", "architecture", "outputs", "library_name", "theirs", "ours"), FILES)
def test_a_librarys_file_is_loaded(tmp_path, job, architecture, outputs, library_name, theirs, ours):
    state = torchvision.models.get_model(library_name, weights=None).state_dict()
    torch.save(state, tmp_path / "library.pth")
    model = build(job, architecture, classes=outputs, encoder_weights=str(tmp_path / "library.pth"))
    assert torch.equal(model.state_dict()[ours], state[theirs])


def test_a_densenet_file_with_torchvisions_old_names_is_loaded(tmp_path):
    state = torchvision.models.densenet121(weights=None).state_dict()
    old = {
        name.replace(".norm1.", ".norm.1.").replace(".norm2.", ".norm.2.") if "denselayer" in name else name: tensor
        for name, tensor in state.items()
    }
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "densenet121-a639ec97.pth")
    model = build("fracture", "vr-densenet121", encoder_weights=str(tmp_path / "densenet121-a639ec97.pth"))
    name = "features.denseblock1.denselayer1.norm1.weight"
    assert torch.equal(model.encoder.state_dict()[name], state[name])


def test_imagenet_weights_come_through_torchvisions_own_loader(tmp_path, monkeypatch):
    """The library looks into its cache before it downloads: a file there, under its own name, is what it loads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = torchvision.models.get_model_weights("mobilenet_v2")["DEFAULT"].url
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    state = torchvision.models.mobilenet_v2(weights=None).state_dict()
    torch.save(state, cache / Path(url).name)
    model = build("phase", "deeplab-mobilenetv2", classes=2, encoder_weights="imagenet")
    found = model.network.backbone.features[0][0]
    assert torch.equal(found.weight, state["features.0.0.weight"])
    assert not found.bias.any()  # MATLAB's pretrained networks begin with biases of zero


def test_a_convolution_weight_of_another_network_is_refused(tmp_path):
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


@pytest.mark.parametrize(("job", "outputs"), [("crack", 1), ("phase", 2)])
def test_a_network_without_an_encoder_of_a_library_says_so(job, outputs):
    with pytest.raises(ConfigError, match=f"{job} unet has no encoder that anybody has trained before"):
        build(job, "unet", classes=outputs, encoder_weights="imagenet")
