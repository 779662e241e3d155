# SPDX-License-Identifier: Apache-2.0
"""Models whose rows are divided over processes compute what one process does."""

import copy
import io
import pickle

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

import physicsnemo
from physicsnemo.distributed import distribute, gather, split

GRID = {1: (24,), 2: (24, 7), 3: (24, 6, 5)}
CONVOLUTIONS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 5, "padding": "same"},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 4, "padding": 1, "stride": 2},
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 5, "padding": 2, "padding_mode": "replicate", "groups": 2},
]
TRANSPOSED = [
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    {"kernel_size": 4, "stride": 2, "padding": 1},
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 5, "stride": 3, "padding": 1},
]
PADDED = ["ReflectionPad2d", "ReplicationPad2d", "ZeroPad2d", "CircularPad2d"]


class Net(physicsnemo.Module):
    """Two layers, of which one looks at neighbouring rows."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(2, 2, 3, padding=1), nn.ReLU())

    def forward(self, x):
        return self.layers(x)


def layers() -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    for d in GRID:
        for options in CONVOLUTIONS:
            found[f"Conv{d}d {options}"] = getattr(nn, f"Conv{d}d")(4, 6, **options)
        for options in TRANSPOSED:
            found[f"ConvTranspose{d}d {options}"] = getattr(nn, f"ConvTranspose{d}d")(
                4, 6, **options
            )
        found[f"BatchNorm{d}d"] = getattr(nn, f"BatchNorm{d}d")(4)
        found[f"InstanceNorm{d}d"] = getattr(nn, f"InstanceNorm{d}d")(4, affine=True)
        found[f"GroupNorm {d}"] = nn.GroupNorm(2, 4)
        found[f"AvgPool{d}d"] = getattr(nn, f"AvgPool{d}d")(2) if d < 3 else nn.AvgPool3d((2, 1, 1))
    for name in PADDED:
        padding = getattr(nn, name)((1, 2, 2, 1))
        found[name] = nn.Sequential(padding, nn.Conv2d(4, 3, (4, 3)))
    return found


def dimension_of(name: str) -> int:
    return int(name.split("d ")[0][-1]) if "d " in name else int(name.rstrip("d")[-1])


def check(names: list[str]) -> None:
    """Compare layers on all processes with those on one: outputs, gradients and statistics."""
    for name in names:
        torch.manual_seed(0)
        layer = layers()[name].double()
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.3)
        alone = nn.Sequential(layer)
        model = distribute(
            copy.deepcopy(alone), init_device_mesh("cpu", (dist.get_world_size(),)), axis=2, unit=4
        )
        x = torch.randn(2, 4, *GRID[dimension_of(name)], dtype=torch.float64, requires_grad=True)
        expected = alone(x)
        weight = torch.randn_like(expected)
        (expected * weight).sum().backward()
        part = split(x.detach(), model).requires_grad_()
        own = model(part)
        got = gather(own.detach(), model)
        rows = model._domain.rows(own.shape[2])
        (own * weight[:, :, rows.first : rows.stop]).sum().backward()
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12, msg=name)
        torch.testing.assert_close(gather(part.grad, model), x.grad, rtol=0, atol=1e-12, msg=name)
        for mine, whole in zip(model.parameters(), alone.parameters(), strict=True):
            dist.all_reduce(mine.grad)
            torch.testing.assert_close(mine.grad, whole.grad, rtol=1e-12, atol=1e-11)
        for mine, whole in zip(model.buffers(), alone.buffers(), strict=True):
            torch.testing.assert_close(mine, whole, rtol=1e-12, atol=1e-12)


def test_layers_of_pytorch(processes):
    processes.run(check, list(layers()))


def refused() -> list[str]:
    """Return what is said of layers and inputs that cannot be divided."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    texts = []
    for layer, grid in (
        (nn.Conv2d(1, 1, 3, stride=2), (8, 8)),
        (nn.ConvTranspose2d(1, 1, 3, stride=2), (8, 8)),
        (nn.AvgPool2d(3, stride=1), (8, 8)),
        (nn.Conv2d(1, 1, 11, padding=5), (8, 8)),
    ):
        try:
            model = distribute(nn.Sequential(layer), mesh, axis=2)
            model(split(torch.zeros(1, 1, *grid), model))
        except (NotImplementedError, ValueError) as error:
            texts.append(str(error))
    return texts


