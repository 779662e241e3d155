# SPDX-License-Identifier: Apache-2.0
"""Preconditioners around a network: what it sees, what comes of its output, what is refused."""

import math
import runpy
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from physicsnemo.models.diffusion import (
    EDMPrecond,
    EDMPrecondSR,
    EDMPrecondSuperResolution,
    SongUNetPosEmbd,
    VEPrecond,
    VEPrecond_dfsr,
    VEPrecond_dfsr_cond,
    VPPrecond,
    iDDPMPrecond,
    tEDMPrecondSuperRes,
)
from physicsnemo.models.diffusion._network import network_type
from physicsnemo.models.diffusion.preconditioning import Preconditioner, Scalings
from physicsnemo.models.diffusion.preconditioning._edm import edm_scalings

SMALL = {"model_channels": 8, "channel_mult": [1, 1], "num_blocks": 1, "attn_resolutions": []}
SONG = {"model_type": "SongUNet", **SMALL}
SIGMA = torch.tensor([0.03, 2.0, 60.0], dtype=torch.float64)
SR = {"img_in_channels": 3, "img_out_channels": 2}
CASES = runpy.run_path(str(Path(__file__).with_name("cases_preconditioning.py")))["CASES"]
LEGACY = pytest.mark.filterwarnings("ignore:EDMPrecondSR:DeprecationWarning")


class Recorder(nn.Module):
    """In place of a network: keeps what it is given and returns a fixed function of it."""

    def __init__(self, out_channels):
        super().__init__()
        self.out_channels = out_channels

    def forward(self, x, noise_labels, class_labels=None, **kwargs):
        self.given = {"x": x, "noise": noise_labels, "labels": class_labels, **kwargs}
        return self.output(x)

    def output(self, x):
        return x.mean(dim=1, keepdim=True).tanh() + torch.arange(self.out_channels).view(-1, 1, 1)


def draw(*channels, batch=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(batch, n, 8, 12, dtype=dtype, generator=generator) for n in channels]
    return drawn if len(drawn) > 1 else drawn[0]


def recorded(model_class, outputs=2, **kwargs):
    net = model_class(img_resolution=8, **kwargs).double()
    net.model = Recorder(outputs)
    return net


NETS = {
    "vp": VPPrecond,
    "ve": VEPrecond,
    "iddpm": iDDPMPrecond,
    "edm": EDMPrecond,
    "dfsr": VEPrecond_dfsr,
}


@pytest.mark.parametrize("name", NETS)
def test_scalings_go_where_they_belong(name):
    net = recorded(NETS[name], outputs=4 if name == "iddpm" else 2, img_channels=2, **SONG)
    x = draw(2)
    denoised = net(x, SIGMA)
    c = Scalings(*(part.double().view(-1, 1, 1, 1) for part in net.scalings(SIGMA)))
    seen = net.model.given
    torch.testing.assert_close(seen["x"], c.c_in * x)
    torch.testing.assert_close(seen["noise"], c.c_noise.flatten())
    assert seen["labels"] is None
    torch.testing.assert_close(
        denoised, c.c_skip * x + c.c_out * net.model.output(c.c_in * x)[:, :2]
    )


@pytest.mark.parametrize(
    ("model_class", "extra", "factor"),
    [
        (EDMPrecondSuperResolution, {}, 1),
        (tEDMPrecondSuperRes, {"nu": 6}, math.sqrt(6 / 4)),
        pytest.param(EDMPrecondSR, {"img_channels": 2}, 1, marks=LEGACY),
        pytest.param(EDMPrecondSR, {"img_channels": 2, "scale_cond_input": False}, 1, marks=LEGACY),
    ],
)
def test_conditioning_fields(model_class, extra, factor):
    net = recorded(model_class, **SR, **extra, sigma_data=0.7, **SONG)
    x, img_lr = draw(2, 3)
    denoised = net(x, img_lr, SIGMA)
    c = edm_scalings(factor * SIGMA.view(-1, 1, 1, 1), 0.7)
    scaled_too = model_class is EDMPrecondSR and extra.get("scale_cond_input", True)
    condition = c.c_in * img_lr if scaled_too else img_lr
    seen = torch.cat((c.c_in * x, condition), dim=1)
    torch.testing.assert_close(net.model.given["x"], seen)
    torch.testing.assert_close(net.model.given["noise"], c.c_noise.flatten())
    torch.testing.assert_close(denoised, c.c_skip * x + c.c_out * net.model.output(seen))


