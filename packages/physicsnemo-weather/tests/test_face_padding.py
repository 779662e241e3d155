# SPDX-License-Identifier: Apache-2.0
"""Padding is one linear map in either direction, in whatever surroundings it is called."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from physicsnemo.models.dlwp._cubed_sphere import around_cube
from physicsnemo.models.dlwp_healpix_layers._neighbors import around_healpix
from physicsnemo.models.face_layers import pad_faces
from physicsnemo.models.face_layers import padding as face_padding

GRIDS = {"cube": (6, around_cube), "healpix": (12, around_healpix)}
grids = pytest.mark.parametrize(("count", "sources"), GRIDS.values(), ids=GRIDS)

as_pytorch_does = pytest.mark.filterwarnings("ignore:.*should not be instantiated")


@pytest.fixture
def afresh():
    """Forget which maps were made before."""
    face_padding._cached_make.cache_clear()


def faces(count, size=3, dtype=torch.float64, batch=2):
    shape = (batch, count, size, size, 2)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@grids
@pytest.mark.parametrize("padding", [1, 2, 3])
def test_each_cell_is_the_mean_of_its_sources(count, sources, padding):
    x = faces(count)
    expected = x.flatten(1, 3)[:, torch.from_numpy(sources(3, padding))].mean(2)
    torch.testing.assert_close(pad_faces(x, padding, sources).flatten(1, 3), expected)


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
def test_gradients_are_summed_in_single_precision(count, sources):
    x = faces(count, dtype=torch.bfloat16).requires_grad_()
    padded = pad_faces(x, 1, sources)
    gradient = torch.randn(padded.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    padded.backward(gradient)
    exact = x.detach().double().requires_grad_()
    pad_faces(exact, 1, sources).backward(gradient.double())
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=2**-8, atol=1e-6)


@grids
def test_gradients_of_samples_by_vmap(count, sources):
    x = faces(count)

    def loss(sample):
        return pad_faces(sample[None], 1, sources).pow(3).sum()

    each = torch.func.vmap(torch.func.grad(loss))(x)
    assert torch.equal(each, torch.stack([torch.func.grad(loss)(sample) for sample in x]))
    together = torch.func.grad(lambda x: torch.func.vmap(loss)(x).sum())(x)
    torch.testing.assert_close(together, each)


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


@as_pytorch_does
@grids
@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("needs_gradients", [False, True])
@pytest.mark.usefixtures("afresh")
def test_compiled_for_sizes_that_change(count, sources, dynamic, needs_gradients):
    torch.compiler.reset()
    compiled = torch.compile(pad_faces, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for batch, size in ((1, 3), (2, 3), (3, 4)):
        x = faces(count, size, batch=batch).requires_grad_(needs_gradients)
        assert torch.equal(compiled(x, 1, sources), pad_faces(x, 1, sources))
    torch.compiler.reset()


@as_pytorch_does
@pytest.mark.parametrize("strict", [False, True])
def test_export_for_any_batch(strict):
    class Padding(torch.nn.Module):
        def forward(self, x):
            return pad_faces(x, 1, around_cube)

    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(
        Padding(), (faces(6),), dynamic_shapes=(batch,), strict=strict
    ).module()
    x = faces(6, batch=5)
    assert torch.equal(program(x), pad_faces(x, 1, around_cube))


@pytest.mark.usefixtures("afresh")
def test_symbols_leave_no_trace():
    for _ in range(2):
        with FakeTensorMode():
            assert pad_faces(torch.ones(1, 6, 3, 3, 1), 1, around_cube).shape == (1, 6, 5, 5, 1)
        x = torch.ones(1, 6, 3, 3, 1)
        assert torch.equal(pad_faces(x, 1, around_cube), torch.ones(1, 6, 5, 5, 1))
    assert pad_faces(x.to("meta"), 1, around_cube).is_meta


@pytest.mark.usefixtures("afresh")
def test_maps_are_made_once_for_each_size_and_device():
    x = faces(12)
    for _ in range(3):
        pad_faces(x, 1, around_healpix)
        pad_faces(x.to("meta"), 1, around_healpix)
    assert face_padding._cached_make.cache_info().misses == 2
    assert face_padding._cached_make.cache_info().maxsize is not None


def test_maps_that_a_cuda_graph_reads_are_never_dropped(monkeypatch):
    monkeypatch.setattr(face_padding, "_cached_make", lambda *request: object())
    monkeypatch.setattr(face_padding, "_captured", {})
    request = around_cube, 3, 1, torch.device("cuda")
    for capturing in (False, True):
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda now=capturing: now)
        maps = face_padding._cached_maps(*request)
        assert face_padding._captured == ({request: maps} if capturing else {})
