# SPDX-License-Identifier: Apache-2.0
"""Diffusion models around networks of other families: files, training and sampling."""

import pytest
import torch

from physicsnemo import Module
from physicsnemo.diffusion import EDM, VP, DenoisingLoss, Diffusion, sample
from physicsnemo.models.afno import AFNO
from physicsnemo.models.fno import FNO

NETWORKS = {
    "FNO": lambda: FNO(
        in_channels=1 + 1 + 2,
        out_channels=1,
        latent_channels=4,
        num_fno_modes=3,
        num_fno_layers=1,
        padding=1,
    ),
    "AFNO": lambda: AFNO(
        inp_shape=[8, 8],
        in_channels=4,
        out_channels=1,
        patch_size=[2, 2],
        embed_dim=8,
        depth=1,
        num_blocks=2,
    ),
}


@pytest.mark.parametrize("schedule", [EDM(nu=6.0), VP()], ids=lambda it: type(it).__name__)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_of_another_family(name, schedule, tmp_path):
    model = Diffusion(NETWORKS[name](), schedule)
    condition = torch.randn(3, 2, 8, 8)
    DenoisingLoss(model)(torch.randn(3, 1, 8, 8), condition).backward()
    assert all(weight.grad is not None for weight in model.parameters())
    model.save(tmp_path / "model.mdlus")
    same = Module.from_checkpoint(tmp_path / "model.mdlus")
    noise = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        one, other = (sample(it.eval(), noise, condition, steps=3) for it in (model, same))
    torch.testing.assert_close(one, other)
    assert (same.schedule, type(same.network)) == (schedule, type(model.network))
