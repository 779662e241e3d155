# SPDX-License-Identifier: Apache-2.0
"""Files of every class and release of nvidia-physicsnemo load, and are written so for it again."""

import inspect
import json
import re

import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.format.container import write_checkpoint
from physicsnemo.nn.numerics import ODDITIES, has_oddity
from physicsnemo.registry import ModelRegistry
from physicsnemo.testing import Case
from tests.reference_files import MARK, MODULES, RELEASES, moved_targets, read, write
from tools.cases import all_cases

SMALL = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4]}
SONG = {"img_resolution": [8, 12], "in_channels": 3, "out_channels": 2, **SMALL}
ONE = {"img_resolution": 8, "img_channels": 2, **SMALL}
HEADS = {"model_type": "DhariwalUNet", "model_channels": 32, "channel_mult": [1, 4]}
LEAD = {"lead_time_channels": 2, "lead_time_steps": 3}
GRID = "SongUNetPosEmbd"


def numbers(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


def noisy(channels, **named):
    """Return what makes two fields in noise, for networks and wrappers around them."""
    return lambda: (
        {"x": numbers(2, channels, 8, 12), "noise_labels": torch.tensor([0.3, 1.7])}
        | {name: value.clone() for name, value in named.items()}
    )


def square(**named):
    return lambda: {"x": numbers(2, 2, 8, 8), "sigma": torch.tensor([0.3, 1.7])} | named


def paired(condition=3, channels=2):
    return lambda: {
        "x": numbers(2, channels, 8, 12),
        "img_lr": numbers(2, condition, 8, 12) if condition else None,
        "sigma": torch.tensor([0.3, 1.7]),
    }


def grid(count, **more):
    return SONG | {"in_channels": 3 + count, "N_grid_channels": count} | more


PAIR = {"img_resolution": [8, 12], "img_in_channels": 7, "img_out_channels": 2, **SMALL}
LABEL = torch.tensor([2, 0])
# Options beyond those of the packages' own cases: id, class, arguments, inputs, first release.
EXTRA = [
    ("grid-8", GRID, grid(8), noisy(3), "1.2"),
    ("grid-12", GRID, grid(12), noisy(3), "1.2"),
    ("grid-linear", GRID, grid(2, gridtype="linear"), noisy(3), "1.2"),
    ("grid-test", GRID, grid(2, gridtype="test"), noisy(3), "1.2"),
    ("grid-learnable", GRID, grid(5, gridtype="learnable"), noisy(3), "1.2"),
    ("grid-octave", GRID, grid(8, gridtype="sinusoidal_octave"), noisy(3), "2.1"),
    ("grid-none", GRID, grid(0), noisy(3), "1.3"),
    ("grid-none-learnable", GRID, grid(0, gridtype="learnable"), noisy(3), "1.3"),
    ("probabilities", GRID, grid(4, prob_channels=[1]), noisy(3), "1.2"),
    ("no-bottom", GRID, grid(4, bottleneck_attention=False), noisy(3), "2.0"),
    ("fourier", GRID, grid(4, embedding_type="fourier"), noisy(3), "1.2"),
    ("no-embedding", GRID, grid(4, embedding_type="zero"), noisy(3), "1.2"),
    (
        "lead-times",
        "SongUNetPosLtEmbd",
        grid(4, **LEAD) | {"in_channels": 9},
        noisy(3, lead_time_label=LABEL),
        "1.2",
    ),
    (
        "lead-times-alone",
        "SongUNetPosLtEmbd",
        grid(0, **LEAD) | {"in_channels": 5},
        noisy(3, lead_time_label=LABEL),
        "1.3",
    ),
    (
        "lead-times-octave",
        "SongUNetPosLtEmbd",
        grid(8, **LEAD, gridtype="sinusoidal_octave", prob_channels=[0]) | {"in_channels": 13},
        noisy(3, lead_time_label=LABEL),
        "2.1",
    ),
    (
        "lead-times-learnable",
        "SongUNetPosLtEmbd",
        grid(3, **LEAD, gridtype="learnable") | {"in_channels": 8},
        noisy(3, lead_time_label=LABEL),
        "1.2",
    ),
    ("song-no-bottom", "SongUNet", SONG | {"bottleneck_attention": False}, noisy(3), "2.0"),
    (
        "song-all-options",
        "SongUNet",
        SONG
        | {"label_dim": 3, "augment_dim": 2, "additive_pos_embed": True, "amp_mode": True}
        | {"encoder_type": "residual", "decoder_type": "skip", "resample_filter": [1, 3, 3, 1]}
        | {"channel_mult_noise": 2, "checkpoint_level": 1, "act": "relu", "profile_mode": True},
        noisy(3, class_labels=torch.eye(3)[:2], augment_labels=numbers(2, 2)),
        "1.2",
    ),
    ("vp", "VPPrecond", ONE | {"beta_d": 15.0, "beta_min": 0.2, "M": 500}, square(), "1.2"),
    ("vp-heads", "VPPrecond", ONE | HEADS | {"epsilon_t": 1e-4}, square(), "1.2"),
    ("ve", "VEPrecond", ONE | {"sigma_min": 0.1, "sigma_max": 10.0}, square(), "1.2"),
    ("ve-heads", "VEPrecond", ONE | HEADS, square(), "1.2"),
    (
        "iddpm",
        "iDDPMPrecond",
        ONE | HEADS | {"M": 1000, "C_1": 0.002, "C_2": 0.01},
        square(),
        "1.2",
    ),
    ("iddpm-song", "iDDPMPrecond", ONE | {"model_type": "SongUNet"}, square(), "1.2"),
    ("edm", "EDMPrecond", ONE | {"model_type": "SongUNet", "sigma_data": 0.7}, square(), "1.2"),
    (
        "edm-channels",
        "EDMPrecond",
        ONE | {"model_type": "SongUNet", "sigma_data": [0.7, 2.0]},
        square(),
        "2.0",
    ),
    (
        "edm-labels",
        "EDMPrecond",
        ONE | HEADS | {"label_dim": 3, "sigma_min": 0.01, "sigma_max": 90.0},
        square(class_labels=torch.eye(3)[:2]),
        "1.2",
    ),
    (
        "edm-condition",
        "EDMPrecond",
        ONE | {"model_type": "SongUNet", "img_in_channels": 5, "img_out_channels": 2},
        square(condition=numbers(2, 3, 8, 8)),
        "1.2",
    ),
    (
        "edm-grid",
        "EDMPrecond",
        ONE | {"model_type": GRID, "img_in_channels": 6, "img_out_channels": 2},
        square(),
        "1.2",
    ),
    ("sr-grid", "EDMPrecondSuperResolution", PAIR | {"sigma_data": 0.8}, paired(), "1.2"),
    (
        "sr-octave",
        "EDMPrecondSuperResolution",
        PAIR | {"img_in_channels": 11, "N_grid_channels": 8, "gridtype": "sinusoidal_octave"},
        paired(),
        "2.1",
    ),
    (
        "sr-song-no-bottom",
        "EDMPrecondSuperResolution",
        PAIR | {"img_in_channels": 3, "model_type": "SongUNet", "bottleneck_attention": False},
        paired(),
        "2.0",
    ),
    (
        "sr-heads",
        "EDMPrecondSuperResolution",
        PAIR | HEADS | {"img_resolution": 8, "img_in_channels": 3},
        lambda: {
            "x": numbers(2, 2, 8, 8),
            "img_lr": numbers(2, 3, 8, 8),
            "sigma": torch.tensor([0.3, 1.7]),
        },
        "1.2",
    ),
    ("sr-scaled", "EDMPrecondSR", PAIR | {"img_channels": 9}, paired(), "1.2"),
    (
        "sr-unscaled",
        "EDMPrecondSR",
        PAIR | {"img_channels": 9, "scale_cond_input": False},
        paired(),
        "1.2",
    ),
    (
        "heavy-tails",
        "tEDMPrecondSuperRes",
        PAIR | {"img_in_channels": 3, "model_type": "SongUNet", "nu": 4},
        paired(),
        "1.2",
    ),
    (
        "regression-heads",
        "UNet",
        PAIR | HEADS | {"img_resolution": 8, "img_in_channels": 3},
        lambda: {"x": numbers(2, 2, 8, 8), "img_lr": numbers(2, 3, 8, 8)},
        "1.2",
    ),
    (
        "regression-lead-times",
        "UNet",
        PAIR | LEAD | {"img_in_channels": 9, "model_type": "SongUNetPosLtEmbd"},
        lambda: {
            "x": numbers(2, 2, 8, 12),
            "img_lr": numbers(2, 3, 8, 12),
            "lead_time_label": LABEL,
        },
        "1.2",
    ),
    (
        "regression-no-bottom",
        "UNet",
        PAIR | {"img_in_channels": 3, "model_type": "SongUNet", "bottleneck_attention": False},
        lambda: {"x": numbers(2, 2, 8, 12), "img_lr": numbers(2, 3, 8, 12)},
        "2.0",
    ),
    (
        "sums",
        "FNO",
        {"in_channels": 1, "out_channels": 1, "num_fno_modes": 5, "latent_channels": 4}
        | {"num_fno_layers": 1, "padding": 0},
        lambda: (numbers(1, 1, 8, 8),),
        "1.2",
    ),
]


# The last release that takes the arguments of a case.
NEWEST = {
    "SongUNetPosEmbd-patches": "1.2",  # lead times
    "MeshGraphNet-processor_alone": "1.3",  # no encoders
}


def cases():
    """Return class, arguments, inputs and release: one case a class for all, others for one."""
    found, seen = [], set()
    for case in all_cases():
        # Some sizes that the papers take are none that the reference can compute.
        if case.model in MODULES and str(case) != "Pangu-other_levels":
            arguments = {k: v for k, v in case.arguments.items() if k != "numerics"}
            newest = NEWEST.get(str(case), RELEASES[-1])
            releases = (newest,) if case.model in seen else RELEASES
            seen.add(case.model)
            found += [(case.model, case.id, arguments, case.inputs, it) for it in releases]
    for identifier, model, arguments, inputs, since in EXTRA:
        releases = RELEASES[RELEASES.index(since) :]
        found += [(model, identifier, arguments, inputs, it) for it in releases]
    return [
        pytest.param(model, arguments, inputs, release, id=f"{model}-{identifier}-{release}")
        for model, identifier, arguments, inputs, release in found
    ]


def build(model_class, arguments, release):
    if "numerics" in inspect.signature(model_class.__init__).parameters:
        arguments = arguments | {"numerics": f"reference-{release}"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Case("", model_class, arguments, tuple).build()
        for parameter in model.parameters():  # since some start from zero
            parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


def run(model, inputs):
    given = inputs()
    with torch.no_grad():
        return model(**given) if isinstance(given, dict) else model(*given)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "arguments", "inputs", "release"), cases())
