# SPDX-License-Identifier: Apache-2.0
"""Losses of denoisers, on data whose ideal denoiser is known."""

import math

import pytest
import torch
from torch import nn

from physicsnemo.metrics.diffusion import DenoisingLoss, EDMLoss, VELoss, VPLoss
from physicsnemo.utils.diffusion import StackedRandomGenerator
from physicsnemo.utils.patching import GridPatching2D, RandomPatching2D

LOSSES = [VPLoss(), VELoss(), EDMLoss()]
DATA = 0.5  # standard deviation of the images

each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda it: type(it).__name__)


def ideal(x, sigma):
    """Denoise images of independent normal pixels."""
    return x * DATA**2 / (DATA**2 + sigma**2)


def mean_and_error(draw, times=60):
    """Return the mean of what is drawn many times, and its standard error."""
    torch.manual_seed(0)
    drawn = torch.stack([draw() for _ in range(times)]).double()
    return drawn.mean(), drawn.std() / math.sqrt(times)


def expectation(loss, values):
    """Return the mean of values(sigma, weight(sigma)) over noise levels, by quadrature."""
    normal = torch.linspace(-7, 7, 20001, dtype=torch.float64)
    density = torch.exp(-0.5 * normal**2) / math.sqrt(2 * math.pi)
    sigma = loss.sigma(normal)
    return torch.trapezoid(density * values(sigma, loss.weight(sigma)), normal)


def test_noise_levels_are_those_of_the_papers():
    torch.manual_seed(0)
    normal = torch.randn(200_000, dtype=torch.float64)
    within = 4 / math.sqrt(len(normal))

    log_sigma = EDMLoss(P_mean=-0.3, P_std=0.8).sigma(normal).log()
    assert abs(log_sigma.mean() + 0.3) < 0.8 * within
    assert abs(log_sigma.std() - 0.8) < 0.8 * within

    share = (VELoss(0.1, 20).sigma(normal) / 0.1).log() / math.log(200)  # uniform
    assert 0 <= share.min() < share.max() <= 1
    assert abs(share.mean() - 1 / 2) < within / math.sqrt(12)
    assert abs(share.square().mean() - 1 / 3) < within * math.sqrt(4 / 45)

    log = VPLoss(beta_d=8, beta_min=0.2, epsilon_t=0.1).sigma(normal).square().log1p()
    time = ((0.2**2 + 2 * 8 * log).sqrt() - 0.2) / 8
    assert 0.1 <= time.min() < time.max() <= 1
    assert abs((time.mean() - 0.55) / 0.9) < within / math.sqrt(12)
    assert abs((((time - 0.1) / 0.9) ** 2).mean() - 1 / 3) < within * math.sqrt(4 / 45)


def test_weights_are_those_of_the_papers():
    sigma = torch.tensor([0.01, 0.3, 70.0], dtype=torch.float64)
    for loss in (VPLoss(), VELoss()):
        torch.testing.assert_close(loss.weight(sigma), 1 / sigma**2)
    expected = (sigma**2 + 0.3**2) / (sigma * 0.3) ** 2
    torch.testing.assert_close(EDMLoss(sigma_data=0.3).weight(sigma), expected)


@each_loss
def test_levels_and_weights_stay_finite(loss):
    extreme = torch.tensor([-7.0, 7.0])  # beyond what float32 draws
    assert loss.sigma(extreme).isfinite().all()
    assert loss.weight(loss.sigma(extreme)).isfinite().all()


@each_loss
def test_loss_of_the_ideal_denoiser_of_a_gaussian(loss):
    root = torch.tensor([[0.5, 0.1, 0.0, 0.2], [0, 0.3, 0.1, 0], [0, 0, 0.8, 0.1], [0, 0, 0, 0.1]])
    covariance = root @ root.T
    variances, vectors = torch.linalg.eigh(covariance)
    center = torch.tensor([1.0, -2.0, 0.5, 3.0])

    def denoise(x, sigma):
        flat = (x.flatten(1) - center) @ vectors
        kept = variances / (variances + sigma.reshape(-1, 1) ** 2)
        return ((flat * kept) @ vectors.T + center).reshape(x.shape)

    def draw():
        images = center + torch.randn(2000, 4) @ root.T
        return loss(denoise, images.reshape(-1, 1, 2, 2))

    def values(sigma, weight):
        s = variances.double()[:, None]
        return weight * (s * sigma**2 / (s + sigma**2)).mean(dim=0)

    mean, error = mean_and_error(draw)
    assert abs(mean - expectation(loss, values)) < 4 * error


