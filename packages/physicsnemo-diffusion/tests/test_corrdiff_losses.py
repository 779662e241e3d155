# SPDX-License-Identifier: Apache-2.0
"""The losses of CorrDiff."""

import pytest
import torch
from torch import nn

from physicsnemo.metrics.diffusion import EDMLoss, RegressionLoss, ResidualLoss, VELoss
from physicsnemo.utils.diffusion import StackedRandomGenerator
from physicsnemo.utils.patching import GridPatching2D, RandomPatching2D


def double(x, img_lr):
    """Predict an image, of which every pixel is twice the first channel of the condition."""
    return x + 2 * img_lr[:, :1]


def local(x, img_lr, sigma):
    """Denoise pixel by pixel."""
    return x / (1 + sigma**2) + 0.1 * img_lr[:, :1]


def batch(number=3):
    torch.manual_seed(0)
    return torch.randn(number, 1, 8, 12), torch.randn(number, 2, 8, 12)


def same_noise():
    return StackedRandomGenerator("cpu", seeds=[1, 2, 3]).randn_like


def test_regression_is_the_mean_square_error():
    images, condition = batch()
    expected = (2 * condition[:, :1] - images).square()
    torch.testing.assert_close(RegressionLoss()(double, images, condition), expected.mean())
    weights = torch.rand(8, 1)
    weighted = RegressionLoss()(double, images, condition, weights=weights)
    torch.testing.assert_close(weighted, (expected * weights).mean())


def test_regression_learns_the_mean():
    torch.manual_seed(0)
    condition = torch.randn(400, 1, 2, 2)
    images = 3 * condition + 1 + torch.randn(400, 1, 2, 2)
    layer = nn.Conv2d(1, 1, 1)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        RegressionLoss()(lambda x, img_lr: layer(img_lr) + x, images, condition).backward()
        optimizer.step()
    assert layer.weight.item() == pytest.approx(3, abs=4 / 40)  # 4 standard errors
    assert layer.bias.item() == pytest.approx(1, abs=4 / 40)


def test_regression_on_patches_that_tile_the_image_is_that_on_the_whole():
    images, condition = batch()
    patching = GridPatching2D((8, 12), (4, 4))
    seen = []

    def net(x, img_lr):
        seen.append((x, img_lr))
        return double(x, img_lr)

    patched = RegressionLoss()(net, images, condition, patching=patching)
    torch.testing.assert_close(patched, RegressionLoss()(double, images, condition))
    zeros, shown = seen[0]
    assert torch.equal(zeros, torch.zeros(18, 1, 4, 4))
    assert torch.equal(shown, patching.apply(condition, additional_input=condition))


@pytest.mark.parametrize("noise", [EDMLoss(), VELoss()], ids=["edm", "ve"])
def test_residual_is_what_the_regression_leaves(noise):
    images, condition = batch()
    loss = ResidualLoss(double, noise)
    got = loss(local, images, condition, randn_like=same_noise())
    residual = images - 2 * condition[:, :1]
    torch.testing.assert_close(got, noise(local, residual, condition, randn_like=same_noise()))


def test_default_noise_is_that_of_corrdiff():
    assert ResidualLoss(double).noise == EDMLoss(P_mean=0.0, P_std=1.2, sigma_data=0.5)


@pytest.mark.parametrize("mean_conditioning", [False, True])
def test_condition_of_the_denoiser(mean_conditioning):
    images, condition = batch()
    patching = RandomPatching2D((8, 12), (4, 4), 5)
    seen = []

    def net(x, img_lr, sigma):
        seen.append(img_lr)
        return x

    loss = ResidualLoss(double, mean_conditioning=mean_conditioning)
    loss(net, images, condition)
    loss(net, images, condition, patching=patching)
    channels = (2 * condition[:, :1], condition) if mean_conditioning else (condition,)
    whole = torch.cat(channels, dim=1)
    assert torch.equal(seen[0], whole)
    # As the samplers show it: of the whole image the condition only, without the mean.
    assert torch.equal(seen[1], patching.apply(whole, additional_input=condition))