def test_condition_of_edm_is_not_scaled():
    net = recorded(EDMPrecond, img_channels=2, img_in_channels=5, **SONG)
    x, condition = draw(2, 3)
    net(x, SIGMA, condition)
    torch.testing.assert_close(net.model.given["x"][:, 2:], condition)


def test_conditioning_fields_may_be_absent():
    net = EDMPrecondSuperResolution(8, img_in_channels=0, img_out_channels=2, **SONG)
    assert net(draw(2), None, SIGMA).shape == (3, 2, 8, 12)


def test_scaling_fn_may_be_replaced():
    net = recorded(EDMPrecondSuperResolution, **SR, **SONG)
    net.scaling_fn = lambda x, img_lr, c_in: torch.cat((x, 2 * img_lr), dim=1)
    x, img_lr = draw(2, 3)
    net(x, img_lr, SIGMA)
    torch.testing.assert_close(net.model.given["x"], torch.cat((x, 2 * img_lr), dim=1))


def test_heavy_tails_leave_sigma_alone():
    net = recorded(tEDMPrecondSuperRes, **SR, **SONG)
    sigma = SIGMA.clone()
    net(*draw(2, 3), sigma)
    torch.testing.assert_close(sigma, SIGMA, rtol=0, atol=0)


def test_target_has_unit_variance_for_noise_of_heavy_tails():
    """A Monte-Carlo check, since the noise level of the formulas is not that of the noise."""
    net, size = recorded(tEDMPrecondSuperRes, **SR, nu=9, **SONG), 400_000
    torch.manual_seed(0)
    clean = 0.5 * torch.randn(size, dtype=torch.float64)
    for sigma in (0.1, 1.0, 20.0):
        noise = sigma * torch.distributions.StudentT(torch.tensor(9.0).double()).sample((size,))
        c = net.scalings(torch.tensor(sigma, dtype=torch.float64))
        targets = (clean - c.c_skip * (clean + noise)) / c.c_out
        squares = targets.square()
        assert abs(squares.mean() - 1) < 4 * squares.std() / math.sqrt(size)


@pytest.mark.parametrize("nu", [2, 1.5])
def test_tails_too_heavy(nu):
    with pytest.raises(ValueError, match=f"expected nu above 2, .* got {nu}"):
        tEDMPrecondSuperRes(8, **SR, nu=nu, **SONG)


FORMS = {
    "float": 2.0,
    "integer": 2,
    "scalar": torch.tensor(2.0),
    "one": torch.tensor([2.0]),
    "each": torch.full((3,), 2.0),
    "column": torch.full((3, 1, 1, 1), 2.0),
    "one_integer": torch.tensor([2]),
    "half": torch.full((1, 1), 2.0).half(),
}


@pytest.mark.parametrize("sigma", FORMS.values(), ids=FORMS)
def test_forms_of_sigma(sigma):
    net = recorded(EDMPrecond, img_channels=2, **SONG)
    expected = net(draw(2), torch.full((3,), 2.0, dtype=torch.float64))
    torch.testing.assert_close(net(draw(2), sigma), expected)


def test_levels_for_another_number_of_samples():
    net = recorded(EDMPrecond, img_channels=2, **SONG)
    with pytest.raises(ValueError, match=r"one for each of 3 samples, got shape \(2,\)"):
        net(draw(2), SIGMA[:2])


@pytest.mark.parametrize("name", ["vp", "ve", "iddpm", "edm"])
def test_labels(name):
    outputs = 4 if name == "iddpm" else 2
    net = recorded(NETS[name], outputs, img_channels=2, label_dim=5, **SONG)
    for labels, expected in [
        (None, torch.zeros(3, 5)),
        (torch.arange(5), torch.arange(5).expand(3, 5)),
        (torch.ones(1, 5), torch.ones(3, 5)),
        (torch.arange(15).view(3, 5), torch.arange(15).view(3, 5)),
    ]:
        net(draw(2), SIGMA, class_labels=labels)
        torch.testing.assert_close(net.model.given["labels"], expected.double())