@each_loss
def test_gradient_vanishes_at_the_ideal(loss):
    def gradient(shift):
        factor = torch.tensor(1.0 + shift, requires_grad=True)
        images = DATA * torch.randn(2000, 1, 2, 2)
        value = loss(lambda x, sigma: factor * ideal(x, sigma), images)
        return torch.autograd.grad(value, factor)[0]

    mean, error = mean_and_error(lambda: gradient(0.0))
    assert abs(mean) < 4 * error
    mean, error = mean_and_error(lambda: gradient(0.1))
    assert mean > 4 * error


def test_edm_loss_of_a_network_of_zeros_is_one_at_any_level():
    for level in (0.01, 0.5, 30.0):
        loss = EDMLoss(P_mean=math.log(level), P_std=0.0, sigma_data=DATA)

        def draw(loss=loss):
            images = DATA * torch.randint(0, 2, (500, 2, 4, 4)).mul(2).sub(1)  # far from normal
            return loss(ideal, images)  # which is c_skip x

        mean, error = mean_and_error(draw)
        assert abs(mean - 1) < 4 * error


@each_loss
@pytest.mark.parametrize("patched", [False, True])
def test_one_seed_for_each_sample(loss, patched):
    torch.manual_seed(0)
    images = torch.randn(3, 2, 8, 8)
    patching = GridPatching2D((8, 8), (4, 4)) if patched else None

    def of(chosen):
        noise = StackedRandomGenerator("cpu", seeds=[10 + index for index in chosen])
        return loss(ideal, images[chosen], patching=patching, randn_like=noise.randn_like)

    assert of([0, 1, 2]) == of([0, 1, 2])
    torch.testing.assert_close(of([0, 1, 2]), torch.stack([of([i]) for i in range(3)]).mean())
    assert of([0]) != loss(
        ideal,
        images[:1],
        patching=patching,
        randn_like=StackedRandomGenerator("cpu", [99]).randn_like,
    )


def test_each_sample_has_a_level_of_its_own():
    seen = []

    def net(x, sigma):
        seen.append(sigma)
        return x

    EDMLoss()(net, torch.randn(5, 2, 3, 4))
    EDMLoss()(net, torch.randn(5, 2, 8, 8), patching=GridPatching2D((8, 8), (4, 4)))
    EDMLoss()(net, torch.randn(5, 2, 7))
    assert [tuple(sigma.shape) for sigma in seen] == [(5, 1, 1, 1), (20, 1, 1, 1), (5, 1, 1)]
    assert [len(sigma.unique()) for sigma in seen] == [5, 20, 5]


class Recorder:
    """Draws standard normal numbers, and keeps them."""

    def __init__(self):
        self.drawn = []

    def __call__(self, like):
        self.drawn.append(torch.randn_like(like))
        return self.drawn[-1]


def in_image(patches, patching, batch):
    """Put numbers of shape (batch, patches, ...) to where their patches are in the image."""
    return patching.fuse(patches.transpose(0, 1).flatten(0, 1), batch)


@each_loss
@pytest.mark.parametrize("weighted", [False, True])
def test_patches_that_tile_an_image_have_the_loss_of_it_if_the_net_is_local(loss, weighted):
    patching = GridPatching2D((8, 12), (4, 4))
    images = torch.randn(3, 2, 8, 12, dtype=torch.float64)
    weights = torch.rand(2, 8, 1) if weighted else None
    recorder = Recorder()
    patched = loss(ideal, images, patching=patching, weights=weights, randn_like=recorder)
    levels, noise = recorder.drawn
    # The same noise and levels on whole images, where levels differ from place to place.
    levels = in_image(levels[..., None, None, None].expand(3, 6, 1, 4, 4), patching, 3)
    noise = in_image(noise, patching, 3)
    sigma = loss.sigma(levels)
    square = (ideal(images + sigma * noise, sigma) - images) ** 2 * loss.weight(sigma)
    expected = (square if weights is None else square * weights).mean()
    torch.testing.assert_close(patched, expected)

    def difference():
        patched = loss(ideal, DATA * torch.randn(300, 1, 8, 12), patching=patching)
        return patched - loss(ideal, DATA * torch.randn(300, 1, 8, 12))

    mean, error = mean_and_error(difference, times=30)
    assert abs(mean) < 4 * error