def test_what_cannot_be_divided_is_refused(processes):
    for texts in processes.run(refused):
        assert len(texts) == 4
        assert "keeps the rows" in texts[0]
        assert "multiplies the rows" in texts[1]
        assert "windows side by side" in texts[2]
        assert "5 rows far, and a rank holds 4" in texts[3]


def check_uneven() -> None:
    """Compare rows that no stride divides: statistics, outputs and whole fields without a count."""
    ranks = dist.get_world_size()
    torch.manual_seed(0)
    alone = nn.Sequential(
        nn.Conv1d(2, 3, 3, stride=2, padding=1),
        nn.BatchNorm1d(3),
        nn.Conv1d(3, 3, 3, stride=2, padding=1),
        nn.BatchNorm1d(3, momentum=None),
        nn.ConvTranspose1d(3, 2, 3, stride=2, padding=1, output_padding=1),
        nn.InstanceNorm1d(2, affine=True),
    ).double()
    model = distribute(copy.deepcopy(alone), init_device_mesh("cpu", (ranks,)), axis=2, unit=4)
    for rows in (4 * ranks - 3, 37):  # also such that the last rank has a single one
        x = torch.randn(2, 2, rows, dtype=torch.float64, requires_grad=True)
        expected = alone(x)
        weight = torch.randn_like(expected)
        (expected * weight).sum().backward()
        part = split(x.detach(), model).requires_grad_()
        own = model(part)
        counts = [0] * ranks
        dist.all_gather_object(counts, own.shape[2])
        (own * weight.split(counts, dim=2)[dist.get_rank()]).sum().backward()
        got = gather(own.detach(), model)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(gather(part.grad, model), x.grad, rtol=0, atol=1e-12)
    for mine, whole in zip(model.parameters(), alone.parameters(), strict=True):
        dist.all_reduce(mine.grad)
        torch.testing.assert_close(mine.grad, whole.grad, rtol=1e-12, atol=1e-11)
    for mine, whole in zip(model.buffers(), alone.buffers(), strict=True):
        torch.testing.assert_close(mine, whole, rtol=1e-12, atol=1e-12)


def test_rows_that_strides_do_not_divide(processes):
    processes.run(check_uneven)


def check_copies(folder: str) -> None:
    """Expect an error of copies, and a file that any process loads."""
    model = Net()
    distribute(model, init_device_mesh("cpu", (dist.get_world_size(),)), axis=2)
    for copied in (copy.deepcopy, pickle.dumps, lambda it: torch.save(it, io.BytesIO())):
        for part in (model, model.layers, DistributedDataParallel(model)):
            with pytest.raises(TypeError, match="this Net, which was distributed.*state_dict"):
                copied(part)
    model.save(f"{folder}/{dist.get_rank()}.mdlus")
    again = physicsnemo.Module.from_checkpoint(f"{folder}/{dist.get_rank()}.mdlus")
    x = torch.randn(1, 2, 6)
    dist.broadcast(x, 0)
    whole = gather(model(split(x, model)).detach(), model)
    torch.testing.assert_close(whole, again(x).detach())


def test_a_distributed_model_is_saved_but_not_copied(processes, tmp_path):
    processes.run(check_copies, str(tmp_path))


def test_a_model_without_rules(tmp_path):
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        with pytest.raises(NotImplementedError, match="Linear has no rules"):
            distribute(nn.Linear(2, 2), mesh)
        with pytest.raises(ValueError, match="call distribute"):
            split(torch.zeros(1), nn.Linear(2, 2))
        model = distribute(nn.Sequential(nn.ReLU()), mesh, axis=2)
        with pytest.raises(ValueError, match="distributed before"):
            distribute(model, mesh, axis=2)
    finally:
        dist.destroy_process_group()
