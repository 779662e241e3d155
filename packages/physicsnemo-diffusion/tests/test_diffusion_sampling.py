# SPDX-License-Identifier: Apache-2.0
"""Sampling: seeds, chunks, patches, gradients, and what is refused."""

import pytest
import torch

from physicsnemo.diffusion import (
    EDM,
    IDDPM,
    VE,
    VP,
    Churn,
    Diffusion,
    Observed,
    Patches,
    sample,
)
from physicsnemo.diffusion.methods import METHODS
from physicsnemo.diffusion.patches import in_chunks
from physicsnemo.models.diffusion import SongUNet
from physicsnemo.utils.diffusion import StackedRandomGenerator
from physicsnemo.utils.patching import GridPatching2D

SMALL = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": []}
IMAGE = torch.randn(4, 1, 8, 12, generator=torch.Generator().manual_seed(1)).double()


def unet(schedule, channels=3):
    network = SongUNet([8, 12], in_channels=channels, out_channels=2, **SMALL)
    return Diffusion(network, schedule).double().eval()


def one_by_one(model, rows, **options):
    generator = StackedRandomGenerator("cpu", seeds=[5, 6, 7, 8][rows])
    shape = (len(IMAGE[rows]), 2, 8, 12)
    with torch.no_grad():
        return sample(model, shape, {"image": IMAGE[rows]}, generator=generator, steps=4, **options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schedule", [EDM(nu=5.0), VP()], ids=lambda it: type(it).__name__)
def test_samples_do_not_depend_on_batch_and_chunk(method, schedule):
    model = unet(schedule)
    expected = one_by_one(model, slice(4), method=method)
    assert expected.dtype == torch.float64
    close = {"rtol": 1e-10, "atol": 1e-10}
    for chunk in (1, 3):
        chunked = one_by_one(model, slice(4), method=method, chunk=chunk)
        torch.testing.assert_close(chunked, expected, **close)
    parts = [one_by_one(model, part, method=method) for part in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(torch.cat(parts), expected, **close)


class Pointwise(torch.nn.Module):
    """Estimate of normal data whose mean is the condition's first channel, plus the position."""

    schedule = EDM()

    def forward(self, x, t, condition):
        mean = condition["image"].sum(dim=1, keepdim=True) + condition["shift"][:, :, None, None]
        return mean + (x - mean) * 0.25 / (0.25 + t[:, None, None, None] ** 2)


@pytest.mark.parametrize("chunk", [None, 1, 5])
def test_patches_of_a_pointwise_model_are_the_whole(chunk):
    patches = Patches(GridPatching2D((8, 12), (4, 6), overlap_pix=2), positions=True)
    shift = torch.arange(4.0)[:, None]
    noise = torch.randn(4, 1, 8, 12, dtype=torch.float64)
    found = sample(
        Pointwise(),
        noise,
        {"image": IMAGE, "shift": shift},
        patches=patches,
        chunk=chunk,
        steps=4,
    )
    axes = [torch.linspace(-1, 1, size, dtype=torch.float64) for size in (8, 12)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(4, -1, -1, -1)
    whole = torch.cat((IMAGE, grid), dim=1)
    expected = sample(Pointwise(), noise, {"image": whole, "shift": shift}, steps=4)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_what_becomes_of_conditions_in_patches():
    patching = GridPatching2D((8, 12), (4, 6))
    patches = Patches(patching, cut={"map": "resize", "whole": "repeat"})
    condition = {
        "image": IMAGE,
        "map": torch.randn(1, 2, 8, 12),
        "whole": IMAGE,
        "vector": torch.rand(4, 3),
    }
    cut = patches.condition(condition, batch=4)
    torch.testing.assert_close(cut["image"], patching.apply(IMAGE))
    resized = patching.resized(condition["map"])
    torch.testing.assert_close(cut["map"], resized.expand(16, -1, -1, -1))
    torch.testing.assert_close(cut["whole"], IMAGE.repeat(4, 1, 1, 1))
    torch.testing.assert_close(cut["vector"], condition["vector"].repeat(4, 1))
    assert cut.keys() == condition.keys()
    with pytest.raises(ValueError, match="resize"):
        Patches(patching, cut={"map": "shrink"})


def test_samples_are_differentiable():
    noise = torch.randn(2, 1, 2, 2, dtype=torch.float64)
    shift = torch.zeros(2, 1, dtype=torch.float64)
    image = torch.randn(2, 1, 2, 2, dtype=torch.float64, requires_grad=True)

    def samples(image, chunk):
        energy = Observed(torch.ones_like(noise), std=1.0)
        condition = {"image": image, "shift": shift}
        return sample(Pointwise(), noise, condition, steps=3, guidance=energy, chunk=chunk)

    without_energy = torch.autograd.functional.jacobian(
        lambda image: sample(Pointwise(), noise, {"image": image, "shift": shift}, steps=3).sum(),
        image,
    )
    assert (without_energy > 0.9).all()
    torch.testing.assert_close(samples(image, 1), samples(image, None))
    assert torch.autograd.gradcheck(
        lambda image: sample(
            Pointwise(), noise, {"image": image, "shift": shift}, steps=3, chunk=1
        ),
        image,
    )


def test_each_step_is_shown():
    model, seen = Pointwise(), []
    condition = {"image": IMAGE, "shift": torch.zeros(1, 1)}
    result = sample(
        model, (4, 1, 8, 12), condition, steps=3, each=lambda i, t, x: seen.append((i, t, x))
    )
    assert [(i, t) for i, t, _ in seen] == list(enumerate(EDM().times(3)[1:]))
    assert seen[-1][2] is result


@pytest.mark.parametrize(
    ("method", "schedule"),
    [*((method, VP()) for method in METHODS), *(("heun", it) for it in (EDM(), VE(), IDDPM(M=50)))],
    ids=str,
)
def test_no_step_waits_for_the_device(from_the_host, method, schedule):
    """On the meta device, where there are no numbers, asking for one is an error."""
    model = unet(schedule).to("meta")
    image = torch.empty(2, 1, 8, 12, device="meta")

    def run():
        patches = GridPatching2D((8, 12), (4, 6))
        return sample(model, (2, 2, 8, 12), image, steps=2, method=method, patches=patches, chunk=5)

    with torch.no_grad():
        run()  # which copies tables once
        with from_the_host as watch:
            assert run().is_meta
    assert watch.found == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"method": "rk4"}, "dpm-solver"),
        ({"steps": 0}, "at least 1"),
        ({"steps": [1.0]}, "two or more decreasing"),
        ({"steps": [1.0, 2.0]}, "decreasing times"),
        ({"chunk": 0}, "chunk"),
        ({"condition": {"image": IMAGE[:3], "shift": torch.zeros(1, 1)}}, "each of 4 samples"),
    ],
)
def test_options_that_are_refused(options, text):
    given = {"condition": {"image": IMAGE, "shift": torch.zeros(1, 1)}} | options
    with pytest.raises(ValueError, match=text):
        sample(Pointwise(), (4, 1, 8, 12), **given)