def test_the_condition_of_patches_is_cut_and_shown_as_a_whole():
    patching = RandomPatching2D((8, 12), (4, 4), 5)
    images, condition = torch.randn(2, 1, 8, 12), torch.randn(2, 3, 8, 12)
    seen = []

    def net(x, sigma, condition=None):
        seen.append(condition)
        return x

    EDMLoss()(net, images, condition, patching=patching)
    EDMLoss()(net, images, condition)
    EDMLoss()(net, images)
    assert torch.equal(seen[0], patching.apply(condition, additional_input=condition))
    assert torch.equal(seen[1], condition)
    assert seen[2] is None


@pytest.mark.parametrize(
    "net",
    [
        lambda x, sigma, condition=None: x + condition,
        lambda x, img_lr, sigma: x + img_lr,
        lambda noisy, image, level, **other: noisy + image,
    ],
)
def test_forms_of_nets(net):
    images, condition = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    torch.manual_seed(0)
    expected = EDMLoss()(lambda x, sigma: x + condition, images)
    torch.manual_seed(0)
    assert EDMLoss()(net, images, condition) == expected


def test_labels_are_those_of_the_image():
    labels = torch.randn(3, 5)
    augment, lead = torch.randn(3, 2), torch.tensor([4, 0, 2])
    seen = {}

    def net(x, sigma, class_labels=None, augment_labels=None, lead_time_label=None):
        seen.update(of_class=class_labels, augment=augment_labels, lead=lead_time_label)
        return x

    images = torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 1, 8, 8)
    options = {"class_labels": labels, "augment_labels": augment, "lead_time_label": lead}
    EDMLoss()(net, images, **options)
    assert seen == {"of_class": labels, "augment": augment, "lead": lead}
    patching = GridPatching2D((8, 8), (4, 4))
    EDMLoss()(net, images, patching=patching, **options)
    whose = patching.apply(images)[:, 0, 0, 0].long()
    assert torch.equal(seen["of_class"], labels[whose])
    assert torch.equal(seen["augment"], augment[whose])
    assert seen["lead"] is lead  # of whole images: it chooses what the selector cuts


def test_a_net_with_maps_is_told_how_to_cut_them():
    patching = RandomPatching2D((8, 12), (4, 4), 5)
    maps, of_sample = torch.randn(4, 8, 12), torch.randn(2, 4, 8, 12)
    cut = []

    def net(x, sigma, embedding_selector=None):
        if embedding_selector is not None:
            cut.extend([embedding_selector(maps), embedding_selector(of_sample)])
        return x

    images = torch.randn(2, 1, 8, 12)
    EDMLoss()(net, images)
    assert cut == []
    EDMLoss()(net, images, patching=patching)
    assert torch.equal(cut[0], patching.apply(maps.expand(2, -1, -1, -1)))
    assert torch.equal(cut[1], patching.apply(of_sample))


def test_weights():
    images = torch.randn(4, 2, 3, 5)
    chosen = torch.zeros(4, 2, 3, 5)
    chosen[:, 1, :2] = 3.0  # 1 of 2 channels, 2 of 3 rows: on average 1

    def of(images, net=ideal, **options):
        torch.manual_seed(0)
        return EDMLoss()(net, images, **options)

    torch.testing.assert_close(of(images, weights=torch.full((3, 1), 2.0)), 2 * of(images))
    assert of(images, weights=torch.zeros(())) == 0

    def also_wrong_elsewhere(x, sigma):
        return torch.where(chosen > 0, ideal(x, sigma), 100.0)

    assert of(images, also_wrong_elsewhere, weights=chosen) == of(images, weights=chosen) > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_images_are_widened(dtype):
    images = torch.randn(2, 1, 4, 4).to(dtype)

    def net(x, sigma):
        assert x.dtype == sigma.dtype == torch.float32
        return ideal(x, sigma).to(dtype)  # as a net without a wrapper may return

    loss = EDMLoss()(net, images)
    assert loss.dtype == torch.float32