@pytest.mark.parametrize("shape", [(3,), (2, 5), (3, 4), (3, 5, 2)])
def test_labels_of_another_size(shape):
    net = recorded(VEPrecond, img_channels=2, label_dim=5, **SONG)
    with pytest.raises(ValueError, match=r"\(batch=3, label_dim=5\) or \(5,\), got \("):
        net(draw(2), SIGMA, class_labels=torch.zeros(shape))


def test_labels_without_label_dim_are_left_out():
    net = recorded(VEPrecond, img_channels=2, **SONG)
    net(draw(2), SIGMA, class_labels=torch.zeros(3, 5))
    assert net.model.given["labels"] is None


def test_labels_reach_the_network_of_super_resolution():
    net = recorded(EDMPrecondSuperResolution, **SR, label_dim=4, **SONG)
    for labels, expected in [({}, torch.zeros(3, 4)), ({"class_labels": torch.ones(4)}, 1)]:
        net(*draw(2, 3), SIGMA, **labels)
        assert (net.model.given["labels"] == expected).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_fields_of_other_channels(channels):
    net = recorded(VPPrecond, img_channels=2, **SONG)
    with pytest.raises(ValueError, match=f"channels=2, .* where channels is {channels}"):
        net(draw(channels), SIGMA)


def test_fields_of_integers():
    net, whole = recorded(VPPrecond, img_channels=2, **SONG), (9 * draw(2)).long()
    torch.testing.assert_close(net(whole, SIGMA), net(whole.double(), SIGMA))


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
def test_fields_of_no_real_numbers(dtype):
    with pytest.raises(TypeError, match=f"expected x of real numbers, got {dtype}"):
        recorded(VPPrecond, img_channels=2, **SONG)(torch.ones(3, 2, 8, 12, dtype=dtype), SIGMA)


@pytest.mark.parametrize("shape", [(2, 3, 8, 12), (3, 3, 4, 6), (3, 3, 8)])
def test_conditions_of_another_shape(shape):
    net = recorded(EDMPrecond, img_channels=2, img_in_channels=5, **SONG)
    with pytest.raises(ValueError, match=r"shape \(batch=3, channels, height=8, width=12\)"):
        net(draw(2), SIGMA, torch.zeros(shape))


def test_unknown_network():
    with pytest.raises(ValueError, match="SongUNetPosEmbd, .*, got 'ResNet'"):
        VEPrecond(8, 2, model_type="ResNet")


def test_further_arguments_reach_the_network():
    net = recorded(EDMPrecond, img_channels=2, **SONG)
    net(draw(2), SIGMA, augment_labels=torch.ones(3, 1))
    assert net.model.given["augment_labels"].shape == (3, 1)