def test_a_file_of_a_release(name, arguments, inputs, release, tmp_path):
    model_class = ModelRegistry().factory(name)
    model = build(model_class, arguments, release)
    path = write(model, release, tmp_path / "theirs.mdlus")
    same = Module.from_checkpoint(path).eval()
    assert type(same) is model_class
    if "numerics" in same._args["__args__"]:
        stated = same._args["__args__"]["numerics"]
        for oddity in ODDITIES:
            assert has_oddity(stated, oddity) == has_oddity(f"reference-{release}", oddity)
    own, loaded = model.state_dict(), same.state_dict()
    assert loaded.keys() == own.keys()
    assert all(torch.equal(loaded[key], own[key]) for key in own)
    torch.testing.assert_close(run(same, inputs), run(model, inputs), rtol=1e-6, atol=1e-6)

    same.save(tmp_path / "ours.mdlus", for_release=release)
    theirs, ours = read(path), read(tmp_path / "ours.mdlus")
    assert ours[0] == theirs[0] == (release >= "2.0")
    assert ours[1].keys() == theirs[1].keys()
    for key, tensor in theirs[1].items():
        torch.testing.assert_close(ours[1][key], tensor)
    ours_args = ours[2]["__args__"]
    # Which all releases read, by the paths of the oldest.
    moved = moved_targets(ours_args) if name.startswith("HEALPix") else ours_args
    assert theirs[2]["__args__"] in (ours_args, moved)
    assert ours[2]["__name__"] == theirs[2]["__name__"]
    assert ours[2]["__module__"] in (theirs[2]["__module__"], "physicsnemo.models.diffusion")
    assert order(ours[3]["physicsnemo_version"]) == order(theirs[3]["physicsnemo_version"])