@each_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(loss, dtype):
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 1, 3, padding=1)
    seen = []

    def net(x, sigma):
        inner = layer(x / (1 + sigma**2).sqrt())
        seen.append(inner.dtype)
        return x / (1 + sigma**2) + sigma / (1 + sigma**2).sqrt() * inner

    def of():
        torch.manual_seed(1)
        return loss(net, torch.randn(4, 1, 6, 6))

    with torch.autocast("cpu", dtype):
        half = of()
    half.backward()
    assert seen == [dtype]
    assert half.dtype == torch.float32
    assert layer.weight.grad.isfinite().all()
    torch.testing.assert_close(half, of(), rtol=0.02, atol=0)


@each_loss
def test_compiles_without_graph_breaks(loss):
    patching = GridPatching2D((6, 6), (4, 4), 1)
    layer = nn.Conv2d(3, 1, 3, padding=1)

    class Net(nn.Module):
        def forward(self, x, sigma, condition=None, **labels):
            return layer(torch.cat((x, condition), dim=1)) + labels["class_labels"].mean()

    def step(net, images, labels):
        return loss(net, images, images, patching=patching, class_labels=labels)

    torch.compiler.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    arguments = Net(), torch.randn(2, 1, 6, 6), torch.randn(2, 3)
    torch.manual_seed(0)
    expected = step(*arguments)
    torch.manual_seed(0)
    torch.testing.assert_close(compiled(*arguments), expected)


def test_own_loss():
    class Constant(DenoisingLoss):
        def sigma(self, normal):
            return torch.full_like(normal, 2.0)

        def weight(self, sigma):
            return 3 / sigma**2

    images = torch.randn(2, 1, 4, 4)
    assert Constant()(lambda x, sigma: images + sigma, images) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VPLoss(beta_d=0), "expected beta_d to be above 0, got 0"),
        (lambda: VPLoss(beta_min=-1), "expected beta_min to be above 0, got -1"),
        (lambda: VPLoss(epsilon_t=0), "epsilon_t between 0 and 1, got 0"),
        (lambda: VELoss(2, 1), "got sigma_min=2 and sigma_max=1"),
        (lambda: VELoss(0, 1), "got sigma_min=0 and sigma_max=1"),
        (lambda: EDMLoss(sigma_data=0), "expected sigma_data to be above 0, got 0"),
        (lambda: EDMLoss(P_std=-1), "expected P_std of at least 0, got -1"),
    ],
)
def test_no_loss(make, message):
    with pytest.raises(ValueError, match=message):
        make()


IMAGES = torch.zeros(2, 1, 8, 8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda loss: loss(ideal, IMAGES.long()), TypeError, "got torch.int64; convert them"),
        (lambda loss: loss(ideal, IMAGES[0, 0, 0]), ValueError, r"\(batch, channels, ...\), got"),
        (
            lambda loss: loss(lambda x, image, sigma: x, IMAGES, IMAGES[:1]),
            ValueError,
            r"shape \(2, channels, 8, 8\), .* got \(1, 1, 8, 8\); resize it, or repeat it",
        ),
        (lambda loss: loss(ideal, IMAGES, IMAGES), ValueError, "takes no conditioning image"),
        (
            lambda loss: loss(ideal, IMAGES, class_labels=torch.zeros(2, 1)),
            ValueError,
            "the net takes no class_labels",
        ),
        (
            lambda loss: loss(ideal, IMAGES, class_labels=torch.zeros(3, 1)),
            ValueError,
            r"class_labels for each of 2 images, got \(3, 1\)",
        ),
        (
            lambda loss: loss(ideal, IMAGES, weights=torch.zeros(3)),
            ValueError,
            r"broadcasts to \(2, 1, 8, 8\), .* got \(3,\)",
        ),
        (
            lambda loss: loss(lambda x, sigma: x[:, :, :1], IMAGES),
            ValueError,
            r"return images of shape \(2, 1, 8, 8\), got \(2, 1, 1, 8\)",
        ),
        (
            lambda loss: loss(ideal, IMAGES, patching=GridPatching2D((8, 9), (4, 4))),
            ValueError,
            r"\(8, 9\), got \(8, 8\)",
        ),
    ],
)
def test_what_does_not_fit(call, error, message):
    with pytest.raises(error, match=message):
        call(EDMLoss())