@LEGACY
@pytest.mark.parametrize("numerics", ["paper", "reference-1.2", "reference-2.1"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_numerics_reach_the_network(case, numerics):
    net = case.model_class(**case.arguments, numerics=numerics)
    assert net.model._args["__args__"]["numerics"] == numerics


@LEGACY
@pytest.mark.parametrize("case", CASES, ids=str)
def test_files_tell_the_public_module(case):
    home = "unet" if "UNet" in case.model else "preconditioning"
    module = case.model_class(**case.arguments)._args["__module__"]
    assert module == f"physicsnemo.models.diffusion.{home}"
    assert getattr(import_module(module), case.model) is case.model_class


@LEGACY
@pytest.mark.parametrize("case", CASES, ids=str)
def test_metadata_bear_the_name_of_the_class(case):
    assert case.model_class(**case.arguments).meta.name == case.model


class Own(Preconditioner):
    """A preconditioner as an author writes one: of the noise level only, by four functions."""

    def __init__(self, img_resolution, img_channels, **model_kwargs):
        super().__init__(
            img_resolution=img_resolution,
            channels=img_channels,
            in_channels=img_channels,
            out_channels=img_channels,
            sigma_min=0.1,
            sigma_max=9.0,
            use_fp16=False,
            model_type="SongUNet",
            numerics="paper",
            **model_kwargs,
        )

    def scalings(self, sigma):
        return Scalings(c_skip=1 / sigma, c_out=2 * sigma, c_in=3 * sigma, c_noise=sigma + 1)


def test_a_preconditioner_of_an_author():
    net, x = recorded(Own, img_channels=2, **SMALL), draw(2)
    sigma = SIGMA.view(-1, 1, 1, 1)
    expected = x / sigma + 2 * sigma * net.model.output(3 * sigma * x)
    torch.testing.assert_close(net(x, SIGMA), expected)
    torch.testing.assert_close(net.model.given["noise"], SIGMA + 1)
    assert net.round_sigma(SIGMA) is SIGMA


def test_a_preconditioner_without_scalings():
    class Without(Own):
        scalings = Preconditioner.scalings

    with pytest.raises(NotImplementedError, match="Without gives no scalings"):
        recorded(Without, img_channels=2, **SMALL)(draw(2), SIGMA)


def test_default_network_of_super_resolution():
    net = EDMPrecondSuperResolution(8, img_in_channels=7, img_out_channels=2, **SMALL)
    assert isinstance(net.model, SongUNetPosEmbd)


def test_limits_of_the_noise():
    assert VPPrecond(8, 2, **SONG).sigma_min == pytest.approx(0.00100050, rel=1e-5)
    assert VPPrecond(8, 2, **SONG).sigma_max == pytest.approx(152.167, rel=1e-5)
    assert (VEPrecond(8, 2, **SONG).sigma_min, VEPrecond(8, 2, **SONG).sigma_max) == (0.02, 100)
    net = iDDPMPrecond(8, 2, **SONG)
    assert net.sigma_min == pytest.approx(net.u[-2].item())
    assert net.sigma_max == pytest.approx(net.u[0].item())


def test_time_of_vp():
    net, time = VPPrecond(8, 2, **SONG), torch.linspace(1e-5, 1, 7, dtype=torch.float64)
    torch.testing.assert_close(net.sigma_inv(net.sigma(time)), time)
    assert net.sigma(1.0).item() == pytest.approx(net.sigma_max)


@pytest.mark.parametrize("sigma", [0.3, [0.1, 0.3], torch.rand(2, 3, dtype=torch.float64)])
def test_most_take_any_noise_level(sigma):
    rounded = EDMPrecond(8, 2, **SONG).round_sigma(sigma)
    torch.testing.assert_close(rounded, torch.as_tensor(sigma), rtol=0, atol=0)


def test_iddpm_rounds_to_the_nearest_level():
    net = iDDPMPrecond(8, 2, M=20, **SONG)
    exact = net.u.double()
    between = 0.4 * exact[:-1] + 0.6 * exact[1:]
    index = net.round_sigma(between.view(4, 5), return_index=True)
    assert index.tolist() == torch.arange(1, 21).view(4, 5).tolist()
    rounded = net.round_sigma(between)
    assert rounded.dtype == torch.float64
    torch.testing.assert_close(rounded, exact[1:], rtol=0, atol=0)
    assert net.round_sigma(10**9).item() == net.u[0].item()
    assert net.round_sigma(0.0).item() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_results_are_wide_whatever_the_input(dtype):
    """The weights are in float32, and so is the sum of scaled fields and output."""
    net = EDMPrecond(8, 2, **SONG).eval()
    x = draw(2).to(dtype)
    torch.testing.assert_close(net(x, SIGMA), net(x.float(), SIGMA.float()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights(dtype):
    net, x = EDMPrecond(8, 2, **SONG).eval(), draw(2, dtype=torch.float32)
    exact = net(x, SIGMA)
    half = net.to(dtype)(x.to(dtype), SIGMA.to(dtype))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=0.05, atol=0.05)


def test_autocast():
    net, x = EDMPrecond(8, 2, **SONG).eval(), draw(2, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = net(x, SIGMA)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, net(x, SIGMA), rtol=0.05, atol=0.05)
    assert not torch.equal(rounded, net(x, SIGMA))


PRECISIONS = [
    # device, weights, use_fp16, force_fp32, type of the network's input
    ("cpu", torch.float32, False, False, torch.float32),
    ("cpu", torch.float32, True, False, torch.float32),
    ("cpu", torch.float16, True, False, torch.float32),
    ("cpu", torch.float16, False, False, torch.float32),
    ("cpu", torch.bfloat16, False, False, torch.bfloat16),
    ("cpu", torch.bfloat16, False, True, torch.float32),
    ("cuda", torch.float32, False, False, torch.float32),
    ("cuda", torch.float32, True, False, torch.float16),
    ("cuda", torch.float16, True, False, torch.float16),
    ("cuda", torch.float16, True, True, torch.float32),
    ("cuda", torch.float16, False, False, torch.float16),
    ("cuda", torch.float64, False, True, torch.float64),
    ("cuda", torch.float64, True, False, torch.float16),
]


@pytest.mark.parametrize(("device", "weights", "use_fp16", "force_fp32", "expected"), PRECISIONS)
def test_precision_of_the_network(device, weights, use_fp16, force_fp32, expected):
    buffer = SimpleNamespace(dtype=weights)
    wrapper = SimpleNamespace(device=torch.device(device), device_buffer=buffer)
    assert network_type(wrapper, use_fp16, force_fp32) is expected


def test_use_fp16_converts_the_weights_of_super_resolution():
    net = EDMPrecondSuperResolution(8, **SR, use_fp16=True, **SONG).eval()
    assert net.use_fp16 is True
    assert {p.dtype for p in net.parameters()} == {torch.float16}
    x, img_lr = draw(2, 3, dtype=torch.float32)
    on_cpu = net(x, img_lr, SIGMA)  # where it is computed in float32 all the same
    net.use_fp16 = 0
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    torch.testing.assert_close(on_cpu, net(x, img_lr, SIGMA))
    with pytest.raises(ValueError, match="expected use_fp16 to be True or False, got 'yes'"):
        net.use_fp16 = "yes"


def test_flags_of_the_network():
    net = EDMPrecondSuperResolution(8, **SR, **SONG)
    net.amp_mode = net.profile_mode = True
    assert net.model.amp_mode is net.model.profile_mode is True
    assert net.amp_mode is net.profile_mode is True
    net.model = nn.Identity()
    for name in ("amp_mode", "profile_mode"):
        with pytest.raises(AttributeError, match=name):
            setattr(net, name, False)


@pytest.mark.parametrize(("scaled", "count"), [(True, 2), (False, 1)])
def test_deprecation(scaled, count):
    with pytest.warns(DeprecationWarning, match="EDMPrecondSR") as caught:
        EDMPrecondSR(8, 2, **SR, scale_cond_input=scaled, **SONG)
    assert len(caught) == count


def test_override_args(tmp_path):
    EDMPrecondSuperResolution(8, **SR, **SONG).save(tmp_path / "net.mdlus")
    with pytest.warns(UserWarning, match="New argument 'act'"):
        net = EDMPrecondSuperResolution.from_checkpoint(tmp_path / "net.mdlus", {"act": "relu"})
    assert net.model._args["__args__"]["act"] == "relu"


def test_cond_sees_the_residual_without_autograd():
    net = VEPrecond_dfsr_cond(8, 3, **SMALL).eval()
    x = draw(3, dtype=torch.float32)
    with torch.no_grad():
        expected = net(x, SIGMA)
    torch.testing.assert_close(net(x, SIGMA), expected)
    net.dataset_scale *= 2
    assert not torch.allclose(net(x, SIGMA), expected)


def test_cond_sees_each_sample_alone():
    x = draw(3)
    for numerics, alone in (("paper", True), ("reference-1.2", False)):
        net = VEPrecond_dfsr_cond(8, 3, numerics=numerics, **SMALL)
        together = net.voriticity_residual(x)
        single = torch.cat([net.voriticity_residual(sample[None]) for sample in x])
        torch.testing.assert_close(together, single if alone else single / 3)


def test_cond_needs_model_channels():
    with pytest.raises(KeyError, match="model_channels"):
        VEPrecond_dfsr_cond(8, 3)


def test_cond_needs_three_times():
    with pytest.raises(ValueError, match="at least 3 successive times, got 2"):
        VEPrecond_dfsr_cond(8, 2, **SMALL)
