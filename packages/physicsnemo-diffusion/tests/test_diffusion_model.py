# SPDX-License-Identifier: Apache-2.0
"""The model: its scalings, what it predicts, conditions, and files."""

import pytest
import torch

from physicsnemo import Module
from physicsnemo.diffusion import EDM, IDDPM, VE, VP, Diffusion
from physicsnemo.models.diffusion import (
    EDMPrecond,
    SongUNet,
    VEPrecond,
    VPPrecond,
    iDDPMPrecond,
)

SMALL = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": []}
SCHEDULES = [EDM(), VE(), VP(), IDDPM(M=100)]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda it: type(it).__name__)


class Gaussian(Module):
    """What a network would predict of normal data, of mean 1 and standard deviation 0.5."""

    def __init__(self, schedule, predicts):
        super().__init__()
        self.schedule, self.predicts = EDM.restore(schedule), predicts

    def forward(self, x, t, condition=None):
        alpha, sigma = (it(t)[:, None] for it in (self.schedule.alpha, self.schedule.sigma))
        score = (alpha - x) / (alpha**2 * 0.25 + sigma**2)
        x0 = (x + sigma**2 * score) / alpha
        return {"x0": x0, "score": score, "epsilon": -sigma * score}[self.predicts]


@each_schedule
@pytest.mark.parametrize("predicts", ["x0", "epsilon", "score"])
def test_estimates_agree(schedule, predicts):
    t = torch.tensor(schedule.times(9)[:-1], dtype=torch.float64)
    x = 1 + torch.randn(9, 3, dtype=torch.float64)
    network = Gaussian(schedule.record(), predicts)
    model = Diffusion(network, schedule, predicts=predicts, scaling=None).double()
    alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
    # Each in units of the noise: the score has the size of 1 / sigma.
    x0, epsilon, score = model(x, t), model.epsilon(x, t), sigma * model.score(x, t)
    expected = {kind: Gaussian(schedule.record(), kind)(x, t) for kind in ("x0", "epsilon")}
    for found, exact in [
        (alpha * x0, alpha * expected["x0"]),
        (epsilon, expected["epsilon"]),
        (score, -expected["epsilon"]),
        (alpha * x0 + sigma * epsilon, x),
    ]:
        torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "schedule", "scaling"),
    [
        (EDMPrecond, EDM(), "edm"),
        (VEPrecond, VE(), "ve"),
        (VPPrecond, VP(), "vp"),
        (iDDPMPrecond, IDDPM(), "iddpm"),
    ],
)
def test_scalings_are_those_of_the_preconditioners(make, schedule, scaling):
    preconditioner = make(8, img_channels=2, model_type="SongUNet", **SMALL).double().eval()
    model = Diffusion(preconditioner.model, schedule, scaling=scaling).double()
    t = torch.tensor(schedule.times(4)[:-1], dtype=torch.float64)
    x = torch.randn(4, 2, 8, 8, dtype=torch.float64)
    alpha, level = schedule.alpha(t), schedule.level(t)
    torch.testing.assert_close(
        model(alpha[:, None, None, None] * x, t), preconditioner(x, level), rtol=1e-10, atol=1e-10
    )


def test_sigma_data_of_channels_and_heavy_tails():
    network = SongUNet(8, in_channels=2, out_channels=2, **SMALL).eval()
    x, t = torch.randn(3, 2, 8, 8), torch.tensor([0.1, 1.0, 10.0])
    preconditioner = EDMPrecond(8, 2, sigma_data=[0.5, 2.0], model_type="SongUNet", **SMALL).eval()
    preconditioner.model.load_state_dict(network.state_dict())
    model = Diffusion(network, EDM(), sigma_data=[0.5, 2.0])
    torch.testing.assert_close(model(x, t), preconditioner(x, t))
    spread = EDM(nu=5.0).spread
    heavy = Diffusion(network, EDM(nu=5.0), sigma_data=[0.5, 2.0])
    torch.testing.assert_close(heavy(x, t), preconditioner(x, spread * t))
    with pytest.raises(ValueError, match="sigma_data is for 3 channels"):
        Diffusion(network, EDM(), sigma_data=[1.0, 1.0, 1.0])(x, t)