def order(version):
    return tuple(map(int, version.split(".")[:2]))


class Outer(Module):
    """A model around others, as files hold them from 1.3 on."""

    def __init__(self, inner, scale=2.0):
        super().__init__()
        self.inner, self.scale = inner, scale

    def forward(self, **inputs):
        return self.scale * self.inner(**inputs)


@pytest.mark.parametrize("release", RELEASES[1:])
@pytest.mark.parametrize("depth", [1, 2])
def test_models_within_models(release, depth, tmp_path):
    model = ModelRegistry().factory(GRID)(**grid(4), numerics=f"reference-{release}")
    for _ in range(depth):
        model = Outer(model)
    inputs = noisy(3)
    path = write(model.eval(), release, tmp_path / "theirs.mdlus")
    same = Outer.from_checkpoint(path).eval()
    assert torch.equal(run(same, inputs), run(model, inputs))
    same.save(tmp_path / "ours.mdlus", for_release=release)
    theirs, ours = read(path), read(tmp_path / "ours.mdlus")
    assert ours[1].keys() == theirs[1].keys()
    assert ours[2] == {**theirs[2], "__module__": ours[2]["__module__"]}
    inner = [key for key in theirs[3] if key.startswith(MARK)]
    assert len(inner) == depth
    assert {key: ours[3][key] for key in inner} == {key: theirs[3][key] for key in inner}


