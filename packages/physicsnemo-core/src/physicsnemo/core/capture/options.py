# SPDX-License-Identifier: Apache-2.0
"""Options of a captured step, and the precision that device and model allow."""

import logging
from dataclasses import dataclass
from typing import Literal

import torch

from physicsnemo.models.meta import ModelMetaData

AMP_TYPES = (torch.float16, torch.bfloat16)

Compile = bool | Literal["auto", "blocks"]
COMPILE_CHOICES = (False, True, "auto", "blocks")

_CHECKED_REPLAYS = 3


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a captured step, by the names of the decorators' arguments.

    :class:`physicsnemo.utils.StaticCaptureTraining` says what they mean. Those that an evaluation
    does not have are off by default.

    Raises
    ------
    ValueError
        If a number is out of range, or ``amp_type`` neither float16 nor bfloat16.
    """

    use_graphs: bool
    use_amp: bool
    compile: Compile
    cuda_graph_warmup: int
    amp_type: torch.dtype
    verify: bool | int
    gradient_clip_norm: float | None = None
    accumulation_steps: int = 1
    promote_optimizer: bool = True
    recompute: bool = False

    def __post_init__(self) -> None:
        # Conditions are negated as a whole, so that NaN fails them.
        _check_number("accumulation_steps", self.accumulation_steps, 1)
        _check_number("cuda_graph_warmup", self.cuda_graph_warmup, 0)
        if self.compile not in COMPILE_CHOICES:
            raise ValueError(
                f"compile must be True, False, 'blocks' or 'auto', got {self.compile!r}"
            )
        if not self.verify >= 0:
            raise ValueError(f"verify must be a number of replays from 0 on, got {self.verify}")
        if self.gradient_clip_norm is not None and not self.gradient_clip_norm > 0:
            raise ValueError(
                f"gradient_clip_norm must be a positive number, or None for no limit, got "
                f"{self.gradient_clip_norm}"
            )
        if self.amp_type not in AMP_TYPES:
            raise ValueError(
                f"amp_type must be torch.float16 or torch.bfloat16, got {self.amp_type}"
            )

    @property
    def checked_replays(self) -> int:
        """Number of first replays to compare with an eager call."""
        return _CHECKED_REPLAYS if self.verify is True else int(self.verify)


@dataclass(frozen=True)
class Precision:
    """Autocast settings of a step, and whether its loss is scaled.

    Attributes
    ----------
    device_type
        Device that autocast applies to.
    dtype
        Type of the autocast operations.
    autocast
        Whether autocast is on.
    scale
        Whether the loss needs a gradient scaler; only for float16, which underflows.
    """

    device_type: str
    dtype: torch.dtype
    autocast: bool
    scale: bool

    def context(self) -> torch.autocast:
        """Return the autocast context of a step."""
        return torch.autocast(self.device_type, dtype=self.dtype, enabled=self.autocast)


def choose_precision(
    options: Options,
    meta: ModelMetaData,
    device: torch.device,
    *,
    trains: bool,
    logger: logging.Logger,
) -> Precision:
    """Return the precision of a step; each option that cannot be met is logged.

    Parameters
    ----------
    options
        What is asked for.
    meta
        What the model supports.
    device
        Where it is.
    trains
        Whether there are gradients, which float16 would have to scale.
    logger
        Where to say what is switched off.
    """
    on_gpu, autocast, dtype = device.type == "cuda", options.use_amp, options.amp_type
    if autocast and not (meta.amp_gpu if on_gpu else meta.amp_cpu):
        flag = "amp_gpu" if on_gpu else "amp_cpu"
        logger.warning("autocast is off: the metadata of %s does not set %s", meta.name, flag)
        autocast = False
    if autocast:
        dtype = _supported_type(dtype, on_gpu, logger)
    scale = on_gpu and autocast and trains and dtype is torch.float16
    return Precision(device.type, dtype, autocast, scale)


def _check_number(name: str, value: float, least: int) -> None:
    if not value >= least or value % 1:
        raise ValueError(f"{name} must be a whole number from {least} on, got {value}")


def _supported_type(amp_type: torch.dtype, on_gpu: bool, logger: logging.Logger) -> torch.dtype:
    if on_gpu:
        if amp_type is torch.bfloat16 and not torch.cuda.is_bf16_supported():
            logger.warning("autocast uses float16: this GPU has no bfloat16")
            return torch.float16
        return amp_type
    if not _cpu_is_fast_in_bfloat16():
        logger.warning("autocast is slow here: this CPU emulates bfloat16; consider use_amp=False")
    return torch.bfloat16


def _cpu_is_fast_in_bfloat16() -> bool:
    fast = ("bf16", "avx512_bw")
    features = torch.cpu.get_capabilities().items()
    return any(present is True and any(f in name for f in fast) for name, present in features)
