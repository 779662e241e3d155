# SPDX-License-Identifier: Apache-2.0
"""A training as scripts for nvidia-physicsnemo 1.2 are written."""

import sys

import torch
from torch.nn.parallel import DistributedDataParallel

import physicsnemo
from physicsnemo.distributed import DistributedManager
from physicsnemo.launch.logging import (
    LaunchLogger,
    PythonLogger,
    RankZeroLoggingWrapper,
)
from physicsnemo.launch.utils import load_checkpoint, save_checkpoint
from physicsnemo.models.layers import FCLayer, get_activation


class Net(physicsnemo.Module):
    def __init__(self, width: int = 8):
        super().__init__(meta=physicsnemo.ModelMetaData(name="net"))
        self.first = FCLayer(2, width, activation_fn=get_activation("silu"))
        self.last = FCLayer(width, 1)

    def forward(self, x):
        return self.last(self.first(x))


def main(folder: str, epochs: int = 2, batch: int = 16) -> None:
    DistributedManager.initialize()
    dist = DistributedManager()
    LaunchLogger.initialize()
    logger = PythonLogger("main")
    rank_zero_logger = RankZeroLoggingWrapper(logger, dist)

    torch.manual_seed(0)
    x = torch.rand(64, 2)
    y = torch.sin(x.sum(1, keepdim=True))
    torch.manual_seed(1)
    model = Net().to(dist.device)
    if dist.world_size > 1:
        model = DistributedDataParallel(
            model,
            broadcast_buffers=dist.broadcast_buffers,
            find_unused_parameters=dist.find_unused_parameters,
        )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    loaded_epoch = load_checkpoint(
        folder, models=model, optimizer=optimizer, scheduler=scheduler, device=dist.device
    )
    rank_zero_logger.info(f"begins after epoch {loaded_epoch}")

    for epoch in range(loaded_epoch + 1, epochs + 1):
        with LaunchLogger("train", epoch=epoch, num_mini_batch=4, epoch_alert_freq=1) as log:
            for start in range(0, len(x), batch):
                own = slice(start + dist.rank, start + batch, dist.world_size)
                optimizer.zero_grad()
                loss = torch.nn.functional.mse_loss(
                    model(x[own].to(dist.device)), y[own].to(dist.device)
                )
                loss.backward()
                optimizer.step()
                log.log_minibatch({"loss": loss.detach()})
            scheduler.step()
            log.log_epoch({"learning rate": optimizer.param_groups[0]["lr"]})
        if dist.world_size > 1:
            torch.distributed.barrier()
        if dist.rank == 0:
            save_checkpoint(
                folder, models=model, optimizer=optimizer, scheduler=scheduler, epoch=epoch
            )
    rank_zero_logger.success("trained")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
