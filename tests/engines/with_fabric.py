# SPDX-License-Identifier: Apache-2.0
"""Lightning Fabric: ``torchrun ... with_fabric FOLDER data|sharded first|again``."""

import sys
from pathlib import Path

from torch import nn
from torch.optim import AdamW, Optimizer

from physicsnemo import Module
from physicsnemo.distributed import shard
from tests.engines.training import train_all


def main(folder: str, parallel: str, start: str) -> None:
    """Train with a strategy."""
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy

    if parallel == "data":
        strategy = DDPStrategy()
    else:
        strategy = ModelParallelStrategy(
            lambda model, mesh: shard(model, mesh["data_parallel"]),
            data_parallel_size=2,
            tensor_parallel_size=1,
        )
    fabric = Fabric(accelerator="cpu", devices=2, strategy=strategy)
    fabric.launch()

    def prepare(model: Module) -> tuple[nn.Module, Optimizer]:
        wrapper = fabric.setup_module(model)
        return wrapper, fabric.setup_optimizers(AdamW(wrapper.parameters()))

    train_all(Path(folder), start == "again", prepare, fabric.backward)


if __name__ == "__main__":
    main(*sys.argv[1:])
