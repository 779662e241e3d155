# SPDX-License-Identifier: Apache-2.0
"""Which precision a step runs in, given the device and what the model supports."""

import logging
from dataclasses import dataclass

import torch

from physicsnemo.models.meta import ModelMetaData

AMP_TYPES = (torch.float16, torch.bfloat16)


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
    meta: ModelMetaData,
    device: torch.device,
    use_autocast: bool,
    use_gradscaler: bool,
    amp_type: torch.dtype,
    logger: logging.Logger,
) -> Precision:
    """Return the precision to use; each wish that cannot be met is logged.

    Raises
    ------
    ValueError
        If ``amp_type`` is neither float16 nor bfloat16.
    """
    if amp_type not in AMP_TYPES:
        raise ValueError(f"amp_type must be torch.float16 or torch.bfloat16, got {amp_type}")
    on_gpu = device.type == "cuda"
    if use_autocast and not (meta.amp_gpu if on_gpu else meta.amp_cpu):
        flag = "amp_gpu" if on_gpu else "amp_cpu"
        logger.warning("autocast is off: the metadata of %s does not set %s", meta.name, flag)
        use_autocast = use_gradscaler = False
    dtype = _supported_type(amp_type, on_gpu, logger) if use_autocast else amp_type
    scale = on_gpu and use_gradscaler and dtype is torch.float16
    return Precision(device.type, dtype, use_autocast, scale)


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
