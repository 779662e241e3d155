# SPDX-License-Identifier: Apache-2.0
"""Multi-diffusion of release 2.2: patches of a pointwise model are the whole, and files."""

import io
import json
import math
import zipfile

import pytest
import torch

from physicsnemo import Module
from physicsnemo.diffusion.guidance import (
    DataConsistencyDPSGuidance,
    DPSScorePredictor,
    ModelConsistencyDPSGuidance,
)
from physicsnemo.diffusion.multi_diffusion import (
    GridPatching2D,
    MultiDiffusionDataConsistencyDPSGuidance,
    MultiDiffusionDPSScorePredictor,
    MultiDiffusionModel2D,
    MultiDiffusionModelConsistencyDPSGuidance,
    MultiDiffusionMSEDSMLoss,
    MultiDiffusionPredictor,
    MultiDiffusionWeightedMSEDSMLoss,
)
from physicsnemo.diffusion.noise_schedulers import EDMNoiseScheduler
from physicsnemo.diffusion.preconditioners import EDMPreconditioner
from physicsnemo.diffusion.samplers import sample
from physicsnemo.diffusion.utils import ConcatConditionWrapper
from physicsnemo.models.diffusion import SongUNet

SCHEDULER = EDMNoiseScheduler()
IMAGE = torch.randn(3, 1, 8, 12, dtype=torch.float64)
NOISE = torch.randn(3, 1, 8, 12, dtype=torch.float64)
T = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64)
SMALL = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": []}


