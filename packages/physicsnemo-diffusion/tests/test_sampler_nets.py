# SPDX-License-Identifier: Apache-2.0
"""What samplers hand to nets: conditioning, labels, patches."""

import functools

import pytest
import torch
from torch import nn

from physicsnemo.utils.diffusion import deterministic_sampler, stochastic_sampler
from physicsnemo.utils.patching import GridPatching2D

SAMPLERS = [deterministic_sampler, stochastic_sampler]

each_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


def fields(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


LATENTS, IMAGE, MEAN = fields(2, 1, 11, 14), fields(2, 1, 11, 14, seed=1), fields(1, 1, 11, 14)
PATCHINGS = [
    GridPatching2D((11, 14), (6, 8)),
    GridPatching2D((11, 14), (6, 8), overlap_pix=2, boundary_pix=1),
]


def pixelwise(x, img_lr, sigma):
    """Denoise each pixel by itself; further channels of the image are of no account."""
    return torch.tanh(x + img_lr[:, :1]) / (1 + sigma)


def with_condition(x, sigma, condition=None):
    return pixelwise(x, condition, sigma)


class Wrapper(nn.Module):
    """A module that hands arguments on, as preconditioners do."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, img_lr, sigma, **model_kwargs):
        return self.model(x, img_lr, sigma, **model_kwargs)


class Plain(nn.Module):
    def forward(self, x, img_lr, sigma):
        return pixelwise(x, img_lr, sigma)


FORMS = {
    "function": pixelwise,
    "partial": functools.partial(pixelwise),
    "named condition": with_condition,
    "module": Plain(),
    "wrapper": Wrapper(Plain()),
    "compiled": torch.compile(Plain(), backend="eager"),
    "data parallel": nn.DataParallel(Plain()),
}


@each_sampler
@pytest.mark.parametrize("net", FORMS.values(), ids=FORMS)
def test_every_form_of_a_net_serves(sampler, net):
    expected = sampler(pixelwise, LATENTS, IMAGE, num_steps=3)
    torch.testing.assert_close(sampler(net, LATENTS, IMAGE, num_steps=3), expected)


@each_sampler
@pytest.mark.parametrize("patching", PATCHINGS)
@pytest.mark.parametrize("net", FORMS.values(), ids=FORMS)
def test_patches_give_what_the_whole_image_gives(sampler, net, patching):
    whole = sampler(pixelwise, LATENTS, IMAGE, num_steps=3)
    patched = sampler(net, LATENTS, IMAGE, patching=patching, num_steps=3)
    torch.testing.assert_close(patched, whole)


@pytest.mark.parametrize("patching", [None, *PATCHINGS])
def test_an_image_is_not_needed(patching):
    def net(x, sigma):
        return torch.tanh(x) / (1 + sigma)

    def positional(x, img_lr, sigma):
        assert img_lr is None
        return net(x, sigma)

    expected = deterministic_sampler(net, LATENTS)
    for form in (net, positional, lambda x, sigma, condition=None: net(x, sigma)):
        found = deterministic_sampler(form, LATENTS, patching=patching)
        torch.testing.assert_close(found, expected)


def test_vectors_and_volumes_can_be_sampled():
    for shape in [(5, 3), (2, 1, 4), (2, 1, 3, 4, 5)]:
        samples = deterministic_sampler(pixelwise, fields(*shape), fields(*shape, seed=1))
        assert samples.shape == shape


@each_sampler
@pytest.mark.parametrize("patching", [None, *PATCHINGS])
def test_the_mean_comes_before_the_image(sampler, patching):
    channels = 2 if patching is None else 3

    def net(x, img_lr, sigma):
        assert img_lr.shape[1] == channels
        mean, image = img_lr[:, :1], img_lr[:, 1:2]
        return (torch.tanh(x + image) + 2 * mean) / (1 + sigma)

    def whole(x, img_lr, sigma):
        return (torch.tanh(x + IMAGE) + 2 * MEAN) / (1 + sigma)

    expected = sampler(whole, LATENTS, IMAGE, num_steps=3)
    found = sampler(net, LATENTS, IMAGE, mean_hr=MEAN, patching=patching, num_steps=3)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("patching", [None, PATCHINGS[0]])
def test_the_mean_may_be_all_of_the_image(patching):
    found = deterministic_sampler(pixelwise, LATENTS, mean_hr=MEAN, patching=patching)
    expected = deterministic_sampler(pixelwise, LATENTS, MEAN.expand(2, -1, -1, -1))
    torch.testing.assert_close(found, expected)


def test_each_patch_gets_the_whole_image_too():
    patching = PATCHINGS[1]
    expected = patching.apply(IMAGE, additional_input=IMAGE)

    def net(x, img_lr, sigma):
        assert torch.equal(img_lr, expected)
        return x

    deterministic_sampler(net, LATENTS, IMAGE, patching=patching, num_steps=1)


@each_sampler
@pytest.mark.parametrize("patching", [None, *PATCHINGS])
def test_labels_stay_with_their_samples(sampler, patching):
    labels = torch.tensor([[1.0], [5.0]], dtype=torch.float64)

    def net(x, img_lr, sigma, class_labels, **others):
        return torch.tanh(x * class_labels[:, :, None, None]) / (1 + sigma)

    def whole(x, img_lr, sigma):
        return torch.tanh(x * labels[:, :, None, None]) / (1 + sigma)

    found = sampler(net, LATENTS, class_labels=labels, patching=patching, num_steps=3)
    torch.testing.assert_close(found, sampler(whole, LATENTS, num_steps=3))


@pytest.mark.parametrize("patching", PATCHINGS)
def test_the_selector_cuts_maps_as_states_are_cut(patching):
    grid = fields(1, 11, 14, seed=3)

    class Located(nn.Module):
        def forward(self, x, img_lr, sigma, embedding_selector=None):
            place = embedding_selector(grid)
            return torch.tanh(x + place) / (1 + sigma)

    def whole(x, img_lr, sigma):
        return torch.tanh(x + grid) / (1 + sigma)

    expected = deterministic_sampler(whole, LATENTS, num_steps=3)
    for net in (Located(), Wrapper(Located())):
        found = deterministic_sampler(net, LATENTS, patching=patching, num_steps=3)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("patching", [None, PATCHINGS[0]])
def test_a_net_is_given_what_there_is_and_no_more(patching):
    seen = {}

    def net(x, img_lr, sigma, **others):
        seen.update(others)
        return x

    deterministic_sampler(net, LATENTS, patching=patching, num_steps=1)
    assert seen.keys() == ({"embedding_selector"} if patching else set())
    lead_time = torch.tensor([3, 4])
    deterministic_sampler(net, LATENTS, lead_time_label=lead_time, patching=patching, num_steps=1)
    assert seen["lead_time_label"] is lead_time


@each_sampler
def test_progress_is_shown_on_request(sampler, capsys):
    sampler(pixelwise, LATENTS, IMAGE, num_steps=3)
    assert capsys.readouterr().out == ""
    quiet = sampler(pixelwise, LATENTS, IMAGE, num_steps=3)
    shown = sampler(pixelwise, LATENTS, IMAGE, num_steps=3, progress=True)
    assert "100%" in capsys.readouterr().out
    assert torch.equal(quiet, shown)
