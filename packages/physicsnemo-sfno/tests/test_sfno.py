# SPDX-License-Identifier: Apache-2.0
"""What SFNO promises: exact eigenfunctions, symmetries, one answer on all grids, clear errors."""

import copy
import math
import subprocess
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from physicsnemo.models.sfno import SFNO, InverseRealSHT, SphericalGrid

SIZES = {"inp_chans": 2, "out_chans": 2, "embed_dim": 6, "num_layers": 3, "scale_factor": 2}
SQUARE = {"inp_shape": [17, 32], "out_shape": [17, 32]}
GRID_TYPES = ["equiangular", "legendre-gauss", "lobatto"]
OPERATOR_TYPES = ["dhconv", "diagonal"]


def build(**arguments):
    return SFNO(**SIZES | SQUARE | arguments).double().eval()


def smooth(shape, lmax=8, grid_type="equiangular", channels=2):
    """Return fields of degrees below lmax: the same ones on every grid."""
    generator = torch.Generator().manual_seed(1)
    spectrum = torch.randn(2, channels, lmax, lmax, 2, generator=generator, dtype=torch.float64)
    return InverseRealSHT(SphericalGrid(*shape, grid_type), lmax, lmax).double()(spectrum)


def zonal_about(axis, degree, grid):
    """Return the Legendre polynomial of the cosine of the distance from an axis."""
    x = grid.nodes()[:, None]
    longitude = 2 * math.pi * torch.arange(grid.nlon, dtype=torch.float64) / grid.nlon
    horizontal = (1 - x**2).clamp(min=0).sqrt()
    points = torch.stack(
        (horizontal * longitude.cos(), horizontal * longitude.sin(), x.expand(-1, grid.nlon))
    )
    t = torch.tensordot(torch.tensor(axis, dtype=torch.float64), points, 1)
    t = t / math.hypot(*axis)
    return (torch.ones_like(t), t, (3 * t**2 - 1) / 2, (5 * t**3 - 3 * t) / 2)[degree]


