# SPDX-License-Identifier: Apache-2.0
"""Images divided over two GPUs against whole ones: ``torchrun --nproc-per-node 2 THIS``.

Group normalization runs by its kernels in both. With ``TRITON_INTERPRET=1`` there need be no GPUs.
"""

import os

import torch
import torch.distributed as dist
from torch import Tensor

from physicsnemo.distributed import Job, distribute, split, start
from physicsnemo.models.diffusion import DhariwalUNet, SongUNet
from physicsnemo.models.diffusion.layers import _fused_group_norm as fused
from physicsnemo.models.diffusion.layers import normalization

Network = DhariwalUNet | SongUNet  # one modulates, the other adds before

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
CALLS: list[bool] = []  # of the kernels: whether with other ranks


def main() -> None:
    """Check both networks, with one image and with several."""
    normalization._FEWEST_FUSED = 1
    kernels = fused.group_norm

    def counted(*args, **options):
        CALLS.append(options["domain"] is not None)
        return kernels(*args, **options)

    if INTERPRETED:
        normalization._FUSED_ON, fused.is_usable = ("cpu",), lambda device: True
    torch.backends.cudnn.allow_tf32 = False
    with start(device="cpu" if INTERPRETED else None) as job:
        assert fused.is_usable(job.device)
        fused.group_norm = counted
        for network in (SongUNet, DhariwalUNet):
            for batch in (1, 2):
                check(job, network, batch)


def check(job: Job, network: type[Network], batch: int) -> None:
    """Compare outputs, and gradients of images and parameters."""
    whole, divided = made(job, network), made(job, network)
    mesh = job.mesh(domain=2)["domain"]
    distribute(divided, mesh)
    torch.manual_seed(1)
    x, noise = torch.randn(batch, 3, 16, 16), torch.rand(batch) + 0.5
    x, noise = x.to(job.device, memory_format=torch.channels_last), noise.to(job.device)
    CALLS.clear()
    found = output_and_slopes(divided, split(x, divided).clone(), noise)
    expected = output_and_slopes(whole, x, noise)
    assert CALLS.count(True) == CALLS.count(False) > 4, CALLS
    for rows, all_rows in zip(found[:2], expected[:2], strict=True):
        near(rows, split(all_rows, divided))
    for slope, other in zip(found[2:], expected[2:], strict=True):
        dist.all_reduce(slope)
        near(slope, other)
    if job.rank == 0:
        print(f"PASS {network.__name__}, batch of {batch}", flush=True)


def made(job: Job, network: type[Network]) -> Network:
    """Return the same model on each rank, whose outputs depend on all of their inputs."""
    torch.manual_seed(0)
    size = {"model_channels": 32, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [8]}
    model = network(16, in_channels=3, out_channels=2, dropout=0.0, **size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.05)
    return model.to(job.device, memory_format=torch.channels_last)


def output_and_slopes(model: Network, x: Tensor, noise: Tensor) -> list[Tensor]:
    """Return the output, and the gradients of a sum over all pixels, of images and parameters."""
    x.requires_grad_()
    y = model(x, noise, None)
    leaves = [x, *model.parameters()]
    slopes = torch.autograd.grad(y.square().sum(), leaves, allow_unused=True)
    return [y.detach(), *(it for it in slopes if it is not None)]


def near(found: Tensor, expected: Tensor) -> None:
    """Compare up to rounding of sums in single precision."""
    assert (found - expected).norm() <= 1e-4 * expected.norm() + 1e-6


if __name__ == "__main__":
    main()
