"""Where an encoder's first weights come from: nowhere, a download by the encoder's own library, or a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runtime.errors import ConfigError

EncoderWeights = str
"""`none`, `imagenet`, or the path of a file of weights (safetensors, or a torch state dict)."""


_OWN = "network.encoder."

_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""torchvision's DenseNet files are older than its DenseNet: `norm.1.weight` is `norm1.weight` now."""


def encoder_state(
    weights: EncoderWeights,
    *,
    timm_name: str | None = None,
    smp_name: str | None = None,
    torchvision_name: str | None = None,
) -> dict[str, Tensor] | None:
    """The encoder's state dict, or None where it starts from random weights.

    Args:
        weights: `none`, `imagenet` or a file.
        timm_name: Where timm has ImageNet weights for the encoder, its name there.
        smp_name: Where segmentation_models_pytorch has them, its name there.
        torchvision_name: Where torchvision has them, its name there.

    Raises:
        ConfigError: There are none, the download is impossible, or the file is unreadable.
    """
    if weights == "none":
        return None
    if weights != "imagenet":
        return _encoder_of(_read(Path(weights)))
    try:
        if timm_name is not None:
            import timm

            return timm.create_model(timm_name, pretrained=True).state_dict()
        if smp_name is not None:
            from segmentation_models_pytorch.encoders import get_encoder

            return get_encoder(smp_name, weights="imagenet").state_dict()
        if torchvision_name is not None:
            import torchvision

            return torchvision.models.get_model(torchvision_name, weights="DEFAULT").state_dict()
    except Exception as error:
        raise ConfigError(
            f"encoder weights 'imagenet': the download of {timm_name or smp_name or torchvision_name} failed "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}), expected a "
            "reachable model hub. Give --encoder-weights FILE with weights fetched elsewhere, or 'none'."
        ) from error
    raise ConfigError(
        "encoder weights 'imagenet': nobody has trained this compact encoder on ImageNet, expected 'none' or a file. "
        "Set model.encoder_weights to 'none'."
    )


def _encoder_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's own tensors where the file holds a whole model of ours; else the file as it is."""
    own = {name.removeprefix(_OWN): tensor for name, tensor in state.items() if name.startswith(_OWN)}
    # smp keeps a timm encoder under a name of its own.
    return {name.removeprefix("model."): tensor for name, tensor in own.items()} or state


def load_encoder(
    encoder: nn.Module,
    state: dict[str, Tensor],
    *,
    ignore_prefix: str | tuple[str, ...],
    source: EncoderWeights,
) -> None:
    """Load an encoder's weights, all but its classifier.

    Raises:
        ConfigError: The weights are of another network.
    """
    wanted = encoder.state_dict()
    fitting = {
        name: tensor
        for name, tensor in state.items()
        if name in wanted and wanted[name].shape == tensor.shape and not name.startswith(ignore_prefix or "\0")
    }
    missing = [name for name in wanted if name not in fitting and not name.startswith(ignore_prefix or "\0")]
    if missing:
        raise ConfigError(
            f"encoder weights {source!r}: {len(missing)} of {len(wanted)} tensors are missing or of another shape "
            f"(first {missing[0]!r}), expected the weights of this very encoder. Give another file."
        )
    wanted.update(fitting)
    torch.nn.Module.load_state_dict(encoder, wanted)


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file or of a torch file that holds a state dict, never code."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(
            f"encoder weights {path}: {type(error).__name__}: {error}, expected a safetensors file or a state dict. "
            "Check the path."
        ) from error
    state = found.get("state_dict", found) if isinstance(found, dict) else found
    if not (isinstance(state, dict) and all(isinstance(each, Tensor) for each in state.values())):
        raise ConfigError(f"encoder weights {path}: found {type(state).__name__}, expected a state dict of tensors.")
    return {_OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in state.items()}
