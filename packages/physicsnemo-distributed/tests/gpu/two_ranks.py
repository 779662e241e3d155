# SPDX-License-Identifier: Apache-2.0
"""What two processes do with a sharded training: ``torchrun --nproc-per-node 2 two_ranks.py``.

Arguments are a folder, and ``cpu`` to use no GPUs.
"""

import sys

import torch

import physicsnemo
from physicsnemo.distributed import Job, shard, start
from physicsnemo.utils import load_checkpoint, save_checkpoint


class Net(physicsnemo.Module):
    """Blocks of odd sizes, and a constant that no file holds."""

    def __init__(self, width: int = 33) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(3))
        self.register_buffer("scale", torch.linspace(0.5, 1.5, width), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, width) to (batch, width)."""
        for block in self.blocks:
            x = torch.tanh(block(x * self.scale))
        return x


def trained(job: Job, model: Net, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Train on batches that are the same in each process."""
    for step in steps:
        x = torch.randn(16, 33, generator=torch.Generator().manual_seed(step)).to(job.device)
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def made(job: Job, **options: object) -> tuple[Net, torch.optim.Optimizer]:
    """Return a sharded model that was built without memory, and its optimizer."""
    with torch.device("meta"):
        model = Net()
    shard(model, job.mesh(data=-1), **options)
    model.to_empty(device=job.device)
    return model, torch.optim.AdamW(model.parameters(), lr=0.01)


def check(job: Job, folder: str, layout: str, **options: object) -> None:
    """Save, go on, load into another model and go on from there: both end alike."""
    torch.manual_seed(0)
    if job.rank == 0:
        Net().save(f"{folder}/start.mdlus")
    torch.distributed.barrier()
    model, optimizer = made(job, **options)
    model.load(f"{folder}/start.mdlus")
    trained(job, model, optimizer, range(3))
    wait = {} if layout == "whole" else {"wait": False}
    saving = save_checkpoint(f"{folder}/{layout}", model, optimizer, layout=layout, **wait)
    trained(job, model, optimizer, range(3, 6))
    if saving is not None:
        saving.wait()
    torch.distributed.barrier()
    again, its_optimizer = made(job, **options)
    assert load_checkpoint(f"{folder}/{layout}", again, its_optimizer, device=job.device) == 0
    trained(job, again, its_optimizer, range(3, 6))
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one.to_local(), other.to_local())
    model.save(f"{folder}/end.mdlus")
    alone = physicsnemo.Module.from_checkpoint(f"{folder}/end.mdlus", trusted=[Net])
    for key, parameter in alone.named_parameters():
        whole = dict(model.named_parameters())[key].full_tensor()
        assert torch.equal(whole.cpu(), parameter)
        assert whole.isfinite().all()
    if job.rank == 0:
        print(f"PASS {layout} {options}", flush=True)


def main(folder: str, device: str | None = None) -> None:
    """Check both layouts, plain and with everything else."""
    with start(device=device) as job:
        for name, options in {
            "plain": {},
            "low": {"precision": torch.bfloat16, "recompute": True},
            "kept": {"reshard_after_forward": False},
        }.items():
            for layout in ("whole", "shards"):
                check(job, f"{folder}/{name}", layout, **options)


if __name__ == "__main__":
    main(*sys.argv[1:])