def linear_operator(**arguments):
    """Return a model of one channel that only adds to a field what its filters make of it."""
    model = build(
        inp_chans=1,
        out_chans=1,
        embed_dim=1,
        mlp_ratio=1,
        activation_function="identity",
        normalization_layer="none",
        big_skip=False,
        **arguments,
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "filter" not in name:
                parameter.fill_(float(name.endswith("weight")))
    return model


@pytest.mark.parametrize("operator_type", OPERATOR_TYPES)
@pytest.mark.parametrize("internal", GRID_TYPES)
@pytest.mark.parametrize("grid_type", GRID_TYPES)
def test_harmonics_are_eigenfunctions(grid_type, internal, operator_type):
    model = linear_operator(
        model_grid_type=grid_type, sht_grid_type=internal, operator_type=operator_type
    )
    synthesis = InverseRealSHT(SphericalGrid(17, 32, grid_type), 5, 5).double()
    for degree, order in ((0, 0), (3, 0), (2, 1), (4, 4)):
        start = torch.zeros(1, 1, 5, 5, 2, dtype=torch.float64)
        start[..., degree, order, :] = torch.tensor([0.8, -0.6 if order else 0.0])
        value = torch.complex(*start[0, 0, degree, order])
        for block in model.blocks:
            weight = block.filter.weight.detach()[0, 0, degree]
            weight = weight[order] if operator_type == "diagonal" else weight
            # Of order 0, a real field has real coefficients.
            value = value * (1 + (torch.complex(*weight) if order else weight[0]))
        end = torch.zeros_like(start)
        end[..., degree, order, :] = torch.view_as_real(value)
        torch.testing.assert_close(model(synthesis(start)), synthesis(end), rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid_type", GRID_TYPES)
@pytest.mark.parametrize("degree", range(4))
def test_convolutions_with_real_filters_have_the_eigenfunctions_of_any_axis(degree, grid_type):
    model = linear_operator(model_grid_type=grid_type)
    field = zonal_about([0.3, -1.1, 0.4], degree, SphericalGrid(17, 32, grid_type))[None, None]
    with torch.no_grad():
        for block in model.blocks:
            block.filter.weight[..., 1] = 0
    factor = math.prod(1 + block.filter.weight[0, 0, degree, 0].item() for block in model.blocks)
    torch.testing.assert_close(model(field), factor * field, rtol=0, atol=1e-12)


@pytest.mark.parametrize("operator_type", OPERATOR_TYPES)
@pytest.mark.parametrize("normalization_layer", ["instance_norm", "layer_norm", "none"])
def test_rotation_about_the_axis_rotates_the_output(normalization_layer, operator_type):
    model = build(normalization_layer=normalization_layer, operator_type=operator_type)
    x = torch.randn(2, 2, 17, 32, dtype=torch.float64)
    steps = 2 * torch.arange(1, 16, 4)  # whole steps of the internal grid too
    for step in steps.tolist():
        rotated = model(x.roll(step, dims=-1))
        torch.testing.assert_close(rotated, model(x).roll(step, dims=-1), rtol=0, atol=1e-11)


def test_rotation_by_parts_of_an_internal_step_nearly_rotates_the_output():
    model = build(inp_shape=[33, 64], out_shape=[33, 64])
    x = smooth((33, 64), lmax=4)
    expected = model(x).roll(1, dims=-1)
    assert (model(x.roll(1, dims=-1)) - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("pos_embed", ["direct", "frequency"])
def test_position_embeddings_tell_longitudes_apart(pos_embed):
    model = build(pos_embed=pos_embed)
    x = smooth((17, 32))
    expected = model(x).roll(8, dims=-1)
    assert (model(x.roll(8, dims=-1)) - expected).norm() > 1e-3 * expected.norm()


@pytest.mark.parametrize("pos_embed", ["direct", "frequency"])
def test_position_embeddings_start_small(pos_embed):
    model = build(pos_embed=pos_embed, embed_dim=100)
    field = model.pos_embed(torch.zeros(1, 100, 17, 32, dtype=torch.float64))
    area = SphericalGrid(17, 32).weights()[:, None] / 2
    assert 0.015 < (area * field**2).sum(-2).mean().sqrt() < 0.025


def turned_over(x):
    """Rotate by half a turn about the axis through longitude 0 on the equator."""
    return x.flip(-2, -1).roll(1, dims=-1)


def test_real_filters_commute_with_rotations_that_exchange_the_poles():
    model = build()
    x = torch.randn(2, 2, 17, 32, dtype=torch.float64)
    error = (model(turned_over(x)) - turned_over(model(x))).norm() / model(x).norm()
    assert error > 1e-2  # imaginary parts tell east from west
    with torch.no_grad():
        for block in model.blocks:
            block.filter.weight[..., 1] = 0
    torch.testing.assert_close(model(turned_over(x)), turned_over(model(x)), rtol=0, atol=1e-11)


@pytest.mark.parametrize("operator_type", OPERATOR_TYPES)
@pytest.mark.parametrize("pos_embed", ["none", "frequency"])
def test_finer_grids_of_input_and_output_keep_the_answer(pos_embed, operator_type):
    options = {"pos_embed": pos_embed, "operator_type": operator_type}
    coarse = build(inp_shape=[33, 64], out_shape=[33, 64], **options)
    fine = build(inp_shape=[65, 128], out_shape=[65, 128], scale_factor=4, **options)
    fine.load_state_dict(coarse.state_dict())
    # All is exact: linear maps, band-limited fields, and statistics of those over the sphere.
    expected = coarse(smooth((33, 64)))
    torch.testing.assert_close(fine(smooth((65, 128)))[..., ::2, ::2], expected, rtol=0, atol=1e-11)


def test_a_finer_internal_grid_nearly_keeps_the_answer():
    options = {"max_modes": [16, 16]}
    coarse = build(inp_shape=[65, 128], out_shape=[65, 128], **options)
    fine = build(inp_shape=[129, 256], out_shape=[129, 256], **options)
    fine.load_state_dict(coarse.state_dict())
    expected = coarse(smooth((65, 128)))
    error = fine(smooth((129, 256)))[..., ::2, ::2] - expected
    assert error.norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("grid_type", ["legendre-gauss", "lobatto"])
def test_other_grids_keep_the_answer(grid_type):
    """Where the encoder is linear, a grid matters by its values alone."""
    model = build(inp_shape=[33, 64], big_skip=False)
    other = build(
        inp_shape=[33, 64], big_skip=False, model_grid_type=grid_type, out_grid_type="equiangular"
    )
    other.load_state_dict(model.state_dict())
    x, y = smooth((33, 64)), smooth((33, 64), grid_type=grid_type)
    torch.testing.assert_close(other(y), model(x), rtol=0, atol=1e-11)


@pytest.mark.parametrize("out_shape", [[9, 16], [33, 64]])
def test_the_skip_between_grids_keeps_what_the_filters_keep(out_shape):
    model = build(out_shape=out_shape, max_modes=[5, 5], num_layers=1)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.zero_()
        model.big_skip[0].weight.copy_(torch.eye(2)[..., None, None])
    x = smooth(SQUARE["inp_shape"], lmax=5)
    torch.testing.assert_close(model(x), smooth(out_shape, lmax=5), rtol=0, atol=1e-12)


SMALLER, GAUSS = "a smaller scale_factor", "sht_grid_type='legendre-gauss'"


@pytest.mark.parametrize(
    ("shape", "arguments", "kept", "resolved", "remedy"),
    [
        ([32, 64], {"scale_factor": 8}, 4, 16, SMALLER),
        ([32, 64], {"scale_factor": 4, "sht_grid_type": "equiangular"}, 4, 16, SMALLER),
        ([17, 32], {"scale_factor": 16}, 1, 9, SMALLER),
        ([9, 4], {"scale_factor": 2}, 1, 2, SMALLER),
        (
            [12, 24],
            {"out_shape": [9, 16], "model_grid_type": "legendre-gauss", "scale_factor": 1}
            | {"sht_grid_type": "equiangular"},
            *(6, 8, GAUSS),
        ),
        ([2, 8], {"scale_factor": 1}, 1, 1, "finer grids"),
        ([17, 32], {"out_shape": [2, 32]}, 1, 1, "finer grids"),
    ],
)
def test_few_degrees_are_told(shape, arguments, kept, resolved, remedy, caplog):
    arguments = {"inp_shape": shape, "out_shape": shape} | arguments
    assert build(**arguments).forward_transforms[0].lmax == kept
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("physicsnemo.module.SFNO", "WARNING")
    assert f"keep {kept} of {resolved} degrees of spherical harmonics; take {remedy}, or" in (
        record.getMessage()
    )
    caplog.clear()
    build(**arguments, max_modes=[kept, kept])
    assert not caplog.records


def test_what_the_grids_resolve_is_not_told_to_be_few(caplog):
    build(inp_shape=[32, 64], out_shape=[32, 64], scale_factor=1)
    build(inp_shape=[9, 16], out_shape=[9, 16], scale_factor=1)
    assert not caplog.records


def test_files_of_models_that_keep_the_mean_alone_are_loaded(tmp_path, caplog):
    arguments = SIZES | SQUARE | {"scale_factor": 16}
    model = SFNO(**arguments)
    model.save(str(tmp_path / "mean.mdlus"))
    caplog.clear()
    loaded = SFNO.from_checkpoint(str(tmp_path / "mean.mdlus"))
    assert "keep 1 of 9 degrees" in caplog.text
    x = torch.randn(1, 2, 17, 32)
    assert torch.equal(loaded.eval()(x), model.eval()(x))


def test_the_mean_alone_can_be_asked_for():
    model = build(scale_factor=16, max_modes=[1, 1], big_skip=False)
    x = torch.randn(1, 2, 17, 32, dtype=torch.float64)
    means = SphericalGrid(17, 32).weights()[:, None] * x / (2 * 32)
    same = means.sum((2, 3), keepdim=True).expand_as(x).contiguous()
    assert model.forward_transforms[0].lmax == 1
    torch.testing.assert_close(
        model.forward_transforms[0](x), model.forward_transforms[0](same), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    ("inp_shape", "scale_factor", "internal", "modes"),
    [
        ([181, 360], 1, (181, 360), 91),
        ([181, 360], 3, (61, 120), 60),
        ([721, 1440], 8, (91, 180), 90),
        ([90, 181], 2, (45, 90), 45),
    ],
)
def test_internal_grid_and_truncation(inp_shape, scale_factor, internal, modes):
    with torch.device("meta"):
        model = SFNO(
            inp_shape, inp_shape, 1, 1, embed_dim=2, num_layers=2, scale_factor=scale_factor
        )
    synthesis = model.inverse_transforms[0]
    assert (synthesis.grid.nlat, synthesis.grid.nlon) == internal
    assert synthesis.grid.grid_type == "legendre-gauss"
    assert (synthesis.lmax, synthesis.mmax) == (modes, modes)
    assert model.blocks[0].filter.weight.shape == (2, 2, modes, 2)


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 0.01), (torch.float16, 0.002)]
)
@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "converted"])
def test_precision(dtype, bound, autocast):
    model = SFNO([33, 64], [33, 64], 2, 2, embed_dim=16, scale_factor=2)
    x = torch.randn(4, 2, 33, 64)
    expected = copy.deepcopy(model).double()(x.double())
    if autocast and dtype != torch.float32:
        with torch.autocast("cpu", dtype):
            output = model(x)
    else:
        output = model.to(dtype)(x.to(dtype))
    assert output.dtype == dtype
    assert (output.double() - expected).norm() < bound * expected.norm()


