# SPDX-License-Identifier: Apache-2.0
"""Deeper models compile no more blocks than shallow ones, and compute the same as uncompiled."""

from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils import _pytree as pytree

from physicsnemo.core.capture.blocks import CompiledBlocks, find_blocks
from physicsnemo.testing import Case, noise
from tools.bench.cases import AFNO, GRAPHCAST, MESH, PANGU, SFNO, SONG, in_noise, on_triangles

_SPHERE = {"inp_shape": [9, 18], "out_shape": [9, 18], "embed_dim": 8, "scale_factor": 1}


def afno(depth: int) -> Case:
    arguments = AFNO | {"inp_shape": [16, 16], "embed_dim": 16, "depth": depth}
    return Case("depth", "AFNO", arguments, noise(1, 20, 16, 16))


def sfno(depth: int) -> Case:
    return Case("depth", "SFNO", SFNO | _SPHERE | {"num_layers": depth}, noise(1, 20, 9, 18))


def meshgraphnet(depth: int) -> Case:
    arguments = MESH | {"processor_size": depth, "hidden_dim_processor": 8}
    return Case("depth", "MeshGraphNet", arguments, on_triangles(4, 4, 11, 3))


def graphcast(depth: int) -> Case:
    arguments = GRAPHCAST | {"mesh_level": 1, "input_res": [7, 12], "hidden_dim": 8}
    arguments |= {"processor_layers": depth, "input_dim_grid_nodes": 2, "output_dim_grid_nodes": 2}
    return Case("depth", "GraphCastNet", arguments, noise(1, 2, 7, 12))


def song_unet(depth: int) -> Case:
    small = {"img_resolution": 8, "model_channels": 4, "num_blocks": depth, "channel_mult": [1, 2]}
    return Case("depth", "SongUNet", SONG | small, in_noise(1, 4, 8))


DEPTHS = {afno: (4, 7), sfno: (5, 7), meshgraphnet: (4, 7), graphcast: (5, 7), song_unet: (3, 5)}


# Dynamo makes an instance of autograd functions, which their class warns of.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("make", DEPTHS, ids=lambda make: make.__name__)
def test_compilations_do_not_grow_with_depth(make):
    counts = []
    for depth in DEPTHS[make]:
        case = make(depth)
        model, inputs = case.build().double().eval(), _double(case.inputs())
        expected = pytree.tree_leaves(model(*inputs))
        gradients = torch.autograd.grad(_sum(expected), _trained(model), allow_unused=True)
        torch.compiler.reset()
        counter = CompileCounterWithBackend("eager")
        blocks = CompiledBlocks(find_blocks(model), partial(torch.compile, backend=counter))
        with blocks.active():
            got = pytree.tree_leaves(model(*inputs))
            found = torch.autograd.grad(_sum(got), _trained(model), allow_unused=True)
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(found, gradients)
        counts.append(counter.frame_count)
    assert 0 < counts[0] == counts[1]


def test_stochastic_depth_of_several_rates_shares_code():
    arguments = PANGU | {"img_size": [9, 16], "embed_dim": 4, "num_heads": [1, 2, 2, 1]}
    kinds = find_blocks(Case("rates", "Pangu", arguments, noise(1, 72, 9, 16)).build())
    blocks = [kind for kind in kinds if type(kind[0]).__name__ == "WindowBlock"]
    assert [len(kind) for kind in blocks] == [6, 6]  # with shifted windows and without
    assert all(len({block.drop_path.drop_prob for block in kind}) > 1 for kind in blocks)


def _double(inputs):
    def convert(tensor):
        return tensor.double() if tensor.is_floating_point() else tensor

    return pytree.tree_map_only(torch.Tensor, convert, inputs)


def _trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _sum(outputs):
    return sum(output.sum() for output in outputs)
