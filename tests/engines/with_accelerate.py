# SPDX-License-Identifier: Apache-2.0
"""Hugging Face accelerate: ``torchrun ... with_accelerate FOLDER data|sharded first|again``."""

import sys
from pathlib import Path

from torch import nn
from torch.optim import AdamW, Optimizer

from physicsnemo import Module
from physicsnemo.distributed import shard, start
from tests.engines.training import train_all


def main(folder: str, parallel: str, begin: str) -> None:
    """Train with what it wraps, or with a model that is sharded before."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)

    def prepare(model: Module) -> tuple[nn.Module, Optimizer]:
        if parallel == "data":
            return accelerator.prepare(model, AdamW(model.parameters()))
        shard(model, start(device="cpu").mesh())
        return model, accelerator.prepare(AdamW(model.parameters()))

    train_all(Path(folder), begin == "again", prepare, accelerator.backward)
    accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