class ResultTypes(TorchDispatchMode):
    """Take down the type of each tensor that is computed."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.seen += [it.dtype for it in tree_leaves(result) if isinstance(it, torch.Tensor)]
        return result


@pytest.mark.parametrize("operator_type", OPERATOR_TYPES)
def test_no_complex_number_appears(operator_type):
    """Compilers generate no code for complex numbers."""
    model = build(pos_embed="frequency", out_shape=[9, 16], operator_type=operator_type)
    x = smooth(SQUARE["inp_shape"])
    with ResultTypes() as types:
        model(x).square().mean().backward()
    assert len(types.seen) > 100
    assert set(types.seen) == {torch.float64}


def test_driscoll_healy_is_another_name_of_dhconv():
    model, other = build(), build(operator_type="driscoll-healy")
    other.load_state_dict(model.state_dict())
    x = smooth(SQUARE["inp_shape"])
    assert torch.equal(other(x), model(x))


def test_dropping_the_path_leaves_the_skip():
    model = build(path_drop_rate=0.5, num_layers=2)
    last = model.blocks[-1].drop_path.train()
    assert [block.drop_path.drop_prob for block in model.blocks] == [0.0, 0.5]
    dropped = last(torch.ones(1000, 3, 2))
    assert set(dropped.flatten().tolist()) == {0.0, 2.0}
    assert (dropped == dropped[:, :1, :1]).all()  # whole samples
    assert 0.9 < dropped.mean() < 1.1
    assert (last.eval()(torch.ones(10)) == 1).all()


@pytest.mark.parametrize("scale", [1e-2, 1e3])
def test_instance_norm_takes_statistics_over_the_sphere(scale):
    model = build()
    norm, grid = model.blocks[0].norm, model.inverse_transforms[0].grid
    x = scale * torch.randn(2, 6, grid.nlat, grid.nlon, dtype=torch.float64) + 5 * scale
    y = norm(x)
    area = grid.weights()[:, None] / (2 * grid.nlon)
    zero = torch.zeros(2, 6, dtype=torch.float64)
    torch.testing.assert_close((area * y).sum((-2, -1)), zero, rtol=0, atol=1e-12)
    torch.testing.assert_close((area * y**2).sum((-2, -1)), zero + 1, rtol=0.02, atol=0)


def test_layer_norm_is_that_of_pytorch_over_the_channels():
    norm = build(normalization_layer="layer_norm").blocks[0].norm
    x = torch.randn(2, 6, 9, 16, dtype=torch.float64)
    expected = torch.nn.functional.layer_norm(x.movedim(1, -1), (6,), eps=1e-6).movedim(-1, 1)
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inp_shape": [17]}, "inp_shape to be the numbers of latitudes and of longitudes"),
        ({"out_shape": [17, 32, 2]}, r"out_shape to be .*got \[17, 32, 2\]"),
        ({"out_shape": [1, 32]}, "at least 2 latitudes"),
        ({"model_grid_type": "healpix"}, "grid type among equiangular, .* got 'healpix'"),
        ({"out_grid_type": "octahedral"}, "grid type among"),
        ({"sht_grid_type": "gauss"}, "grid type among .*got 'gauss'"),
        ({"scale_factor": 20}, r"scale_factor=20 leaves 1 × 1 of 17 × 32 points"),
        ({"scale_factor": 0}, "scale_factor to be a whole number of at least 1, got 0"),
        ({"scale_factor": 1.5}, "scale_factor to be a whole number of at least 1, got 1.5"),
        ({"max_modes": [9]}, "numbers of degrees and of orders"),
        ({"max_modes": [10, 9]}, "lmax from 1 to 9 on the legendre-gauss grid of 9 × 16"),
        ({"max_modes": [9, 9]}, "mmax from 1 to 8"),
        ({"filter_type": "non-linear"}, "filter_type to be one of linear, got 'non-linear'"),
        ({"operator_type": "vector"}, "operator_type to be one of dhconv, .* got 'vector'"),
        ({"normalization_layer": "batch_norm"}, "normalization_layer to be one of instance_norm"),
        ({"pos_embed": "sequence"}, "pos_embed to be one of none, direct, frequency"),
        ({"inp_chans": 0}, "inp_chans to be a whole number of at least 1"),
        ({"out_chans": -1}, "out_chans to be a whole number of at least 1, got -1"),
        ({"embed_dim": 0}, "embed_dim to be a whole number of at least 1"),
        ({"num_layers": 0}, "num_layers to be a whole number of at least 1"),
        ({"encoder_layers": 0}, "encoder_layers to be a whole number of at least 1"),
        ({"mlp_ratio": 0.1}, "mlp_ratio=0.1 leaves no hidden channel of embed_dim=6"),
        ({"path_drop_rate": 1.0}, "path_drop_rate to be at least 0 and below 1, got 1.0"),
        ({"mlp_drop_rate": -0.1}, "mlp_drop_rate to be"),
        ({"pos_drop_rate": 2}, "pos_drop_rate to be"),
    ],
)
def test_bad_options(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


def test_unknown_activation():
    with pytest.raises(KeyError, match="no activation is named 'gelo'"):
        build(activation_function="gelo")


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.ones(1, 2, 17, 31), ValueError, r"inp_shape\[1\]=32\), got \(1, 2, 17, 31\)"),
        (torch.ones(1, 2, 16, 32), ValueError, r"where inp_shape\[0\] is 16"),
        (torch.ones(1, 3, 17, 32), ValueError, "where inp_chans is 3"),
        (torch.ones(2, 17, 32), ValueError, "which has 3 dimensions"),
        (torch.ones(1, 2, 17, 32, dtype=torch.long), TypeError, "floating-point"),
    ],
)
def test_bad_inputs(x, error, message):
    with pytest.raises(error, match=message):
        build()(x)


def test_torch_harmonics_is_imported_by_the_first_model_only():
    code = (
        "import sys; from physicsnemo.registry import ModelRegistry as R; R().list_models(); "
        "assert 'torch' not in sys.modules; S = R().factory('SFNO'); "
        "assert 'torch_harmonics' not in sys.modules; S([9, 16], [9, 16], 1, 1, scale_factor=2); "
        "assert 'torch_harmonics' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
