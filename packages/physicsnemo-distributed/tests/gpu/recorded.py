# SPDX-License-Identifier: Apache-2.0
"""Recorded steps of sharded models against eager ones: ``torchrun --nproc-per-node 2 recorded.py``.

Each check trains two copies of a net, one of them in recorded steps, and compares all that they
leave behind, bit for bit.
"""

import faulthandler
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

import physicsnemo
from physicsnemo import ModelMetaData
from physicsnemo.distributed import Job, shard, start
from physicsnemo.utils import StaticCaptureEvaluateNoGrad, StaticCaptureTraining

WIDTH, WARMUP, STEPS = 33, 3, 8
KEPT: list[Any] = []  # steps that are still there when the job ends


class Net(physicsnemo.Module):
    """Blocks of odd sizes."""

    def __init__(self) -> None:
        super().__init__(meta=ModelMetaData(cuda_graphs=True, amp_gpu=True))
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.head = torch.nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, width) to (batch, 3)."""
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.head(x)


def batch(job: Job, step: int, rows: int = 16) -> Tensor:
    """Return a batch of this process's own."""
    generator = torch.Generator().manual_seed(100 * step + job.rank)
    return torch.randn(rows, WIDTH, generator=generator).to(job.device)


def made(job: Job, graphs: bool, options: dict[str, Any], capture: dict[str, Any]) -> Any:
    """Return a sharded net, its optimizer, and its steps of training and of evaluation."""
    torch.manual_seed(0)
    net = shard(Net().to(job.device), job.mesh(data=-1), **options)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, fused=True)
    capture = {"use_graphs": graphs, "cuda_graph_warmup": WARMUP, "use_amp": False} | capture

    @StaticCaptureTraining(net, optimizer, **capture)
    def train(x: Tensor) -> Tensor:
        return net(x).square().mean()

    @StaticCaptureEvaluateNoGrad(net, use_graphs=graphs, cuda_graph_warmup=WARMUP, use_amp=False)
    def evaluate(x: Tensor) -> Tensor:
        return net(x)

    return net, optimizer, train, evaluate


def check(job: Job, options: dict[str, Any], capture: dict[str, Any]) -> None:
    """Train with evaluations in between, of recorded steps and directly, and other batch sizes."""
    states = []
    for graphs in (False, True):
        net, optimizer, train, evaluate = made(job, graphs, options, capture)
        seen: list[Tensor] = []
        for step in range(STEPS):
            for _ in range(capture.get("accumulation_steps", 1)):
                seen.append(train(batch(job, step)))
            seen.append(evaluate(batch(job, step)))
            if step % 2:
                with torch.no_grad():
                    seen.append(net(batch(job, step)))
            if step == STEPS - 3:
                seen.append(net(batch(job, step, rows=5)).square().mean().detach())
                optimizer.zero_grad()
        if graphs:
            assert train.replays() >= STEPS - WARMUP, train.replays()
            assert evaluate.replays() >= STEPS - WARMUP, evaluate.replays()
        for module in net.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # after the last evaluation
        KEPT.append(train)
        local = [it.to_local() for it in net.parameters()]
        moments = [it["exp_avg"].to_local() for it in optimizer.state.values()]
        states.append([*seen, *local, *moments])
    for one, other in zip(*states, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def check_refusal(job: Job) -> None:
    """What cannot be recorded goes on eagerly, though its recording broke off halfway."""
    losses = []
    for graphs in (False, True):
        net, optimizer, *_ = made(job, graphs, {}, {})

        @StaticCaptureTraining(
            net, optimizer, use_amp=False, use_graphs=graphs, cuda_graph_warmup=2
        )
        def train(x: Tensor, net: Net = net) -> Tensor:
            loss = net(x).square().mean()
            return loss * (2.0 if float(loss.detach()) > 1e9 else 1.0)

        losses.append([float(train(batch(job, step))) for step in range(6)])
        assert train.replays() == 0
    assert losses[0] == losses[1], losses


def check_failure(job: Job) -> None:
    """A step that fails halfway leaves a model that the next one trains."""
    net, _, train, _ = made(job, True, {}, {})
    for step in range(STEPS):
        train(batch(job, step))

    def fails(module: Any, inputs: Any) -> None:
        raise KeyError("of a hook")

    hook = net.blocks[2].register_forward_pre_hook(fails)
    with suppress(KeyError):
        train(batch(job, 0))
    hook.remove()
    assert float(train(batch(job, 0)).isfinite())


CHECKS: dict[str, Callable[[Job], None]] = {
    "plain": lambda job: check(job, {}, {}),
    "kept": lambda job: check(job, {"reshard_after_forward": False}, {}),
    "recomputed": lambda job: check(job, {"recompute": True}, {}),
    "low": lambda job: check(job, {"precision": torch.bfloat16}, {}),
    "clipped": lambda job: check(job, {}, {"gradient_clip_norm": 0.01}),
    "float16": lambda job: check(job, {}, {"use_amp": True, "amp_type": torch.float16}),
    "accumulated": lambda job: check(job, {}, {"accumulation_steps": 2}),
    "verified": lambda job: check(job, {}, {"verify": 2}),
    "refused": check_refusal,
    "failed": check_failure,
}


def main() -> None:
    """Run all checks."""
    logging.basicConfig()
    faulthandler.dump_traceback_later(240, exit=True)  # who waits for ever says where
    with start() as job:
        for name, checked in CHECKS.items():
            checked(job)
            torch.cuda.synchronize()
            if job.rank == 0:
                print(f"PASS {name}", flush=True)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
