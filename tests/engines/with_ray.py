# SPDX-License-Identifier: Apache-2.0
"""Ray Train: ``python -m tests.engines.with_ray FOLDER data|sharded first|again``."""

import sys
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from physicsnemo import Module
from physicsnemo.distributed import shard, start
from tests.engines.training import train_all


def work(options: dict[str, Any]) -> None:
    """Train in one of the processes that Ray starts."""
    from ray.train.torch import prepare_model

    def prepare(model: Module) -> tuple[nn.Module, Optimizer]:
        if options["parallel"] == "data":
            wrapper = prepare_model(model)
        else:
            wrapper = shard(model, start(device="cpu").mesh())
        return wrapper, AdamW(wrapper.parameters())

    train_all(Path(options["folder"]), options["start"] == "again", prepare, Tensor.backward)


def main(folder: str, parallel: str, begin: str) -> None:
    """Start two processes on this machine."""
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20)
    trainer = TorchTrainer(
        work,
        train_loop_config={"folder": folder, "parallel": parallel, "start": begin},
        scaling_config=ScalingConfig(num_workers=2),
        torch_config=TorchConfig(backend="gloo"),
        run_config=RunConfig(storage_path=f"{folder}/ray"),
    )
    trainer.fit()
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
