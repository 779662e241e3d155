# SPDX-License-Identifier: Apache-2.0
"""Preconditioners and losses of release 2.2: their formulas, by hand, and their files."""

import io
import json
import subprocess
import sys
import zipfile

import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.install.provenance import Origin
from physicsnemo.diffusion import IDDPM, VE, VP, DenoisingLoss, Diffusion
from physicsnemo.diffusion.metrics import MSEDSMLoss, WeightedMSEDSMLoss
from physicsnemo.diffusion.multi_diffusion import MultiDiffusionModel2D
from physicsnemo.diffusion.noise_schedulers import (
    EDMNoiseScheduler,
    VENoiseScheduler,
    VPNoiseScheduler,
)
from physicsnemo.diffusion.preconditioners import (
    BaseAffinePreconditioner,
    EDMPreconditioner,
    IDDPMPreconditioner,
    VEPreconditioner,
    VPPreconditioner,
)
from physicsnemo.diffusion.utils import ConcatConditionWrapper
from physicsnemo.models.diffusion import SongUNet
from physicsnemo.models.meta import ModelMetaData

SMALL = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": []}
T = torch.tensor([0.02, 0.3, 0.9], dtype=torch.float64)
WIDE = T[:, None, None]
X = torch.randn(3, 2, 4, dtype=torch.float64)
EXACT = {"rtol": 1e-10, "atol": 1e-10}


class Told(Module):
    """A network that tells what it is given: fields, labels and a condition."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def forward(self, x, t, condition=None, more=0.0):
        shift = 0.0 if condition is None else condition.flatten(1).sum(dim=1)
        return self.weight * x.sin() + (t + shift + more).reshape(-1, *[1] * (x.ndim - 1)).cos()


def told(x, label, shift=0.0):
    return 0.5 * x.sin() + (label + shift).cos()


def test_edm():
    root = (WIDE**2 + 0.25).sqrt()
    network = told(X / root, WIDE.log() / 4)
    expected = 0.25 / root**2 * X + WIDE * 0.5 / root * network
    torch.testing.assert_close(EDMPreconditioner(Told()).double()(X, T), expected, **EXACT)


def test_edm_of_channels():
    data = torch.tensor([0.5, 2.0], dtype=torch.float64)[:, None]
    root = (WIDE**2 + data**2).sqrt()
    expected = (data / root) ** 2 * X + WIDE * data / root * told(X / root, WIDE.log() / 4)
    for sigma_data in ([0.5, 2.0], torch.tensor([0.5, 2.0])):
        model = EDMPreconditioner(Told(), sigma_data=sigma_data).double()
        torch.testing.assert_close(model(X, T), expected, **EXACT)
    with pytest.raises(ValueError, match="for 2 channels"):
        model(X[:, :1], T)


@pytest.mark.parametrize("numerics", ["paper", "reference-2.2"])
def test_ve(numerics):
    """Time is the variance of the scheduler's noise; the reference takes it for the level."""
    level = WIDE.sqrt() if numerics == "paper" else WIDE
    expected = X + level * told(X, (level / 2).log())
    model = VEPreconditioner(Told(), numerics=numerics).double()
    torch.testing.assert_close(model(X, T), expected, **EXACT)


@pytest.mark.parametrize("numerics", ["paper", "reference-2.2"])
def test_vp(numerics):
    """The scheduler's state is scaled by alpha; the reference takes it to be without a scale."""
    level = (0.5 * 19.9 * WIDE**2 + 0.1 * WIDE).expm1().sqrt()
    alpha = (1 + level**2).rsqrt()
    if numerics == "paper":
        expected = X / alpha - level * told(X, 999 * WIDE)
    else:
        expected = X - level * told(alpha * X, 999 * WIDE)
    model = VPPreconditioner(Told(), numerics=numerics).double()
    torch.testing.assert_close(model(X, T), expected, **EXACT)


def test_iddpm():
    model = IDDPMPreconditioner(Told(), M=100).double()
    levels = torch.tensor([*IDDPM(M=100).times(100)])
    assert model.u.shape == (101,)
    steps = torch.tensor([90, 40, 3])
    t = model.u[99 - steps] * 1.001
    assert levels[0] <= model.u[0]
    wide = t[:, None, None]
    label = steps.double()[:, None, None]
    expected = X - wide * told(X * (wide**2 + 1).rsqrt(), label)
    torch.testing.assert_close(model(X, t), expected, **EXACT)