def test_models_within_models_are_none_of_the_oldest(tmp_path):
    with pytest.raises(ValueError, match=r"files of 1\.2 hold no model within another"):
        Outer(ModelRegistry().factory("FullyConnected")()).save(
            tmp_path / "model.mdlus", for_release="1.2"
        )


GNN = {"input_dim_nodes": 4, "input_dim_edges": 3, "output_dim": 2, "hidden_dim_processor": 8}
REFUSED = [
    (GRID, grid(8, gridtype="sinusoidal_octave"), "2.0", "gridtype='sinusoidal_octave'"),
    (GRID, grid(0), "1.2", "N_grid_channels=0"),
    (GRID, grid(4, lead_time_mode=True, **LEAD) | {"in_channels": 9}, "1.3", "lead_time_mode"),
    (GRID, grid(4, bottleneck_attention=False), "1.3", "bottleneck_attention=False"),
    ("SongUNetPosLtEmbd", grid(4), "1.3", "lead_time_channels=None"),
    ("SongUNetPosLtEmbd", grid(4, gridtype="sinusoidal_octave"), "1.2", "gridtype="),
    ("EDMPrecond", ONE | {"sigma_data": [0.5, 0.6]} | HEADS, "1.3", r"sigma_data=\[0\.5, 0\.6\]"),
    ("UNet", PAIR | {"bottleneck_attention": False}, "1.3", "bottleneck_attention=False"),
    ("UNet", PAIR | {"gridtype": "sinusoidal_octave"}, "2.0", "gridtype='sinusoidal_octave'"),
    ("EDMPrecondSuperResolution", PAIR | {"bottleneck_attention": False}, "1.2", "bottleneck"),
    ("MeshGraphNet", GNN | {"num_layers_node_decoder": None}, "2.0", "num_layers_node_decoder="),
]