class Pointwise(Module):
    """Estimate of normal data, of the mean that a condition tells, and remembers what it saw."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, t, condition=None, shift=0.0):
        self.seen.append((x, t, condition))
        named = {"condition": condition} if isinstance(condition, torch.Tensor) else condition
        mean = shift + sum(it.sum(dim=1, keepdim=True) for it in (named or {}).values())
        t = t[:, None, None, None]
        return mean + (x - mean) * 0.25 / (0.25 + t**2)


def model_of(**options):
    return MultiDiffusionModel2D(Pointwise(), (8, 12), **options)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("embedding", [None, "learnable", "sinusoidal"])
def test_patches_are_the_whole(embedding):
    model = model_of(positional_embedding=embedding, condition_patch=True).double()
    whole = model(NOISE, T, IMAGE, shift=0.5)
    model.set_grid_patching((4, 6), overlap_pix=1, boundary_pix=1)
    close(model(NOISE, T, IMAGE, shift=0.5), whole)
    model.set_grid_patching((4, 6), fuse=False)
    patches = model(NOISE, T, IMAGE, shift=0.5)
    assert patches.shape == (12, 1, 4, 6)
    close(model.fuse(patches, batch_size=3), whole)
    given = model.patch_x(NOISE), model.patch_t(T), IMAGE
    close(model(*given, x_is_patched=True, t_is_patched=True, shift=0.5), patches)


def test_embeddings():
    octaves = model_of(positional_embedding="sinusoidal", channels_positional_embedding=8).pos_embd
    y, x = 2 * math.pi * 3 / 7, 2 * math.pi * 5 / 11
    expected = [
        wave(frequency * it)
        for frequency in (1, 2)
        for wave in (math.sin, math.cos)
        for it in (x, y)
    ]
    assert octaves[:, 3, 5].tolist() == pytest.approx(expected, abs=1e-6)
    model = model_of(positional_embedding="linear", channels_positional_embedding=2)
    assert model.pos_embd[:, 3, 5].tolist() == pytest.approx([-1 + 6 / 7, -1 + 10 / 11], abs=1e-6)
    assert model_of(positional_embedding="learnable").pos_embd.requires_grad
    keys = [{*model_of(positional_embedding=it).state_dict()} for it in ("learnable", "sinusoidal")]
    assert keys[0] - keys[1] == {"pos_embd"}
    model.set_grid_patching((4, 6))
    model(NOISE, T, IMAGE[:, :, :4, :6])
    (_, _, condition) = model.model.seen[-1]
    assert condition.keys() == {"condition", "positional_embedding"}
    index = GridPatching2D((8, 12), (4, 6)).global_index().repeat_interleave(3, dim=0)
    lengths = torch.tensor([7, 11])[:, None, None]
    torch.testing.assert_close(condition["positional_embedding"], 2 * index / lengths - 1)


def test_what_becomes_of_conditions():
    flags = {"condition_patch": {"cut": True}, "condition_interp": {"map": True}}
    model = model_of(**flags)
    model.set_grid_patching((4, 6))
    patching = GridPatching2D((8, 12), (4, 6))
    condition = {
        "cut": IMAGE,
        "map": torch.randn(3, 2, 9, 9),
        "all": IMAGE,
        "vector": IMAGE[:, 0, 0],
    }
    for _ in range(2):  # as nothing is remembered of other names
        found = model.patch_condition(condition)
        torch.testing.assert_close(found["cut"], patching.apply(IMAGE))
        torch.testing.assert_close(
            found["map"], patching.resized(condition["map"]).repeat(4, 1, 1, 1)
        )
        torch.testing.assert_close(found["all"], IMAGE.repeat(4, 1, 1, 1))
        torch.testing.assert_close(found["vector"], condition["vector"].repeat(4, 1))
        model.patch_condition({**condition, "more": IMAGE})
    with pytest.raises(ValueError, match="a mapping with cut"):
        model.patch_condition(IMAGE)
    with pytest.raises(TypeError, match="a mapping, got list"):
        model.patch_condition([IMAGE])
    wrong = model_of(condition_patch=True)
    wrong.set_grid_patching((4, 6))
    with pytest.raises(ValueError, match="height and width"):
        wrong.patch_condition(IMAGE[..., :6])


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"condition_patch": True, "condition_interp": True}, ValueError, "not both"),
        ({"condition_patch": {"a": True}, "condition_interp": True}, ValueError, "'a'"),
        ({"condition_patch": "a"}, TypeError, "a bool"),
        ({"positional_embedding": "hashed"}, ValueError, "sinusoidal"),
        ({"positional_embedding": "linear"}, ValueError, "N_grid_channels=2"),
    ],
)
def test_options_that_are_refused(options, error, text):
    with pytest.raises(error, match=text):
        model_of(**options)


def test_what_needs_patches_first():
    model = model_of()
    assert model.patch_shape is None
    for call in (lambda: model.patch_x(NOISE), lambda: model.fuse(NOISE, 1)):
        with pytest.raises(RuntimeError, match="call set_"):
            call()
    model.set_grid_patching((4, 6))
    with pytest.raises(RuntimeError, match="set_random_patching"):
        model.reset_patch_indices()
    assert model.patch_shape == (4, 6)
    with pytest.raises(RuntimeError, match="not configured"):
        MultiDiffusionPredictor(model)(NOISE, T)
    with pytest.raises(RuntimeError, match="give patch_shape"):
        MultiDiffusionPredictor(model_of()).set_patching(0, 0)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_losses(reduction):
    model = model_of(condition_patch=True)
    model.set_random_patching((4, 6), patch_num=5)
    options = {"reduction": reduction}
    torch.manual_seed(1)
    loss = MultiDiffusionMSEDSMLoss(model, SCHEDULER, **options)(NOISE, IMAGE)
    x, t, condition = model.model.seen[-1]
    assert (x.shape, len({*t.tolist()})) == ((15, 1, 4, 6), 15)
    x0 = model.patch_x(NOISE)
    torch.testing.assert_close(condition, model.patch_condition(IMAGE))
    error = SCHEDULER.loss_weight(t)[:, None, None, None]
    error = error * (model.model(x, t, condition) - x0).square()
    torch.testing.assert_close(loss, error if reduction == "none" else error.mean())
    weight = torch.rand_like(NOISE)
    torch.manual_seed(1)
    weighted = MultiDiffusionWeightedMSEDSMLoss(model, SCHEDULER, reduction="none")
    found = weighted(NOISE, weight, IMAGE)
    x, t, condition = model.model.seen[-1]
    error = SCHEDULER.loss_weight(t)[:, None, None, None]
    error = error * (model.model(x, t, condition) - model.patch_x(NOISE)).square()
    torch.testing.assert_close(found, model.patch_x(weight) * error)


def test_places_are_kept_or_drawn_by_the_seed():
    model = model_of()
    model.set_random_patching((4, 6), patch_num=5)
    loss = MultiDiffusionMSEDSMLoss(model, SCHEDULER)
    before = model.patch_x(NOISE)
    loss(NOISE, reset_patch_indices=False)
    assert torch.equal(model.patch_x(NOISE), before)
    drawn = []
    for _ in range(2):
        torch.manual_seed(4)
        loss(NOISE)
        drawn.append(model.patch_x(NOISE))
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], before)
    with pytest.raises(TypeError, match="MultiDiffusionModel2D"):
        MultiDiffusionMSEDSMLoss(Pointwise(), SCHEDULER)


def predictor_of(chunk_size=None, **options):
    model = model_of(positional_embedding="sinusoidal", condition_patch=True).double()
    predictor = MultiDiffusionPredictor(model, IMAGE, chunk_size=chunk_size, **options)
    predictor.set_patching(1, 1, patch_shape=(4, 6))
    return predictor


@pytest.mark.parametrize("checkpoints", [False, True])
@pytest.mark.parametrize("chunk_size", [None, 4, 1000])
def test_predictions_of_chunks_are_the_whole(chunk_size, checkpoints):
    predictor = predictor_of(chunk_size, use_checkpointing=checkpoints, shift=0.5)
    x = NOISE.clone().requires_grad_()
    whole = predictor.model(x, T, IMAGE, shift=0.5)
    close(predictor(x, T), whole)
    gradients = [torch.autograd.grad(it.sum(), x)[0] for it in (predictor(x, T), whole)]
    close(*gradients)
    predictor.fuse = False
    close(predictor.fuse_fn(predictor(NOISE, T)), whole)
    assert predictor.model.patch_shape is None  # as the predictor leaves the model alone


def test_samples_of_patches_are_those_of_the_whole():
    predictor = predictor_of(5)
    samples = []
    for x0_predictor in (predictor, lambda x, t: predictor.model(x, t, IMAGE)):
        denoiser = SCHEDULER.get_denoiser(x0_predictor=x0_predictor)
        with torch.no_grad():
            samples.append(sample(denoiser, 80 * NOISE, SCHEDULER, 4))
    close(*samples)


def test_predictions_of_other_kinds():
    predictor = predictor_of(prediction_type="epsilon", epsilon_to_x0_fn=SCHEDULER.epsilon_to_x0)
    expected = SCHEDULER.epsilon_to_x0(predictor.model(NOISE, T, IMAGE), NOISE, T)
    close(predictor(NOISE, T), expected)


OPTIONS = {"gamma": 0.3, "sigma_fn": SCHEDULER.sigma, "alpha_fn": SCHEDULER.alpha}
MASK = torch.rand(3, 1, 8, 12, generator=torch.Generator().manual_seed(1)) < 0.3
SEEN = torch.where(MASK, IMAGE, math.nan)
STD = torch.full((1, 1, 8, 12), 0.5, dtype=torch.float64)


def doubled(x0):
    return 2 * x0


@pytest.mark.parametrize("chunk_size", [4, 1000])
def test_guidance_of_patches_is_that_of_the_whole(chunk_size):
    """Of a pointwise model, whose gradients are pointwise too."""
    predictor = predictor_of(chunk_size)
    of_patches = [
        MultiDiffusionDataConsistencyDPSGuidance(predictor, MASK, SEEN, STD, **OPTIONS),
        MultiDiffusionModelConsistencyDPSGuidance(predictor, doubled, IMAGE, 0.7, norm=1),
    ]
    whole = [
        DataConsistencyDPSGuidance(MASK, SEEN, STD, **OPTIONS),
        ModelConsistencyDPSGuidance(doubled, IMAGE, 0.7, norm=1),
    ]

    def one(x, t):
        return predictor.model(x, t, IMAGE)

    expected = DPSScorePredictor(one, SCHEDULER.x0_to_score, whole)(NOISE, T)
    found = MultiDiffusionDPSScorePredictor(predictor, SCHEDULER.x0_to_score, of_patches)(NOISE, T)
    close(found, expected)


def test_a_term_of_all_patches():
    predictor = predictor_of(4, fuse=False)
    guidance = MultiDiffusionDataConsistencyDPSGuidance(predictor, MASK, SEEN, 0.5, fuse=True)
    x, t = predictor.patch_fn(NOISE).requires_grad_(), T.repeat(predictor.patching.patch_num)
    x0 = predictor.model.model(x, t, predictor.patch_fn(IMAGE))
    found = guidance(x, t, x0)
    images = NOISE.clone().requires_grad_()
    whole = DataConsistencyDPSGuidance(MASK, SEEN, 0.5)
    close(found, whole(images, T, predictor.model.model(images, T, IMAGE)))


def test_predictors_that_are_refused():
    predictor = predictor_of()
    with pytest.raises(TypeError, match="got a function"):
        MultiDiffusionDPSScorePredictor(lambda x, t: x, SCHEDULER.x0_to_score, [])
    with pytest.raises(ValueError, match="chunk_size"):
        MultiDiffusionDPSScorePredictor(predictor, SCHEDULER.x0_to_score, [])
    with pytest.raises(RuntimeError, match="chunk_size"):
        next(predictor.chunks(NOISE, T))
    with pytest.raises(TypeError, match="got a Pointwise"):
        MultiDiffusionPredictor(Pointwise())


def unet_of(channels, **options):
    return SongUNet([4, 4], in_channels=channels, out_channels=1, **SMALL, **options).eval()


def test_positions_reach_a_unet():
    """Among the channels, after the condition; the reference leaves them out."""
    x, t, image = torch.randn(2, 1, 4, 4), torch.ones(2), torch.randn(2, 2, 4, 4)
    unet = unet_of(1 + 2 + 4)
    model = MultiDiffusionModel2D(ConcatConditionWrapper(unet), (4, 4), "sinusoidal")
    positions = model.pos_embd.expand(2, -1, -1, -1)
    expected = unet(torch.cat((x, image, positions), dim=1), t, None)
    torch.testing.assert_close(model(x, t, image), expected)
    unet = unet_of(1 + 2)
    wrapper = ConcatConditionWrapper(unet, numerics="reference-2.2")
    found = MultiDiffusionModel2D(wrapper, (4, 4), "sinusoidal")(x, t, {"cond_concat": image})
    torch.testing.assert_close(found, unet(torch.cat((x, image), dim=1), t, None))


def record(name, module, **arguments):
    return {"__name__": name, "__module__": module, "__args__": arguments}


@pytest.mark.parametrize("embedding", ["learnable", "linear", "sinusoidal", None])
def test_files_of_the_release(embedding, tmp_path):
    """Four levels of models; it remembers the shape of the patches that it was trained on."""
    unet = unet_of(1 + 2, numerics="reference-2.2")
    key = "__physicsnemo.Module__.model"
    channels = 2 if embedding == "linear" else 4
    arguments = {
        "global_spatial_shape": [8, 12],
        "positional_embedding": embedding,
        "channels_positional_embedding": channels,
        "condition_patch": {"cond_concat": True},
        "condition_interp": False,
    }
    records = {
        **record(
            "MultiDiffusionModel2D",
            "physicsnemo.diffusion.multi_diffusion.models",
            model=key,
            **arguments,
        ),
        key: record(
            "EDMPreconditioner",
            "physicsnemo.diffusion.preconditioners.preconditioners",
            model=f"{key}.model",
            sigma_data=0.5,
        ),
        f"{key}.model": record(
            "ConcatConditionWrapper",
            "physicsnemo.diffusion.utils.model_wrappers",
            model=f"{key}.model.model",
            image_cond_key="cond_concat",
            vector_cond_key="cond_vec",
        ),
        f"{key}.model.model": record(
            "SongUNet",
            "physicsnemo.models.diffusion_unets.song_unet",
            img_resolution=[4, 4],
            in_channels=3,
            out_channels=1,
            **SMALL,
        ),
    }
    state = {f"model.model.model.{name}": it for name, it in unet.state_dict().items()}
    state = {name: it for name, it in state.items() if not name.endswith("device_buffer")}
    state["model.model.model.map_noise.freqs"] = unet.map_noise.freqs
    state |= {"model.sigma_data": torch.tensor(0.5), "_patch_shape": torch.tensor([4, 4])}
    grid = torch.randn(channels, 8, 12)
    if embedding in ("learnable", "linear"):
        state["pos_embd"] = grid
    metadata = {"physicsnemo_version": "2.2.2", "mdlus_file_version": "0.1.0"}
    metadata |= {f"{it}.mdlus_file_version": "0.1.0" for it in records if it.startswith(key)}
    weights = io.BytesIO()
    torch.save(state, weights)
    with zipfile.ZipFile(tmp_path / "theirs.mdlus", "w") as archive:
        archive.writestr("model.pt", weights.getvalue())
        archive.writestr("args.json", json.dumps(records))
        archive.writestr("metadata.json", json.dumps(metadata))

    model = Module.from_checkpoint(tmp_path / "theirs.mdlus").eval()
    assert type(model) is MultiDiffusionModel2D
    assert model.patch_shape == (4, 4)
    if "pos_embd" in state:
        torch.testing.assert_close(model.pos_embd.detach(), grid)
    x, t, image = torch.randn(2, 1, 8, 12), torch.ones(2), torch.randn(2, 2, 8, 12)
    condition = {"cond_concat": image}
    predictor = MultiDiffusionPredictor(model, condition)
    predictor.set_patching(0, 0)
    plain = EDMPreconditioner(ConcatConditionWrapper(unet))
    expected = plain(predictor.patch_fn(x), t.repeat(6), predictor.patch_fn(image))
    torch.testing.assert_close(predictor(x, t), predictor.fuse_fn(expected), rtol=0, atol=1e-6)

    model.save(tmp_path / "ours.mdlus", for_release="2.2")
    with zipfile.ZipFile(tmp_path / "ours.mdlus") as archive:
        ours = json.loads(archive.read("args.json"))
        keys = {*torch.load(io.BytesIO(archive.read("model.pt")), weights_only=True)}
    assert ours.keys() == records.keys()
    assert ours["__args__"] == records["__args__"]
    assert keys == {*state}