@pytest.mark.parametrize(
    ("make", "schedule", "scaling"),
    [(VEPreconditioner, VE(), "ve"), (VPPreconditioner, VP(), "vp")],
)
def test_a_diffusion_is_a_preconditioner_with_its_schedule(make, schedule, scaling):
    class Network(Told):
        pass

    network = Network()
    other = Diffusion(network, schedule, scaling=scaling).double()
    torch.testing.assert_close(make(network).double()(X, T), other(X, T), **EXACT)


def test_a_preconditioner_of_ones_own():
    class Half(BaseAffinePreconditioner):
        def __init__(self, model):
            super().__init__(model, meta=ModelMetaData(name="Half"))

        def sigma(self, t):
            return 2 * t

        def compute_coefficients(self, sigma):
            return sigma, 3 * sigma, 0.5 * sigma, 1 - sigma

    level, condition = 2 * WIDE, torch.randn(3, 1, dtype=torch.float64)
    expected = (1 - level) * X
    expected = expected + 0.5 * level * told(level * X, 3 * level, 0.25 + condition[:, :, None])
    torch.testing.assert_close(Half(Told())(X, T, condition, more=0.25), expected, **EXACT)
    for t, given, text in [(T[:1], None, r"shape \(3,\)"), (T, condition[:2], "each of 3 samples")]:
        with pytest.raises(ValueError, match=text):
            Half(Told())(X, t, given)
    with pytest.raises(NotImplementedError, match="compute_coefficients"):
        BaseAffinePreconditioner(Told())(X, T)


def network(channels=3, **options):
    return SongUNet(8, in_channels=channels, out_channels=2, **SMALL, **options).eval()


def test_conditions_of_images_and_vectors():
    unet = network(label_dim=3)
    wrapper = ConcatConditionWrapper(unet)
    x, t, image, vector = (
        torch.randn(3, 2, 8, 8),
        T.float(),
        torch.randn(3, 1, 8, 8),
        torch.rand(3, 3),
    )
    both = torch.cat((x, image), dim=1)
    named = {"cond_concat": image, "cond_vec": vector}
    torch.testing.assert_close(wrapper(x, t, named), unet(both, t, vector))
    plain = network()
    alone = ConcatConditionWrapper(plain)(x, t, image)
    torch.testing.assert_close(alone, plain(both, t, None))
    own = ConcatConditionWrapper(unet, "map", "day")
    torch.testing.assert_close(own(x, t, {"map": image, "day": vector}), unet(both, t, vector))
    with pytest.warns(UserWarning, match="taken for 'map'"):
        ConcatConditionWrapper(plain, "map")(x, t, image)
    other = ConcatConditionWrapper(Told())
    expected = Told()(torch.cat((x, image), dim=1), t, vector)
    torch.testing.assert_close(other(x, t, named), expected)
    for given, error, text in [
        ("image", TypeError, "a tensor or a mapping, got str"),
        ({"depth": image}, ValueError, "got 'depth'"),
        (image[..., :4], ValueError, "resize it"),
    ]:
        with pytest.raises(error, match=text):
            wrapper(x, t, given)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("kind", ["x0", "score", "epsilon"])
@pytest.mark.parametrize(
    "scheduler", [VPNoiseScheduler(), EDMNoiseScheduler(sigma_data=[0.5, 2.0])]
)
def test_losses(scheduler, kind, reduction):
    seen = []

    def model(x, t, condition, more):
        seen.append((x, t))
        return more * x + condition

    condition, weight = torch.randn_like(X), torch.rand_like(X)
    options = {"prediction_type": kind, "reduction": reduction}
    given = {"condition": condition, "more": 0.3}
    loss = MSEDSMLoss(model, scheduler, **options)(X, **given)
    ((x, t),) = seen
    to_x0 = {
        "x0": lambda it, *_: it,
        "score": scheduler.score_to_x0,
        "epsilon": scheduler.epsilon_to_x0,
    }
    error = (to_x0[kind](0.3 * x + condition, x, t) - X).square()
    of_times = scheduler.loss_weight(t)
    error = error * of_times.reshape(3, -1, 1)
    reduce = {"mean": torch.mean, "sum": torch.sum, "none": lambda it: it}[reduction]
    torch.testing.assert_close(loss, reduce(error))
    torch.manual_seed(1)
    weighted = WeightedMSEDSMLoss(model, scheduler, **options)(X, weight, T, **given)
    torch.manual_seed(1)
    plain = MSEDSMLoss(model, scheduler, kind, reduction="none")(X, T, **given)
    torch.testing.assert_close(weighted, reduce(weight * plain))
    with pytest.raises(ValueError, match="shape of the data"):
        WeightedMSEDSMLoss(model, scheduler)(X, weight[:, :1], **given)