def test_noise_that_is_refused():
    with pytest.raises(ValueError, match="floating-point"):
        sample(Pointwise(), torch.ones(1, 1, 4, 4, dtype=torch.int64))


def test_a_method_of_ones_own():
    def jump(flow, x, t, t_next):
        return flow.x0(x, t) if t_next == 0 else x

    condition = {"image": IMAGE, "shift": torch.zeros(1, 1)}
    noise = torch.randn(4, 1, 8, 12, dtype=torch.float64)
    found = sample(Pointwise(), noise, condition, steps=2, method=jump)
    expected = Pointwise()(80 * noise, torch.full((4,), 0.002, dtype=torch.float64), condition)
    torch.testing.assert_close(found, expected)


def test_a_method_of_any_other():
    noise = torch.randn(4, 1, 8, 12, dtype=torch.float64)
    condition = {"image": IMAGE, "shift": torch.zeros(1, 1)}
    same = [sample(Pointwise(), noise, condition, method=it) for it in (Churn(amount=0.0), "heun")]
    torch.testing.assert_close(*same)


def test_chunks_that_are_computed_again_keep_dropout():
    """In training, the gradient of an energy is that of the same random numbers."""
    network = SongUNet([8, 12], in_channels=3, out_channels=2, dropout=0.5, **SMALL)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)  # as those of a new network let no noise through
    model = Diffusion(network, EDM()).double().train()
    noise = torch.randn(4, 2, 8, 12, dtype=torch.float64)
    kept = Observed(torch.zeros_like(noise), std=1.0)

    t = torch.ones(4, dtype=torch.float64)

    def at_once(x):
        return torch.cat([model(x[i : i + 2], t[:2], IMAGE[i : i + 2]) for i in (0, 2)])

    def gradient(estimate):
        torch.manual_seed(3)
        x = noise.clone().requires_grad_()
        return torch.autograd.grad(kept(estimate(x), 1.0).sum(), x)[0]

    again = gradient(lambda x: in_chunks(model, x, t, IMAGE, 2))
    torch.testing.assert_close(again, gradient(at_once))
