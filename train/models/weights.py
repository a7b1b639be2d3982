"""Weights of our own trainings: counting, loading, training on."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from runtime.errors import ConfigError


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters, as papers count them."""
    return sum(each.numel() for each in model.parameters() if each.requires_grad)


def load_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        ConfigError: The file is missing or no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"weights {path}: {error}, expected a safetensors file. Give best.safetensors of a run folder."
        ) from error


def fine_tune_from(model: nn.Module, path: Path) -> tuple[str, ...]:
    """Take over every tensor of a run's weights that fits, for training on from there.

    Returns:
        The names of tensors that stayed fresh, because the number of classes differs.

    Raises:
        ConfigError: The file is unreadable, or is of another architecture.
    """
    found, own = load_weights(path), model.state_dict()
    fitting = {name: tensor for name, tensor in found.items() if name in own and own[name].shape == tensor.shape}
    fresh = tuple(name for name in own if name not in fitting)
    if len(fresh) > 0.1 * len(own):
        raise ConfigError(
            f"weights {path}: {len(fitting)} of {len(own)} tensors fit the network, expected all but the last layer. "
            "Give weights of the same architecture."
        )
    model.load_state_dict(fitting, strict=False)
    return fresh
