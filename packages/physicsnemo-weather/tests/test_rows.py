# SPDX-License-Identifier: Apache-2.0
"""Padding is one linear map in either direction, in whatever surroundings it is first called."""

import pytest
import torch

from physicsnemo.models.dlwp import _rows
from physicsnemo.models.dlwp._cubed_sphere import around_cube
from physicsnemo.models.dlwp._rows import pad_faces
from physicsnemo.models.dlwp_healpix_layers._neighbours import around_healpix

GRIDS = {"cube": (6, around_cube), "healpix": (12, around_healpix)}
grids = pytest.mark.parametrize(("count", "sources"), GRIDS.values(), ids=GRIDS)


@pytest.fixture
def afresh(monkeypatch):
    """Forget which maps were made before."""
    monkeypatch.setattr(_rows, "_KEPT", {})


def faces(count, size=3, dtype=torch.float64, batch=2):
    shape = (batch, count, size, size, 2)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@grids
@pytest.mark.parametrize("padding", [1, 2, 3])
def test_gradients_once_and_twice(count, sources, padding):
    x = faces(count, batch=1)[..., :1].requires_grad_()

    def pad(x):
        return pad_faces(x, padding, sources)

    assert torch.autograd.gradcheck(pad, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(pad, x, fast_mode=True)


@grids
def test_in_bfloat16_copies_are_exact(count, sources):
    x = faces(count, dtype=torch.bfloat16)
    wide, narrow = pad_faces(x.double(), 1, sources), pad_faces(x, 1, sources)
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.double(), wide, rtol=2**-8, atol=0)
    rim = sources(3, 1)
    copied = torch.from_numpy(rim[:, 0] == rim[:, -1]).view(count, 5, 5)
    assert torch.equal(narrow.double()[:, copied], wide[:, copied])


@grids
def test_gradients_of_samples_by_vmap(count, sources):
    x = faces(count)

    def loss(sample):
        return pad_faces(sample[None], 1, sources).pow(3).sum()

    each = torch.func.vmap(torch.func.grad(loss))(x)
    assert torch.equal(each, torch.stack([torch.func.grad(loss)(sample) for sample in x]))


@pytest.mark.usefixtures("afresh")
def test_training_after_inference_mode():
    x = faces(12)
    with torch.inference_mode():
        expected = pad_faces(x, 1, around_healpix)
    x.requires_grad_()
    padded = pad_faces(x, 1, around_healpix)
    padded.sum().backward()
    assert torch.equal(padded, expected)
    assert x.grad.sum() == padded.numel()  # each padded cell hands back all that it got


@pytest.mark.usefixtures("afresh")
def test_one_program_for_sizes_that_change():
    compiled = torch.compile(pad_faces, fullgraph=True, backend="aot_eager")
    torch.compiler.reset()
    for batch, size in ((1, 3), (2, 3), (3, 4), (2, 5)):
        x = faces(12, size, batch=batch)
        assert torch.equal(compiled(x, 1, around_healpix), pad_faces(x, 1, around_healpix))
    torch.compiler.reset()


@pytest.mark.usefixtures("afresh")
def test_symbols_leave_no_trace():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        assert pad_faces(torch.ones(1, 6, 3, 3, 1), 1, around_cube).shape == (1, 6, 5, 5, 1)
    assert torch.equal(
        pad_faces(torch.ones(1, 6, 3, 3, 1), 1, around_cube), torch.ones(1, 6, 5, 5, 1)
    )


def test_maps_are_made_once():
    x = faces(12)
    pad_faces(x, 1, around_healpix)
    kept = dict(_rows._KEPT)
    pad_faces(x, 1, around_healpix)
    assert dict(_rows._KEPT).keys() == kept.keys()
    assert _rows._maps(around_healpix, 3, 1, x.device) is kept[around_healpix, 3, 1, x.device]
