# SPDX-License-Identifier: Apache-2.0
"""What scripts for nvidia-physicsnemo 2.2 do with its import paths, one of each family.

No script uses a path of this project alone.
"""

from dataclasses import dataclass

import torch
from torch import nn


def test_a_network_of_layers_learns_a_wave_and_comes_back_from_its_file(tmp_path):
    from physicsnemo.core import ModelMetaData, Module
    from physicsnemo.nn import DGMLayer, FourierLayer, SirenLayer
    from physicsnemo.nn.module.siren_layers import SirenLayerType
    from physicsnemo.utils import load_checkpoint, save_checkpoint

    @dataclass
    class MetaData(ModelMetaData):
        jit: bool = False

    class Wave(Module):
        def __init__(self, width: int = 32):
            super().__init__(meta=MetaData())
            self.features = FourierLayer(1, ("axis", [0.5, 1.0]))
            self.gate = DGMLayer(1, self.features.out_features(), width, "tanh")
            self.hidden = SirenLayer(width, width, omega_0=5.0)
            self.last = SirenLayer(width, 1, SirenLayerType.LAST, omega_0=5.0)

        def forward(self, x):
            return self.last(self.hidden(self.gate(x, self.features(x))))

    torch.manual_seed(0)
    model = Wave()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    x = torch.linspace(-1, 1, 64)[:, None]
    target = torch.sin(torch.pi * x)
    for _ in range(100):
        loss = nn.functional.mse_loss(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01 * target.var().item()

    save_checkpoint(tmp_path / "training", models=model, optimizer=optimizer, epoch=100)
    again = Wave()
    assert load_checkpoint(tmp_path / "training", models=again) == 100
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)


def test_operators():
    from physicsnemo.models.afno import AFNO
    from physicsnemo.models.fno import FNO
    from physicsnemo.nn import AFNO2DLayer, AFNOMlp, SpectralConv2d

    x = torch.randn(2, 3, 16, 16)
    operator = FNO(3, 1, dimension=2, latent_channels=8, num_fno_layers=2, num_fno_modes=4)
    assert operator(x).shape == (2, 1, 16, 16)
    assert SpectralConv2d(3, 5, 4, 4)(x).shape == (2, 5, 16, 16)
    arguments = {"patch_size": [4, 4], "embed_dim": 16, "depth": 1, "num_blocks": 2}
    operator = AFNO([16, 16], 3, 1, **arguments)
    assert {AFNO2DLayer, AFNOMlp} <= {type(module) for module in operator.modules()}


def test_graphs():
    from physicsnemo.models.meshgraphnet import MeshGraphNet
    from physicsnemo.nn.module.gnn_layers.mesh_edge_block import MeshEdgeBlock
    from physicsnemo.nn.module.gnn_layers.mesh_graph_mlp import MeshGraphMLP

    model = MeshGraphNet(4, 3, 2, processor_size=2, hidden_dim_processor=8)
    assert isinstance(model.node_decoder, MeshGraphMLP)
    assert any(isinstance(module, MeshEdgeBlock) for module in model.modules())


def test_recurrent_networks():
    from physicsnemo.models.rnn import One2ManyRNN
    from physicsnemo.nn import ConvGRULayer

    model = One2ManyRNN(2, dimension=2, nr_latent_channels=4, nr_tsteps=3, nr_downsamples=1)
    assert any(isinstance(module, ConvGRULayer) for module in model.modules())
    assert model(torch.randn(1, 2, 1, 8, 8)).shape == (1, 2, 3, 8, 8)


def test_weather():
    from physicsnemo.models.dlwp_healpix.layers import ConvNeXtBlock
    from physicsnemo.nn import HEALPixAvgPool, HEALPixLayer
    from physicsnemo.nn.module.hpx import HEALPixPadding

    faces = torch.randn(12, 3, 4, 4)
    assert HEALPixAvgPool(pooling=2)(faces).shape == (12, 3, 2, 2)
    assert HEALPixPadding(1)(faces).shape == (12, 3, 6, 6)
    block = ConvNeXtBlock(in_channels=3, out_channels=3)
    assert any(isinstance(module, HEALPixLayer) for module in block.modules())
    assert block(faces).shape == faces.shape


def test_diffusion(tmp_path):
    from physicsnemo import Module
    from physicsnemo.diffusion.metrics import EDMLoss
    from physicsnemo.diffusion.preconditioners import EDMPrecond, EDMPrecondSuperResolution
    from physicsnemo.diffusion.samplers import deterministic_sampler
    from physicsnemo.diffusion.utils import StackedRandomGenerator
    from physicsnemo.models.diffusion_unets import SongUNet
    from physicsnemo.nn import UNetAttention, UNetBlock

    network = {
        "model_type": "SongUNet",
        "model_channels": 8,
        "channel_mult": [1, 1],
        "num_blocks": 1,
        "attn_resolutions": [4],
    }
    model = EDMPrecond(8, 2, **network)
    assert {SongUNet, UNetAttention, UNetBlock} <= {type(module) for module in model.modules()}
    EDMLoss()(model, torch.randn(2, 2, 8, 8)).mean().backward()
    assert all(weight.grad is not None for weight in model.parameters())

    model = EDMPrecondSuperResolution(8, 3, 2, **network).eval()
    model.save(tmp_path / "model.mdlus")
    again = Module.from_checkpoint(tmp_path / "model.mdlus").eval()
    assert type(again) is EDMPrecondSuperResolution
    noise = StackedRandomGenerator("cpu", [0, 1]).randn([2, 2, 8, 8])
    coarse = torch.randn(2, 3, 8, 8)
    samples = [deterministic_sampler(it, noise, coarse, num_steps=2) for it in (model, again)]
    assert samples[0].shape == noise.shape
    torch.testing.assert_close(*samples, rtol=0, atol=0)
