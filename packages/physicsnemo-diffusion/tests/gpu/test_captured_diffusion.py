# SPDX-License-Identifier: Apache-2.0
"""A whole call of ``physicsnemo.diffusion.sample`` replayed as one CUDA graph, and its memory."""

import pytest
import torch

from physicsnemo.diffusion import EDM, IDDPM, VP, Diffusion, Observed, sample
from physicsnemo.diffusion.methods import METHODS
from physicsnemo.models.diffusion import SongUNet
from physicsnemo.utils import StaticCaptureEvaluateNoGrad
from physicsnemo.utils.diffusion import StackedRandomGenerator
from physicsnemo.utils.patching import GridPatching2D

pytestmark = pytest.mark.gpu

SONG = {"model_channels": 16, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [8]}
CALLS, WARMUP = 6, 2


@pytest.fixture(autouse=True)
def _deterministic_convolutions(monkeypatch):
    """Else two eager runs differ as well."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def prepared(schedule, device):
    """Return a model whose output depends on all of its input, as that of a fresh one does not."""
    torch.manual_seed(0)
    model = Diffusion(SongUNet(16, in_channels=3, out_channels=2, **SONG), schedule).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    return model.to(device)


@pytest.mark.parametrize(
    ("method", "schedule"),
    [*((method, EDM()) for method in METHODS), ("heun", VP()), ("heun", IDDPM())],
    ids=str,
)
@pytest.mark.parametrize("patched", [False, True], ids=["whole", "patches"])
def test_a_replay_draws_the_same_samples(gpu, method, schedule, patched):
    model = prepared(schedule, gpu)
    patches = GridPatching2D((16, 16), (8, 8), overlap_pix=2) if patched else None
    chunk = 5 if patched else None

    def run(condition, generator):
        shape = 2, 2, 16, 16
        given = {"generator": generator, "patches": patches, "chunk": chunk}
        return sample(model, shape, condition, steps=4, method=method, **given)

    captured = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=WARMUP)(run)
    for batch in range(CALLS):
        mine, other = (StackedRandomGenerator(gpu, [batch, batch + 9]) for _ in range(2))
        condition = torch.randn(2, 1, 16, 16, device=gpu)
        with torch.no_grad():
            expected = run(condition, other)
        torch.testing.assert_close(captured(condition, mine), expected, rtol=1e-4, atol=1e-4)
    assert captured.replays() == CALLS - WARMUP


def peak(run):
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def test_memory_of_guided_sampling_does_not_grow_with_steps_and_shrinks_with_chunks(gpu):
    """The gradient of a step goes through one evaluation, and through chunks one by one."""
    network = SongUNet(64, in_channels=2, out_channels=2, **SONG | {"model_channels": 32})
    model = Diffusion(network, EDM()).to(gpu).eval().requires_grad_(False)
    observed = Observed(torch.zeros(1, 2, 64, 64, device=gpu), std=0.1, gamma=0.1)

    def run(steps, chunk=None):
        with torch.no_grad():
            return sample(model, (16, 2, 64, 64), steps=steps, guidance=observed, chunk=chunk)

    run(1)
    short, long, in_chunks = peak(lambda: run(3)), peak(lambda: run(30)), peak(lambda: run(3, 2))
    assert long < 1.05 * short
    assert in_chunks < 0.4 * short
