# SPDX-License-Identifier: Apache-2.0
"""What preconditioners take as noise levels and labels, and what they refuse."""

import math
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from physicsnemo.models.diffusion import EDMPrecond, SongUNet, VEPrecond_dfsr, VPPrecond

CASES = runpy.run_path(str(Path(__file__).with_name("cases_preconditioning.py")))["CASES"]
NOISY = [case for case in CASES if "UNet" not in case.model]
SMALL = {"model_channels": 8, "channel_mult": [1, 1], "num_blocks": 1, "attn_resolutions": []}
FIELDS = {"img_resolution": 8, "img_channels": 2, "model_type": "SongUNet", **SMALL}
X = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
each_preconditioner = pytest.mark.parametrize("case", NOISY, ids=str)
pytestmark = pytest.mark.filterwarnings("ignore:EDMPrecondSR:DeprecationWarning")


def denoised(case, sigma, **options):
    """Return what a preconditioner makes of its example at other noise levels."""
    torch.manual_seed(0)
    inputs = [it for it in case.inputs() if it.ndim == 4]
    return case.build().eval()(*inputs, sigma, **options)


NO_NUMBERS = {
    "none": (None, "a tensor, got a NoneType"),
    "list": ([1.0, 2.0], "a tensor, got a list"),
    "numpy": (np.ones(2, np.float32), "a tensor, got a ndarray"),
    "text": ("2.0", "a tensor, got a str"),
    "truth": (True, "a tensor, got a bool"),
    "complex": (2 + 1j, "a tensor, got a complex"),
    "truths": (torch.tensor([True, True]), "real numbers, got torch.bool"),
    "complexes": (torch.tensor([1 + 1j, 2]), "real numbers, got torch.complex64"),
    "sparse": (torch.ones(2).to_sparse(), "dense tensor, got layout torch.sparse_coo"),
}


@each_preconditioner
@pytest.mark.parametrize(("sigma", "message"), NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_no_real_numbers(case, sigma, message):
    with pytest.raises(TypeError, match=f"expected sigma .*{message}"):
        denoised(case, sigma)


@each_preconditioner
@pytest.mark.parametrize("level", [-1.0, math.nan, math.inf, -math.inf, -2])
def test_numbers_that_are_no_level(case, level):
    for sigma in (level, torch.tensor(level), torch.tensor([1, level])):
        with pytest.raises(ValueError, match=f"sigma, the noise level, .*got {level}"):
            denoised(case, sigma)


@each_preconditioner
def test_no_noise(case):
    if "dfsr" in case.model:  # whose levels are numbers of steps
        torch.testing.assert_close(denoised(case, 0), denoised(case, torch.zeros(2)))
        return
    for sigma in (0, 0.0, torch.tensor([1.0, 0.0])):
        with pytest.raises(ValueError, match="finite number above 0, got 0"):
            denoised(case, sigma)


@each_preconditioner
def test_levels_on_another_device(case):
    with pytest.raises(ValueError, match="sigma is on meta and the model on cpu"):
        denoised(case, torch.ones(2, device="meta"))


@each_preconditioner
def test_whole_numbers(case):
    expected = denoised(case, torch.tensor([2.0, 2.0]))
    for sigma in (2, np.float32(2), np.int64(2), torch.tensor(2), torch.tensor([2, 2])):
        torch.testing.assert_close(denoised(case, sigma), expected)


def test_values_are_not_looked_at_on_other_devices():
    """A tensor without values stands for one whose values are still being computed."""
    net = EDMPrecond(**FIELDS).to("meta")
    assert net(X.to("meta"), torch.ones(2, device="meta")).shape == X.shape


def test_values_are_not_looked_at_by_transforms():
    net = VPPrecond(**FIELDS).eval()
    sigma = torch.tensor([[0.5], [3.0]])
    together = torch.func.vmap(net)(X[:, None], sigma)
    torch.testing.assert_close(together[:, 0], net(X, sigma[:, 0]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.ones(2, 3, dtype=torch.complex64), TypeError, "real numbers, got torch.complex64"),
        ([[1.0, 0, 0]], TypeError, "a tensor, got a list"),
        (torch.ones(2, 3).to_sparse(), TypeError, "dense tensor"),
        (torch.ones(2, 3, device="meta"), ValueError, "is on meta and the model on cpu"),
    ],
)
def test_bad_labels(labels, error, message):
    with pytest.raises(error, match=f"class_labels .*{message}"):
        VPPrecond(**FIELDS, label_dim=3)(X, 1.0, labels)
    network = SongUNet(8, 2, 2, label_dim=3, **SMALL)
    with pytest.raises(error, match=f"class_labels .*{message}"):
        network(X, torch.ones(2), labels)


def test_labels_may_be_truth_values():
    torch.manual_seed(0)
    net = VPPrecond(**FIELDS, label_dim=3).eval()
    net.model.map_label.weight.data.normal_()
    labels = torch.eye(3)[:2]
    torch.testing.assert_close(net(X, 1.0, labels.bool()), net(X, 1.0, labels))
    torch.testing.assert_close(
        net.model(X, torch.ones(2), labels.bool()), net.model(X, torch.ones(2), labels)
    )


def test_conditions_may_be_masks_and_whole_numbers():
    net = EDMPrecond(**FIELDS, img_in_channels=3).eval()
    mask = X[:, :1] > 0
    torch.testing.assert_close(net(X, 1.0, mask), net(X, 1.0, mask.float()))
    torch.testing.assert_close(net(X, 1.0, mask.int()), net(X, 1.0, mask.float()))


@pytest.mark.parametrize(
    ("levels", "error", "message"),
    [
        (torch.tensor([True, False]), TypeError, "noise_labels of real numbers, got torch.bool"),
        (torch.tensor([1j, 2]), TypeError, "noise_labels of real numbers, got torch.complex64"),
        ([1.0, 2.0], TypeError, "noise_labels to be a tensor, got a list"),
        (torch.ones(2, device="meta"), ValueError, "noise_labels is on meta"),
    ],
)
def test_what_a_network_is_told_of_the_noise(levels, error, message):
    with pytest.raises(error, match=message):
        SongUNet(8, 2, 2, **SMALL)(X, levels)


def test_half_precision_weights_compute_in_single_precision_on_a_cpu():
    """As nvidia-physicsnemo does; only what the weights lost differs."""
    torch.manual_seed(0)
    net = VEPrecond_dfsr(**FIELDS, numerics="reference-1.2").half().eval()
    exact = VEPrecond_dfsr(**FIELDS, numerics="reference-1.2").eval()
    exact.load_state_dict({name: it.float() for name, it in net.state_dict().items()})
    torch.testing.assert_close(net(X, 5), exact(X, 5), rtol=1e-6, atol=1e-6)