@pytest.mark.parametrize(("name", "arguments", "release", "text"), REFUSED)
def test_what_a_release_refuses_is_not_written_for_it(name, arguments, release, text, tmp_path):
    model = build(ModelRegistry().factory(name), arguments, release)
    with pytest.raises(ValueError, match=f"{text}.* cannot be said .* {release}"):
        model.save(tmp_path / "model.mdlus", for_release=release)
    assert not list(tmp_path.iterdir())


def test_arguments_of_the_network_in_a_wrapper(tmp_path):
    """They stand among the wrapper's own."""
    model_class = ModelRegistry().factory("UNet")
    for release in ("1.3", "2.0"):
        model = build(model_class, PAIR | {"bottleneck_attention": True}, release)
        model.save(tmp_path / "model.mdlus", for_release=release)
        arguments = read(tmp_path / "model.mdlus")[2]["__args__"]
        assert ("bottleneck_attention" in arguments) == (release == "2.0")


@pytest.mark.parametrize("release", ["1.2", "1.3"])
@pytest.mark.parametrize("part", ["node_encoder", "edge_encoder", "node_decoder"])
def test_layers_that_2_0_does_not_know(part, release, tmp_path):
    wide = {"input_dim_nodes": 8, "input_dim_edges": 8, "output_dim": 8, "processor_size": 1}
    model = build(
        ModelRegistry().factory("MeshGraphNet"),
        GNN | wide | {f"num_layers_{part}": None},
        release,
    )
    same = Module.from_checkpoint(write(model, release, tmp_path / "theirs.mdlus"))
    assert same.state_dict().keys() == model.state_dict().keys()
    same.save(tmp_path / "ours.mdlus", for_release=release)
    assert read(tmp_path / "ours.mdlus")[2]["__args__"][f"num_layers_{part}"] is None


# What 2.x still states and no longer computes, and what 1.3 could choose.
@pytest.mark.parametrize(
    ("release", "stated"),
    [
        ("1.2", {"multimesh_level": 1}),
        ("1.3", {"multimesh_level": 1, "graph_backend": "dgl"}),
        ("2.0", {"use_lat_lon_partitioning": True, "partition_group_name": "mesh"}),
        ("2.2", {"produce_aggregated_output": False, "global_features_on_rank_0": True}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_arguments_that_graphcast_no_longer_has(release, stated, tmp_path):
    case = next(case for case in all_cases() if str(case) == "GraphCastNet-messages")
    known = {name: value for name, value in stated.items() if name != "graph_backend"}
    model = build(case.model_class, case.arguments | known, release)
    path = write(model, release, tmp_path / "theirs.mdlus")
    is_zip, state, record, metadata = read(path)
    record["__args__"] |= stated
    write_checkpoint(path, state, record, metadata, is_zip)
    same = Module.from_checkpoint(path).eval()
    assert torch.equal(run(same, case.inputs), run(model, case.inputs))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["HEALPixUNet", "HEALPixRecUNet"])
@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("physicsnemo.", "modulus."),
        ("physicsnemo.nn.", "physicsnemo.nn.module."),
        ("_layers.UNetEnc", ".layers.healpix_encoder.UNetEnc"),
        ("_layers.UNetDec", ".layers.healpix_decoder.UNetDec"),
        ("_layers.", ".layers."),
        ("_layers.", ".layers.healpix_blocks."),
        ("_layers.AvgPool", ".layers.HEALPixAvgPool"),
        ("models.dlwp_healpix_layers.MaxPool", "nn.module.hpx.HEALPixMaxPool"),
        ("models.dlwp_healpix_layers.AvgPool", "nn.module.hpx.pool.HEALPixAvgPool"),
        ("models.dlwp_healpix_layers.AvgPool", "nn.HEALPixAvgPool"),
        ("nn.activations.", "models.layers.activations."),
        ("nn.activations.", "models.layers."),
        ("nn.activations.", "nn."),
    ],
)
def test_paths_of_layers_in_every_release(name, here, there, tmp_path):
    for case in (case for case in all_cases() if case.model == name):
        numerics = {"numerics": "reference-1.2"} if name == "HEALPixUNet" else {}
        model = case.model_class(**case.arguments, **numerics).eval()
        path = write(model, "1.3", tmp_path / "theirs.mdlus")
        _, state, record, metadata = read(path)
        targets = re.compile(r'(?<="_target_": ")[^"]+')
        text = targets.sub(lambda it: it[0].replace(here, there), json.dumps(record["__args__"]))
        record["__args__"] = json.loads(text)
        write_checkpoint(path, state, record, metadata)
        same = Module.from_checkpoint(path).eval()
        assert torch.equal(run(same, case.inputs), run(model, case.inputs))
        for release in (
            "1.2",
            "2.2",
        ):  # all read the oldest paths
            same.save(tmp_path / "ours.mdlus", for_release=release)
            _, _, again, stated = read(tmp_path / "ours.mdlus")
            found = targets.findall(json.dumps(again))
            assert stated["mdlus_file_version"] == "0.1.0"
            assert found
            for target in found:
                assert re.match(OLDEST, target), target


