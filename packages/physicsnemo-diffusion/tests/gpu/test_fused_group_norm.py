# SPDX-License-Identifier: Apache-2.0
"""Where models on a GPU use the kernels of fused group normalization, and that they train alike."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from physicsnemo.models.diffusion import DhariwalUNet, GroupNorm, SongUNet, UNetBlock
from physicsnemo.models.diffusion.layers import _fused_group_norm as fused
from physicsnemo.models.diffusion.layers import normalization
from physicsnemo.utils import StaticCaptureTraining

pytestmark = pytest.mark.gpu

SMALL = {"model_channels": 32, "channel_mult": [1, 2], "num_blocks": 1, "dropout": 0.0}
SMALL |= {"attn_resolutions": [8]}


@pytest.fixture(autouse=True)
def _small_images_too(gpu, monkeypatch):
    monkeypatch.setattr(normalization, "_FEWEST_FUSED", 1)
    assert fused.is_usable(torch.zeros(1, device=gpu).device)  # which launches a kernel


@pytest.fixture
def calls(monkeypatch):
    """Count the calls of the kernels."""
    found, whole = [], fused.group_norm

    def counted(*args, **options):
        found.append(options)
        return whole(*args, **options)

    monkeypatch.setattr(fused, "group_norm", counted)
    return found


@pytest.fixture
def unfused(monkeypatch):
    """Return what switches the kernels off."""
    return lambda: monkeypatch.setattr(fused, "is_usable", lambda device: False)


def images(gpu, *shape):
    return torch.randn(*shape, device=gpu).to(memory_format=torch.channels_last)


def varied(model, gpu):
    """Return a model whose output depends on all of its input, as that of a fresh one does not."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.05)
    return model.to(gpu, memory_format=torch.channels_last)


def test_choice(gpu, calls):
    norm = GroupNorm(8, fused_act=True, act="silu").to(gpu)
    x = images(gpu, 2, 8, 4, 4)
    y = norm(x)
    assert len(calls) == 1
    assert y.is_contiguous(memory_format=torch.channels_last)
    others = [x.contiguous(), x.double(), x[:0], x[:, :, :1, :1], x.cpu()]
    for other in others:
        norm.to(other)(other)
    norm.to(x)
    torch.func.vmap(norm, in_dims=0)(x[None])
    torch.func.jvp(norm, (x,), (x,))
    with torch.autograd.forward_ad.dual_level():
        norm(torch.autograd.forward_ad.make_dual(x.contiguous(), x.contiguous()))
        norm(x)
    torch.compile(norm, fullgraph=True)(x)
    torch.export.export(norm, (x,))
    torch.jit.trace(norm, (x,), check_trace=False)
    assert len(calls) == 1
    with pytest.raises(RuntimeError):
        norm(images(gpu, 2, 12, 4, 4))


@pytest.mark.parametrize("network", [SongUNet, DhariwalUNet])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_networks_compute_the_same(
    network, dtype, gpu, calls, unfused, monkeypatch, outputs_and_gradients
):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model = varied(network(16, in_channels=3, out_channels=2, **SMALL), gpu)
    inputs = images(gpu, 2, 3, 16, 16), torch.rand(2, device=gpu)
    found = outputs_and_gradients(model, model, inputs, dtype)
    norms = sum(isinstance(it, GroupNorm) for it in model.modules())
    assert len(calls) >= norms // 2  # attention makes some contiguous
    unfused()
    count = len(calls)
    expected = outputs_and_gradients(model, model, inputs, dtype)
    assert len(calls) == count
    tolerance = 1e-4 if dtype is torch.float32 else 0.05
    assert (found[0] - expected[0]).norm() < tolerance * expected[0].norm()
    got, right = (torch.cat([it.flatten() for it in each[1:]]) for each in (found, expected))
    assert (got - right).norm() < tolerance * right.norm()


def test_the_same_bits(gpu, assert_same_bits):
    norm = varied(GroupNorm(64, fused_act=True, act="silu"), gpu)
    assert_same_bits(norm, norm, (images(gpu, 2, 64, 50, 30),))


def test_checkpointed(gpu, calls, outputs_and_gradients):
    block = varied(UNetBlock(32, 32, 8), gpu)
    inputs = images(gpu, 2, 32, 8, 8), torch.randn(2, 8, device=gpu)
    found = outputs_and_gradients(
        lambda *args: checkpoint(block, *args, use_reentrant=False), block, inputs
    )
    assert len(calls) == 4  # of which two again, going back
    for got, right in zip(found, outputs_and_gradients(block, block, inputs), strict=True):
        torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("use_amp", [False, True])
def test_captured_training(use_amp, gpu, calls, monkeypatch):
    """A replayed training has the losses of one that is not captured."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    batches = [
        (images(gpu, 2, 3, 16, 16), torch.rand(2, device=gpu), images(gpu, 2, 2, 16, 16))
        for _ in range(8)
    ]
    losses = []
    for captured in (True, False):
        model = varied(SongUNet(16, in_channels=3, out_channels=2, **SMALL), gpu)
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)

        @StaticCaptureTraining(
            model,
            optimizer,
            use_amp=use_amp,
            amp_type=torch.bfloat16,
            use_graphs=captured,
            cuda_graph_warmup=3,
            compile=False,
        )
        def step(x, noise, y, model=model):
            return (model(x, noise) - y).square().mean()

        losses.append(torch.stack([step(*batch).clone() for batch in batches]))
        assert not captured or step.replays() == len(batches) - 3
    assert calls
    torch.testing.assert_close(*losses, rtol=1e-2 if use_amp else 1e-4, atol=0)


def test_memory_kept_for_the_way_back(gpu, unfused):
    """The images alone are kept: not what goes into the activation."""
    norm = GroupNorm(128, fused_act=True, act="silu").to(gpu)
    x = images(gpu, 4, 128, 64, 64).requires_grad_()

    def kept():
        before = torch.cuda.memory_allocated()
        y = norm(x)
        return (torch.cuda.memory_allocated() - before) / (y.numel() * y.element_size())

    kept()
    assert kept() < 1.1  # the result
    unfused()
    assert kept() > 1.9
