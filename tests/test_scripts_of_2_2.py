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


def test_diffusion_by_schedulers(tmp_path):
    from functools import partial

    from physicsnemo.diffusion import Denoiser, DiffusionModel, Predictor
    from physicsnemo.diffusion.guidance import DataConsistencyDPSGuidance, DPSScorePredictor
    from physicsnemo.diffusion.metrics import MSEDSMLoss, WeightedMSEDSMLoss
    from physicsnemo.diffusion.noise_schedulers import EDMNoiseScheduler, NoiseScheduler
    from physicsnemo.diffusion.preconditioners import EDMPreconditioner
    from physicsnemo.diffusion.samplers import sample
    from physicsnemo.diffusion.utils import ConcatConditionWrapper
    from physicsnemo.models.diffusion_unets import SongUNet

    torch.manual_seed(0)
    small = {"model_channels": 8, "channel_mult": [1, 1], "num_blocks": 1}
    network = SongUNet(8, 2 + 1, 2, **small, attn_resolutions=[])
    model = EDMPreconditioner(ConcatConditionWrapper(network), sigma_data=1.0)
    scheduler = EDMNoiseScheduler(sigma_data=1.0)
    assert isinstance(model, DiffusionModel)
    assert isinstance(scheduler, NoiseScheduler)
    fields, coarse = torch.ones(8, 2, 8, 8), torch.randn(8, 1, 8, 8)
    loss_function = MSEDSMLoss(model, scheduler)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = loss_function(fields, condition=coarse)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    weight = torch.zeros_like(fields)
    assert WeightedMSEDSMLoss(model, scheduler)(fields, weight, condition=coarse).item() == 0

    model.save(tmp_path / "model.mdlus")
    model = EDMPreconditioner.from_checkpoint(tmp_path / "model.mdlus").eval()
    predictor = partial(model, condition=coarse[:3])
    assert isinstance(predictor, Predictor)
    denoiser = scheduler.get_denoiser(x0_predictor=predictor)
    assert isinstance(denoiser, Denoiser)
    t_steps = scheduler.timesteps(6)
    latents = scheduler.init_latents((2, 8, 8), t_steps[0].expand(3))
    with torch.no_grad():
        plain = sample(denoiser, latents, scheduler, num_steps=6)
        options = {"S_churn": 5, "num_steps": 6}
        churned = sample(
            denoiser, latents, scheduler, 6, solver="edm_stochastic_heun", solver_options=options
        )
    assert plain.shape == churned.shape == (3, 2, 8, 8)
    assert torch.isfinite(churned).all()

    mask = torch.zeros(3, 2, 8, 8, dtype=torch.bool)
    mask[:, :, ::2] = True
    observations = torch.full((3, 2, 8, 8), 2.0)
    guidance = DataConsistencyDPSGuidance(
        mask, observations, std_y=0.2, gamma=0.5, sigma_fn=scheduler.sigma, alpha_fn=scheduler.alpha
    )
    score = DPSScorePredictor(predictor, scheduler.x0_to_score, guidance)
    denoiser = scheduler.get_denoiser(score_predictor=score)
    with torch.no_grad():
        guided = sample(denoiser, latents, scheduler, num_steps=6)
    away = [(it - observations)[mask].abs().mean().item() for it in (plain, guided)]
    assert away[1] < 0.9 * away[0]