OLDEST = (
    r"(torch\.nn\.|physicsnemo\.models\.layers\.(activations\.)?[A-Z]"
    r"|physicsnemo\.models\.dlwp_healpix_layers\.((healpix_\w+)\.)?[A-Z])"
)


SHOWN = [
    # What shows the release of a file that claims none; the oldest where nothing does.
    (GRID, grid(4), "1.2", "1.2"),
    (GRID, grid(4), "1.3", "1.3"),  # no grid in the state
    (GRID, grid(4, gridtype="learnable"), "1.3", "1.2"),
    (GRID, grid(0), "1.3", "1.3"),
    (GRID, grid(8, gridtype="sinusoidal_octave"), "2.2", "2.1"),
    ("SongUNet", SONG, "1.3", "1.2"),
    ("SongUNet", SONG, "2.0", "2.0"),
    ("SongUNet", SONG, "2.2", "2.1"),  # frequencies
    ("DhariwalUNet", SONG | {"img_resolution": 8, "model_channels": 32}, "1.3", "1.2"),
    ("DhariwalUNet", SONG | {"img_resolution": 8, "model_channels": 32}, "2.1", "2.1"),
    ("EDMPrecondSuperResolution", PAIR, "1.3", "1.3"),
    ("UNet", PAIR, "1.2", "1.2"),
    ("UNet", PAIR, "1.3", "1.3"),
    ("UNet", PAIR, "2.0", "2.0"),
    ("EDMPrecond", ONE | HEADS, "2.0", "2.0"),
]


@pytest.mark.parametrize(("name", "arguments", "release", "shown"), SHOWN)
@pytest.mark.parametrize("as_tar", [False, True])
def test_files_that_claim_no_release(name, arguments, release, shown, as_tar, tmp_path, caplog):
    model = build(ModelRegistry().factory(name), arguments, release)
    path = write(model, release, tmp_path / "theirs.mdlus", physicsnemo_version=None)
    if as_tar:  # which 2.x writes if told so
        _, *parts = read(path)
        write_checkpoint(path, *parts)
    same = Module.from_checkpoint(path)
    stated = same._args["__args__"]["numerics"]
    for oddity in ODDITIES:
        assert has_oddity(stated, oddity) == has_oddity(f"reference-{shown}", oddity)
    assert f"read as a file of release {shown} of" in caplog.text


@pytest.mark.parametrize("release", ["1.2", "1.3", "2.0"])
@pytest.mark.parametrize("name", ["GraphCastNet", "Pangu", "ModAFNO"])
def test_other_families_that_claim_no_release(name, release, tmp_path, caplog):
    case = next(case for case in all_cases() if case.model == name)
    model = build(case.model_class, case.arguments, release)
    Module.from_checkpoint(
        write(model, release, tmp_path / "theirs.mdlus", physicsnemo_version=None)
    )
    shown = "1.2" if name == "ModAFNO" and release == "1.3" else release
    assert f"read as a file of release {shown} of" in caplog.text