def test_losses_are_those_of_a_diffusion():
    unet = network(2).double()
    x0 = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    torch.manual_seed(1)
    loss = MSEDSMLoss(VEPreconditioner(ConcatConditionWrapper(unet)), VENoiseScheduler())(x0, T)
    torch.manual_seed(1)
    other = DenoisingLoss(Diffusion(unet, VE(), scaling="ve"))(x0, t=T)
    torch.testing.assert_close(loss, other)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"prediction_type": "velocity"}, "epsilon"),
        ({"reduction": "median"}, "mean"),
        ({"prediction_type": "score"}, "score_to_x0_fn"),
    ],
)
def test_losses_that_are_refused(options, text):
    class Bare:
        """A scheduler without conversions."""

    with pytest.raises(ValueError, match=text):
        MSEDSMLoss(Told(), Bare(), **options)


UNET_ARGUMENTS = {"img_resolution": 8, "in_channels": 3, "out_channels": 2, **SMALL}
PRECONDITIONERS = "physicsnemo.diffusion.preconditioners.preconditioners"


def record(name, module, **arguments):
    return {"__name__": name, "__module__": module, "__args__": arguments}


def written(path, name, state, module=PRECONDITIONERS, **arguments):
    """Write a file as release 2.2.2 does: a preconditioner, the wrapper and a U-Net in it."""
    inner = "__physicsnemo.Module__.model"
    records = {
        **record(name, module, model=inner, **arguments),
        inner: record(
            "ConcatConditionWrapper",
            "physicsnemo.diffusion.utils.model_wrappers",
            model=f"{inner}.model",
            image_cond_key="cond_concat",
            vector_cond_key="cond_vec",
        ),
        f"{inner}.model": record(
            "SongUNet", "physicsnemo.models.diffusion_unets.song_unet", **UNET_ARGUMENTS
        ),
    }
    metadata = {"physicsnemo_version": "2.2.2", "mdlus_file_version": "0.1.0"}
    metadata |= {f"{key}.mdlus_file_version": "0.1.0" for key in (inner, f"{inner}.model")}
    weights = io.BytesIO()
    torch.save(state, weights)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model.pt", weights.getvalue())
        archive.writestr("args.json", json.dumps(records))
        archive.writestr("metadata.json", json.dumps(metadata))
    return path


def state_of(unet, **more):
    state = {f"model.model.{key}": it for key, it in unet.state_dict().items()}
    state = {key: it for key, it in state.items() if not key.endswith("device_buffer")}
    return state | {"model.model.map_noise.freqs": unet.map_noise.freqs, **more}


FILES = [
    (EDMPreconditioner, {"sigma_data": 0.5}, {"sigma_data": torch.tensor(0.5)}),
    (EDMPreconditioner, {"sigma_data": [0.5, 2.0]}, {"sigma_data": torch.tensor([0.5, 2.0])}),
    (VEPreconditioner, {}, {}),
    (
        VPPreconditioner,
        {"beta_d": 19.9, "beta_min": 0.1, "M": 1000},
        {"beta_d": torch.tensor(19.9), "beta_min": torch.tensor(0.1), "M": torch.tensor(1000)},
    ),
    (
        IDDPMPreconditioner,
        {"C_1": 0.001, "C_2": 0.008, "M": 50},
        {
            "C_1": torch.tensor(0.001),
            "C_2": torch.tensor(0.008),
            "M": torch.tensor(50),
            "u": torch.tensor([*IDDPM(0.0001, 1e9, M=50).times(50)]),
        },
    ),
]