def test_regression_sees_whole_images_once():
    images, condition = batch()
    shapes = []

    def regression(x, img_lr):
        shapes.append((tuple(x.shape), tuple(img_lr.shape)))
        return double(x, img_lr)

    loss = ResidualLoss(regression)
    patching = GridPatching2D((8, 12), (4, 4))
    patched = loss(local, images, condition, patching=patching, randn_like=same_noise())
    assert shapes == [((3, 1, 8, 12), (3, 2, 8, 12))]

    mean = loss.mean(images, condition)
    again = loss(local, images, condition, mean=mean, patching=patching, randn_like=same_noise())
    assert again == patched
    assert len(shapes) == 2


def test_regression_gets_no_gradients():
    images, condition = batch()
    regression, denoiser = nn.Conv2d(2, 1, 1).eval(), nn.Conv2d(1, 1, 1)
    loss = ResidualLoss(lambda x, img_lr: x + regression(img_lr))
    loss(lambda x, img_lr, sigma: denoiser(x), images, condition).backward()
    assert regression.weight.grad is None
    assert denoiser.weight.grad is not None


def test_lead_times_reach_both_nets_as_they_are():
    images, condition = batch()
    label = torch.tensor([2, 0, 1])
    seen = []

    def regression(x, img_lr, lead_time_label=None):
        seen.append(lead_time_label)
        return x

    def net(x, img_lr, sigma, lead_time_label=None, embedding_selector=None):
        seen.append(lead_time_label)
        maps = torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 1, 8, 12)[lead_time_label]
        return x if embedding_selector is None else x + embedding_selector(maps)

    for patching in (None, GridPatching2D((8, 12), (4, 4))):
        loss = ResidualLoss(regression)
        loss(net, images, condition, patching=patching, lead_time_label=label)
        RegressionLoss()(regression, images, condition, patching=patching, lead_time_label=label)
    assert len(seen) == 6
    assert all(it is label for it in seen)


@pytest.mark.parametrize("patched", [False, True])
def test_one_seed_for_each_sample(patched):
    images, condition = batch()
    patching = GridPatching2D((8, 12), (4, 4)) if patched else None

    def of(*chosen):
        noise = StackedRandomGenerator("cpu", seeds=[7 + index for index in chosen]).randn_like
        index = list(chosen)
        options = {"patching": patching, "randn_like": noise}
        return ResidualLoss(double)(local, images[index], condition[index], **options)

    torch.testing.assert_close(of(0, 1, 2), torch.stack([of(0), of(1), of(2)]).mean())
    assert of(0) == of(0) != of(1)


def test_compiles_without_graph_breaks():
    images, condition = batch()
    patching = RandomPatching2D((8, 12), (4, 4), 5)
    loss = ResidualLoss(double, mean_conditioning=True)

    def step(images, condition):
        return loss(local, images, condition, patching=patching, weights=condition[:1, :1])

    torch.compiler.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.manual_seed(0)
    expected = step(images, condition)
    torch.manual_seed(0)
    torch.testing.assert_close(compiled(images, condition), expected)


def test_regression_network_in_training_mode_is_refused():
    images, condition = batch()
    with pytest.raises(ValueError, match=r"in evaluation mode, .* call its method eval\(\)"):
        ResidualLoss(nn.Identity())(local, images, condition)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda images, condition: RegressionLoss()(double, images, condition[:2]),
            r"conditioning image of shape \(3, channels, 8, 12\), .* got \(2, 2, 8, 12\)",
        ),
        (
            lambda images, condition: RegressionLoss()(
                double, images, condition, lead_time_label=torch.zeros(3).long()
            ),
            "takes no lead_time_label",
        ),
        (
            lambda images, condition: ResidualLoss(double)(
                local, images, condition, mean=images[:1]
            ),
            r"a mean of shape \(3, 1, 8, 12\), .* got \(1, 1, 8, 12\)",
        ),
        (
            lambda images, condition: ResidualLoss(lambda x, img_lr: img_lr)(
                local, images, condition
            ),
            r"a mean of shape \(3, 1, 8, 12\), .* got \(3, 2, 8, 12\)",
        ),
    ],
)
def test_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call(*batch())
