# SPDX-License-Identifier: Apache-2.0
"""Names and numerics in files, and the weights that files hold without need."""

import json
import tarfile
from pathlib import Path

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from physicsnemo import Module
from physicsnemo.models.rnn import One2ManyRNN, Seq2SeqRNN

SMALL = {"input_channels": 2, "nr_latent_channels": 4, "nr_residual_blocks": 1, "nr_tsteps": 3}
REFERENCE = Path(__file__).parent / "reference"
each_model = pytest.mark.parametrize("model_class", [One2ManyRNN, Seq2SeqRNN])


def names(levels, blocks):
    """Return the names of all layers with a weight and a bias."""
    block = ["conv_1.conv", "conv_2.conv"]
    level = ["0.trans_conv", *[f"{k}.{part}" for k in range(1, blocks + 1) for part in block]]
    return [
        *[f"encoder_layers.{k}.{part}" for k in range(levels * blocks) for part in block],
        *[f"rnn_layer.{part}" for part in block],
        *[f"conv_layers.{k}.conv" for k in range(levels)],
        *[f"decoder_layers.{k}.{part}" for k in range(levels) for part in level],
        *[f"upsampling_layers.{part}" for part in level],
        "final_conv",
    ]


@each_model
@pytest.mark.parametrize(("levels", "blocks"), [(1, 1), (2, 2), (3, 1)])
def test_names_and_what_no_output_depends_on(model_class, levels, blocks):
    model = model_class(2, 2, 4, blocks, nr_downsamples=levels, nr_tsteps=2)
    weights = [f"{name}.{part}" for name in names(levels, blocks) for part in ("weight", "bias")]
    assert sorted(model.state_dict()) == sorted(["device_buffer", *weights])
    frozen = {name.rsplit(".", 1)[0] for name, p in model.named_parameters() if not p.requires_grad}
    last = f"decoder_layers.{levels - 1}."
    assert frozen == {
        *[name for name in names(levels, blocks) if name.startswith(last)],
        *[f"conv_layers.{k}.conv" for k in range(levels - 1)],
    }


def test_blocks_share_the_parameter_of_an_activation():
    model = Seq2SeqRNN(**SMALL, activation_fn="prelu")
    encoder, decoder = ("encoder_layers.0", "encoder_layers.1"), ("decoder_layers.0.1",)
    unused = ("decoder_layers.1.1", "upsampling_layers.1")
    slopes = [f"{block}.activation_fn.weight" for block in (*encoder, *decoder, *unused)]
    assert [name for name in model.state_dict() if name.endswith("activation_fn.weight")] == slopes
    (slope,) = [p for name, p in model.named_parameters() if name in slopes]
    model(torch.randn(1, 2, 3, 4, 4)).sum().backward()
    assert slope.grad.any()


def test_data_parallel_training_needs_no_search_for_unused_parameters(tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = DistributedDataParallel(One2ManyRNN(**SMALL))
        for _ in range(2):  # a second step fails if the first one left a parameter without gradient
            model(torch.randn(1, 2, 1, 4, 4)).sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("folder", ["One2ManyRNN__2d", "Seq2SeqRNN__2d"])
def test_files_of_the_reference_implementation_mean_its_numerics(folder, tmp_path):
    model = Module.from_checkpoint(REFERENCE / folder / "reference.mdlus")
    assert model.encoder_layers[1].conv_1.swaps_pads
    assert model.decoder_layers[0][0].cuts_short
    model.save(tmp_path / "again.mdlus")
    with tarfile.open(tmp_path / "again.mdlus") as file:
        assert "numerics" not in json.load(file.extractfile("args.json"))["__args__"]


@each_model
@pytest.mark.parametrize("numerics", ["paper", "reference-1.2", "reference-2.1"])
def test_numerics_in_a_file(model_class, numerics, tmp_path):
    model_class(**SMALL, numerics=numerics).save(tmp_path / "model.mdlus")
    same = Module.from_checkpoint(tmp_path / "model.mdlus")
    assert same._args["__args__"]["numerics"] == numerics