@pytest.mark.parametrize(("make", "arguments", "state"), FILES)
@pytest.mark.parametrize("by", [None, Module])
def test_files_of_the_release(make, arguments, state, by, tmp_path):
    """They compute as the release did, and what is saved here has its keys."""
    unet = network(numerics="reference-2.2")
    path = written(tmp_path / "theirs.mdlus", make.__name__, state_of(unet, **state), **arguments)
    model = (by or make).from_checkpoint(path).eval()
    reference = (
        {} if make not in (VEPreconditioner, VPPreconditioner) else {"numerics": "reference-2.2"}
    )
    expected = make(ConcatConditionWrapper(unet), **arguments, **reference)
    x, t, image = torch.randn(3, 2, 8, 8), T.float(), torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(model(x, t, image), expected(x, t, image), rtol=1e-6, atol=1e-6)
    assert {*state} <= {*model.state_dict()}

    model.save(tmp_path / "ours.mdlus", for_release="2.2")
    with zipfile.ZipFile(tmp_path / "ours.mdlus") as archive:
        ours = json.loads(archive.read("args.json"))
        keys = {*torch.load(io.BytesIO(archive.read("model.pt")), weights_only=True)}
    assert (ours["__module__"], ours["__name__"]) == (PRECONDITIONERS, make.__name__)
    assert ours["__args__"].keys() == {"model", *arguments}
    assert keys == {*state_of(unet, **state)}
    again = Module.from_checkpoint(tmp_path / "ours.mdlus").eval()
    torch.testing.assert_close(again(x, t, image), model(x, t, image), rtol=0, atol=0)


@pytest.mark.parametrize("make", [VEPreconditioner, VPPreconditioner])
def test_files_of_the_mended_numerics(make, tmp_path):
    model = make(ConcatConditionWrapper(network())).eval()
    model.save(tmp_path / "model.mdlus")
    again = Module.from_checkpoint(tmp_path / "model.mdlus").eval()
    x, t, image = torch.randn(3, 2, 8, 8), T.float(), torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(again(x, t, image), model(x, t, image), rtol=0, atol=0)


def test_a_state_that_contradicts_its_arguments(tmp_path):
    state = state_of(network(), sigma_data=torch.tensor(1.0))
    path = written(tmp_path / "model.mdlus", "EDMPreconditioner", state, sigma_data=0.5)
    with pytest.raises(CheckpointError, match="sigma_data"):
        EDMPreconditioner.from_checkpoint(path)


LOAD = """
import sys
from physicsnemo import Module
for path in sys.argv[1:]:
    model = Module.from_checkpoint(path)
    print(*(type(it).__name__ for it in model.modules() if isinstance(it, Module)))
"""


def test_files_load_where_nothing_was_imported(tmp_path):
    paths = [tmp_path / "diffusion.mdlus", tmp_path / "nested.mdlus", tmp_path / "released.mdlus"]
    Diffusion(network(), VE()).save(paths[0])
    model = VPPreconditioner(ConcatConditionWrapper(network()))
    MultiDiffusionModel2D(model, global_spatial_shape=[8, 12]).save(paths[1])
    written(paths[2], "EDMPreconditioner", state_of(network()))
    run = [sys.executable, "-c", LOAD, *paths]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "Diffusion SongUNet",
        "MultiDiffusionModel2D VPPreconditioner ConcatConditionWrapper SongUNet",
        "EDMPreconditioner ConcatConditionWrapper SongUNet",
    ]


def subclasses(kind):
    for it in kind.__subclasses__():
        yield it
        yield from subclasses(it)


def test_every_class_that_files_may_hold_is_one_of_the_package():
    kinds = {
        it
        for it in subclasses(Module)
        if it.__module__.startswith(("physicsnemo.diffusion.", "physicsnemo.models.diffusion."))
        and it.__name__
        not in ("BaseAffinePreconditioner", "Preconditioner")  # but a class of these
    }
    assert {EDMPreconditioner, ConcatConditionWrapper, Diffusion, MultiDiffusionModel2D} < kinds
    assert not {it for it in kinds if Origin.of(it).distribution != "physicsnemo-diffusion"}