def test_conditions_of_a_unet():
    network = SongUNet(8, in_channels=2 + 1, out_channels=2, label_dim=3, **SMALL).eval()
    model = Diffusion(network, EDM())
    x, image, vector = torch.randn(4, 2, 8, 8), torch.randn(4, 1, 8, 8), torch.rand(4, 3)
    preconditioner = EDMPrecond(
        8, img_channels=2, img_in_channels=3, label_dim=3, model_type="SongUNet", **SMALL
    ).eval()
    preconditioner.model.load_state_dict(network.state_dict())
    both = model(x, 0.7, {"image": image, "vector": vector})
    torch.testing.assert_close(both, preconditioner(x, 0.7, image, vector))
    once = model(x, torch.tensor(0.7), {"image": image[:1], "vector": vector})
    image_of_all = image[:1].expand(4, -1, -1, -1)
    torch.testing.assert_close(once, preconditioner(x, 0.7, image_of_all, vector))
    for condition, text in [
        ({"image": image, "depth": image}, "takes no depth"),
        ({"image": image[:3]}, "each of 4 samples"),
        ({"image": image[..., :4]}, "resize it"),
    ]:
        with pytest.raises(ValueError, match=text):
            model(x, 0.7, condition)


class Fields(Module):
    """A network of fields alone."""

    def __init__(self, channels):
        super().__init__()
        self.convolution = torch.nn.Conv1d(channels + 1 + 2, channels, 1)

    def forward(self, x):
        return self.convolution(x)


def test_networks_of_fields_alone_see_the_time_as_a_channel():
    network = Fields(3)
    model = Diffusion(network, EDM(), scaling="ve")
    x, image = torch.randn(2, 3, 8), torch.randn(2, 2, 8)
    label = torch.full((2, 1, 8), torch.tensor(4.0).log().item() / 4)
    expected = x + 4 * network(torch.cat((x, label, image), dim=1))
    torch.testing.assert_close(model(x, 4.0, image), expected)
    with pytest.raises(ValueError, match="takes no vector"):
        model(x, 4.0, {"image": image, "vector": torch.rand(2, 1)})


@each_schedule
def test_files_hold_the_network_and_the_schedule(schedule, tmp_path):
    network = SongUNet(8, in_channels=2, out_channels=2, **SMALL).eval()
    model = Diffusion(network, schedule=schedule, scaling="vp", sigma_data=[0.5, 2.0])
    model.save(tmp_path / "model.mdlus")
    same = Module.from_checkpoint(tmp_path / "model.mdlus").eval()
    assert type(same) is Diffusion
    assert same.schedule == schedule
    assert isinstance(same.network, SongUNet)
    x, t = torch.randn(2, 2, 8, 8), torch.tensor([0.1, 0.9])
    torch.testing.assert_close(same(x, t), model(x, t), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"predicts": "velocity"}, "epsilon"),
        ({"scaling": "ddpm"}, "iddpm"),
        ({"predicts": "score"}, "scaling=None"),
        ({"sigma_data": 0.0}, "above 0"),
    ],
)
def test_options_that_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        Diffusion(Fields(1), EDM(), **options)


def test_inputs_that_are_refused():
    model = Diffusion(Fields(1), EDM())
    for x, t, text in [
        (torch.ones(2, 1, 4, dtype=torch.int64), 1.0, "floating-point"),
        (torch.ones(2, 1, 4), torch.ones(3), "each of 2 samples"),
    ]:
        with pytest.raises(ValueError, match=text):
            model(x, t, torch.ones(2, 2, 4))
    flat = Module.from_torch(torch.nn.Flatten)()
    with pytest.raises(ValueError, match="return fields of shape"):
        Diffusion(flat, EDM())(torch.ones(2, 1, 4), 1.0)


def test_flags_are_those_of_the_network():
    network = SongUNet(8, in_channels=2, out_channels=2, **SMALL)
    own = Diffusion(network, EDM()).meta
    plain = Diffusion(Gaussian(EDM().record(), "x0"), EDM()).meta
    assert own.name == "Diffusion"
    assert own.cuda_graphs
    assert own.amp_gpu
    for flag in ("cuda_graphs", "amp_cpu", "amp_gpu"):
        assert getattr(own, flag) == getattr(network.meta, flag)
        assert not getattr(plain, flag)
