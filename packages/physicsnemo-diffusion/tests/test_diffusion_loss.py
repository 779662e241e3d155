# SPDX-License-Identifier: Apache-2.0
"""The denoising loss: its value in closed form, seeds, patches, and what is refused."""

import pytest
import torch

from physicsnemo import Module
from physicsnemo.diffusion import EDM, IDDPM, VE, VP, DenoisingLoss, Diffusion, Patches
from physicsnemo.metrics.diffusion import EDMLoss
from physicsnemo.models.diffusion import EDMPrecond, SongUNet
from physicsnemo.utils.diffusion import StackedRandomGenerator
from physicsnemo.utils.patching import GridPatching2D, RandomPatching2D

SMALL = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": []}
IMAGES = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Zero(Module):
    """A network that has learned nothing; it notes what it is shown."""

    def forward(self, x, t, condition=None):
        self.seen = x, t, condition
        return torch.zeros_like(x)


@pytest.mark.parametrize("scaling", ["edm", "vp", "ve"])
@pytest.mark.parametrize(
    "schedule", [EDM(), EDM(nu=8.0), VE(), VP(), IDDPM()], ids=lambda it: type(it).__name__
)
def test_the_error_of_a_scaled_network_without_knowledge(schedule, scaling):
    """For EDM it is the variance of its target, 1; else that of the noise."""
    model = Diffusion(Zero(), schedule, scaling=scaling, sigma_data=0.5).double()
    data = 0.5 * torch.randn(20_000, 4, dtype=torch.float64)
    errors = DenoisingLoss(model, reduction="none")(data)
    of_samples = errors.mean(dim=1)
    assert abs(of_samples.mean() - 1) < 4 * of_samples.std() / 20_000**0.5


def test_it_is_the_loss_of_edm():
    network = SongUNet(8, in_channels=2, out_channels=2, **SMALL)
    preconditioner = EDMPrecond(8, 2, model_type="SongUNet", **SMALL)
    preconditioner.model.load_state_dict(network.state_dict())
    model = Diffusion(network, EDM()).double().eval()
    loss = DenoisingLoss(model)(IMAGES, generator=StackedRandomGenerator("cpu", range(3)))
    noise = StackedRandomGenerator("cpu", range(3))
    reference = EDMLoss()(preconditioner.double().eval(), IMAGES, randn_like=noise.randn_like)
    torch.testing.assert_close(loss, reference)


def test_a_trained_model_knows_its_data():
    """The loss is least at the estimate in closed form, of data of mean 1 and deviation 0.5."""

    class Shift(Module):
        def __init__(self):
            super().__init__()
            self.mean = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, t, condition=None):
            return self.mean + (x - self.mean) * 0.25 / (0.25 + t[:, None] ** 2)

    model = Diffusion(Shift(), EDM(P_mean=0.5, P_std=0.3), scaling=None).double()
    loss = DenoisingLoss(model)
    optimizer = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")
    data = 1 + 0.5 * torch.randn(4000, 1, dtype=torch.float64)

    def closure():
        optimizer.zero_grad()
        value = loss(data, generator=torch.Generator().manual_seed(1))
        value.backward()
        return value

    optimizer.step(closure)
    assert abs(model.network.mean.item() - 1) < 0.05


def shown(images, seeds, condition=None, **options):
    model = Diffusion(Zero(), VP(), scaling=None).double()
    loss = DenoisingLoss(model, reduction="none", dropout=options.pop("dropout", 0.0))
    errors = loss(images, condition, generator=StackedRandomGenerator("cpu", seeds), **options)
    return errors, *model.network.seen


def test_what_a_sample_is_shown_depends_on_its_seed():
    condition = {"vector": torch.ones(3, 1, dtype=torch.float64)}
    together = shown(IMAGES, [4, 5, 6], condition, dropout=0.5)
    alone = shown(IMAGES[1:2], [5], {"vector": condition["vector"][1:2]}, dropout=0.5)
    for whole, part in zip(together[:3], alone[:3], strict=True):
        torch.testing.assert_close(whole[1:2], part)
    torch.testing.assert_close(together[3]["vector"][1:2], alone[3]["vector"])


def test_patches_of_a_sample_depend_on_its_seed():
    patches = RandomPatching2D((8, 8), (4, 4), patch_num=2)
    together = shown(IMAGES, [4, 5, 6], IMAGES, patches=patches)
    alone = shown(IMAGES[1:2], [5], IMAGES[1:2], patches=patches)
    for whole, part in zip(together, alone, strict=True):
        assert len(whole) == 6
        torch.testing.assert_close(whole[1::3], part)
    times = together[2]
    assert len(times.unique()) == 6
    torch.testing.assert_close(together[3], patches.apply(IMAGES))


def test_patches_with_positions_and_given_times():
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    patches = Patches(GridPatching2D((8, 8), (4, 4)), positions=True)
    _, x, times, condition = shown(IMAGES, [4, 5, 6], patches=patches, t=t)
    assert x.shape == (12, 2, 4, 4)
    torch.testing.assert_close(times, t.repeat(4))
    assert condition["image"].shape == (12, 2, 4, 4)


def test_dropout_shows_zeros():
    condition = {"vector": torch.ones(2000, 3, dtype=torch.float64)}
    data = torch.randn(2000, 1, dtype=torch.float64)
    model = Diffusion(Zero(), EDM()).double()
    DenoisingLoss(model, dropout=0.2)(data, condition)
    vector = model.network.seen[2]["vector"]
    assert set(vector.sum(dim=1).unique().tolist()) == {0.0, 3.0}
    assert abs((vector[:, 0] == 0).double().mean() - 0.2) < 4 * 0.4 / 2000**0.5


def test_weights_and_reductions():
    model = Diffusion(Zero(), EDM()).double()
    weights = torch.tensor([0.0, 2.0])[:, None, None]

    def loss(reduction, **options):
        generator = torch.Generator().manual_seed(0)
        return DenoisingLoss(model, reduction=reduction)(IMAGES, generator=generator, **options)

    errors = loss("none", weights=weights)
    torch.testing.assert_close(errors, loss("none") * weights)
    torch.testing.assert_close(loss("mean", weights=weights), errors.mean())
    torch.testing.assert_close(loss("sum", weights=weights), errors.sum())
    with pytest.raises(ValueError, match="weights"):
        loss("mean", weights=torch.ones(3))


def test_what_is_refused():
    model = Diffusion(Zero(), EDM())
    with pytest.raises(ValueError, match="reduction"):
        DenoisingLoss(model, reduction="median")
    with pytest.raises(ValueError, match="dropout"):
        DenoisingLoss(model, dropout=2.0)
    with pytest.raises(TypeError, match="Diffusion"):
        DenoisingLoss(Zero())
    with pytest.raises(ValueError, match="floating-point"):
        DenoisingLoss(model)(torch.ones(2, 1, dtype=torch.int64))