def test_diffusion_of_patches(tmp_path):
    from physicsnemo.diffusion.multi_diffusion import (
        MultiDiffusionDataConsistencyDPSGuidance,
        MultiDiffusionDPSScorePredictor,
        MultiDiffusionModel2D,
        MultiDiffusionMSEDSMLoss,
        MultiDiffusionPredictor,
    )
    from physicsnemo.diffusion.noise_schedulers import VPNoiseScheduler
    from physicsnemo.diffusion.preconditioners import VPPreconditioner
    from physicsnemo.diffusion.samplers import EulerSolver, sample
    from physicsnemo.diffusion.utils import ConcatConditionWrapper
    from physicsnemo.models.diffusion_unets import SongUNet

    torch.manual_seed(0)
    network = SongUNet(8, 1 + 1, 1, model_channels=8, channel_mult=[1, 1], num_blocks=1)
    scheduler = VPNoiseScheduler(beta_d=19.9)
    model = MultiDiffusionModel2D(
        VPPreconditioner(ConcatConditionWrapper(network)), (16, 24), condition_patch=True
    )
    model.set_random_patching((8, 8), 3)
    loss_function = MultiDiffusionMSEDSMLoss(model, scheduler)
    loss_function(torch.randn(2, 1, 16, 24), condition=torch.randn(2, 1, 16, 24)).backward()
    assert all(weight.grad is not None for weight in network.parameters())
    model.save(tmp_path / "model.mdlus")

    model = MultiDiffusionModel2D.from_checkpoint(tmp_path / "model.mdlus").eval()
    coarse = torch.randn(2, 1, 16, 24)
    predictor = MultiDiffusionPredictor(model, condition=coarse, chunk_size=5)
    predictor.set_patching(2, 1)
    mask = torch.rand(2, 1, 16, 24) < 0.2
    guidance = MultiDiffusionDataConsistencyDPSGuidance(predictor, mask, coarse, std_y=0.5)
    score = MultiDiffusionDPSScorePredictor(predictor, scheduler.x0_to_score, guidance)
    latents = scheduler.init_latents((1, 16, 24), scheduler.timesteps(3)[0].expand(2))
    with torch.no_grad():
        denoiser = scheduler.get_denoiser(x0_predictor=predictor)
        plain = sample(denoiser, latents, scheduler, 3)
        solver = EulerSolver(scheduler.get_denoiser(score_predictor=score))
        guided = sample(None, latents, scheduler, 3, solver=solver)
    assert plain.shape == guided.shape == (2, 1, 16, 24)
    assert torch.isfinite(guided).all()
    assert not torch.equal(plain, guided)


def test_multilayer_perceptrons():
    from physicsnemo.core import ModelMetaData
    from physicsnemo.core.module import Module
    from physicsnemo.models.mlp import FullyConnected
    from physicsnemo.nn import FCLayer, Mlp

    model = FullyConnected(in_features=2, out_features=1, layer_size=16, num_layers=2)
    assert isinstance(model, Module)
    assert isinstance(model.meta, ModelMetaData)
    assert any(isinstance(module, FCLayer) for module in model.modules())
    torch.manual_seed(0)
    x = torch.rand(64, 2)
    target = x.prod(dim=1, keepdim=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        loss = nn.functional.mse_loss(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * target.var().item()
    assert Mlp(in_features=4, hidden_features=8, out_features=3)(torch.rand(2, 4)).shape == (2, 3)


def test_convolutional_networks(tmp_path):
    from physicsnemo.core import Module
    from physicsnemo.models.pix2pix import Pix2Pix
    from physicsnemo.models.srrn import SRResNet
    from physicsnemo.nn import Conv2dFCLayer

    x = torch.randn(1, 2, 16, 16)
    model = Pix2Pix(2, 3, dimension=2, conv_layer_size=4, n_downsampling=1, n_blocks=1).eval()
    model.save(tmp_path / "model.mdlus")
    again = Module.from_checkpoint(tmp_path / "model.mdlus").eval()
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)
    finer = SRResNet(2, 2, n_resid_blocks=1, conv_layer_size=4, scaling_factor=2)
    assert finer(torch.randn(1, 2, 4, 4, 4)).shape == (1, 2, 8, 8, 8)
    assert Conv2dFCLayer(2, 5)(x).shape == (1, 5, 16, 16)


def test_spherical_operators(tmp_path):
    from physicsnemo.core import ModelRegistry, Module

    make = ModelRegistry().factory("SFNO")
    shapes = {"inp_shape": (17, 32), "out_shape": (17, 32)}
    chosen = {"inp_chans": 3, "out_chans": 2, "embed_dim": 6, "num_layers": 2, "scale_factor": 2}
    model = make(**shapes, **chosen).eval()
    x = torch.randn(2, 3, 17, 32)
    assert model(x).shape == (2, 2, 17, 32)
    # Turned about the axis, the fields turn with it.
    torch.testing.assert_close(
        model(x.roll(4, dims=-1)), model(x).roll(4, dims=-1), rtol=1e-3, atol=1e-4
    )
    model.save(tmp_path / "model.mdlus")
    again = Module.from_checkpoint(tmp_path / "model.mdlus").eval()
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)
