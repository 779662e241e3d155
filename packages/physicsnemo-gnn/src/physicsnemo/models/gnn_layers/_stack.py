# SPDX-License-Identifier: Apache-2.0
"""The layers of a perceptron behind its first linear map."""

import warnings

from torch import nn

from physicsnemo.models.history import Ignored, follow_history
from physicsnemo.nn import get_activation
from physicsnemo.nn.checks import check_at_least


def stack(
    hidden_dim: int,
    output_dim: int,
    hidden_layers: int,
    activation: str | nn.Module,
    norm_type: str | None,
) -> list[nn.Module]:
    """Return an activation, further hidden layers, the output layer and the normalization.

    No hidden layer is taken for one, as files of nvidia-physicsnemo mean it.
    """
    check_at_least(0, hidden_layers=hidden_layers)
    activation = get_activation(activation) if isinstance(activation, str) else activation
    layers = [activation]
    for _ in range(hidden_layers - 1):
        layers += [nn.Linear(hidden_dim, hidden_dim), activation]
    layers.append(nn.Linear(hidden_dim, output_dim))
    return layers if norm_type is None else [*layers, _norm(norm_type, output_dim)]


def _norm(norm_type: str, size: int) -> nn.Module:
    if norm_type not in ("LayerNorm", "TELayerNorm"):
        raise ValueError(f"expected norm_type 'LayerNorm' or 'TELayerNorm', got {norm_type!r}")
    norm = nn.LayerNorm(size)
    if norm_type == "TELayerNorm":
        warnings.warn(
            "norm_type 'TELayerNorm' asks for Transformer Engine; torch.nn.LayerNorm is used, "
            "which computes the same",
            stacklevel=2,
        )
        norm._state_history = (Ignored("_extra_state"),)  # type: ignore[assignment]
        follow_history(norm)
    return norm
