# SPDX-License-Identifier: Apache-2.0
"""Networks that know where and when a pixel is: their grids, patches, lead times, classes."""

import math

import pytest
import torch

from physicsnemo.models.diffusion import SongUNetPosEmbd, SongUNetPosLtEmbd

SIZE = HEIGHT, WIDTH = 8, 12
SMALL = {
    "img_resolution": list(SIZE),
    "in_channels": 7,
    "out_channels": 3,
    "model_channels": 4,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [],
}
X = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
NOISE = torch.tensor([0.3, -1.2])
ROWS, COLUMNS = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
PIXELS = torch.stack((ROWS, COLUMNS))
# Three patches of 4 by 6 pixels.
INDEX = torch.stack([PIXELS[:, y : y + 4, x : x + 6] for y, x in ((0, 0), (3, 5), (4, 1))])


def positions(**options):
    return SongUNetPosEmbd(**SMALL | options).eval()


def timed(numerics="paper", **options):
    """Return a model with two channels of positions and two of four lead times."""
    grid = {"gridtype": "learnable", "N_grid_channels": 2}
    times = {"lead_time_channels": 2, "lead_time_steps": 4}
    return SongUNetPosLtEmbd(**SMALL | grid | times | options, numerics=numerics).eval()


def test_sinusoidal_grid_of_four():
    grid = positions().pos_embd
    for y, x in ((0, 0), (3, 7), (7, 11)):
        fy, fx = 2 * math.pi * y / (HEIGHT - 1), 2 * math.pi * x / (WIDTH - 1)
        expected = [math.sin(fy), math.sin(fx), math.cos(fy), math.cos(fx)]
        assert grid[:, y, x].tolist() == pytest.approx(expected, abs=1e-5)


def test_sinusoidal_grid_of_twelve():
    grid = positions(N_grid_channels=12, in_channels=15).pos_embd
    y, x = 3, 7
    fy, fx = 2 * math.pi * y / (HEIGHT - 1), 2 * math.pi * x / (WIDTH - 1)
    expected = []
    for frequency in (1, 2**1.5, 2**3):
        expected += [math.sin(frequency * fx), math.sin(frequency * fy)]
        expected += [math.cos(frequency * fx), math.cos(frequency * fy)]
    assert grid[:, y, x].tolist() == pytest.approx(expected, abs=1e-4)


def test_linear_grid():
    grid = positions(gridtype="linear", N_grid_channels=2).pos_embd
    torch.testing.assert_close(grid[0], (2 * COLUMNS / (WIDTH - 1) - 1))
    torch.testing.assert_close(grid[1], (2 * ROWS / (HEIGHT - 1) - 1))


def test_grid_of_indices():
    grid = positions(gridtype="test", N_grid_channels=2).pos_embd
    torch.testing.assert_close(grid, PIXELS.float())


def test_learnable_grid():
    model = positions(gridtype="learnable", N_grid_channels=3)
    assert isinstance(model.pos_embd, torch.nn.Parameter)
    assert model.pos_embd.shape == (3, *SIZE)
    assert model.pos_embd.std().item() == pytest.approx(1, rel=0.2)


def test_no_grid():
    model = positions(gridtype="learnable", N_grid_channels=0, in_channels=3)
    assert model.pos_embd is None
    assert not [key for key in model.state_dict() if "embd" in key]
    assert model(X, NOISE, None).shape == (2, 3, *SIZE)


def test_grids_that_are_not_learned_are_stored():
    model = positions()
    assert "pos_embd" in model.state_dict()
    assert "pos_embd" not in dict(model.named_parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gridtype": "polar"}, "gridtype to be one of sinusoidal, .*, got 'polar'"),
        ({"N_grid_channels": 6}, "multiple of 4 for gridtype='sinusoidal', got 6"),
        (
            {"gridtype": "sinusoidal_octave", "N_grid_channels": 6},
            "multiple of 4 for gridtype='sinusoidal_octave', got 6",
        ),
        ({"gridtype": "linear"}, "N_grid_channels=2 for gridtype='linear', got 4"),
        ({"gridtype": "test"}, "N_grid_channels=2 for gridtype='test', got 4"),
        ({"prob_channels": [0, 3]}, r"prob_channels between 0 and 2, .*, got \[0, 3\]"),
        ({"prob_channels": [-4]}, r"prob_channels between 0 and 2, .*, got \[-4\]"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        positions(**options)


def test_whole_images_see_the_whole_grid():
    model = positions()
    embedded = model.positional_embedding_indexing(X.double())
    assert embedded.dtype == torch.float64
    torch.testing.assert_close(embedded.float(), model.pos_embd.expand(2, -1, -1, -1))


@pytest.mark.parametrize("numerics", ["paper", "reference-1.2"])
def test_patches_see_their_part_of_the_grid(numerics):
    model = positions(gridtype="test", N_grid_channels=2, in_channels=5, numerics=numerics)
    batch = X.new_zeros(6, 3, 4, 6)
    embedded = model.positional_embedding_indexing(batch, INDEX.int())
    # Patch by patch, both images of each; image by image in the reference.
    order = [0, 0, 1, 1, 2, 2] if numerics == "paper" else [0, 1, 2, 0, 1, 2]
    torch.testing.assert_close(embedded, INDEX[order].float())


@pytest.mark.parametrize("numerics", ["paper", "reference-1.2"])
def test_lead_times(numerics):
    model, labels = timed(numerics), torch.tensor([3, 1])
    embedded = model.positional_embedding_indexing(X, lead_time_label=labels)
    torch.testing.assert_close(embedded[:, :2], model.pos_embd.expand(2, -1, -1, -1))
    torch.testing.assert_close(embedded[:, 2:], model.lt_embd[labels])


@pytest.mark.parametrize("numerics", ["paper", "reference-2.1"])
def test_lead_times_of_patches(numerics):
    model, labels = timed(numerics), torch.tensor([3, 1])
    embedded = model.positional_embedding_indexing(X.new_zeros(6, 3, 4, 6), INDEX, labels)
    assert embedded.shape == (6, 4, 4, 6)
    for sample in range(6):
        patch, image = divmod(sample, 2) if numerics == "paper" else divmod(sample, 3)[::-1]
        rows, columns = INDEX[patch]
        torch.testing.assert_close(embedded[sample, :2], model.pos_embd[:, rows, columns])
        step = model.lt_embd[labels[image]]
        torch.testing.assert_close(embedded[sample, 2:], step[:, rows, columns])


def cut(images=2):
    """Return a function that cuts the patches of INDEX, each for so many images."""

    def selector(fields):
        rows, columns = INDEX.unbind(1)
        return fields[:, rows, columns].movedim(1, 0).repeat_interleave(images, dim=0)

    return selector


def test_a_function_cuts_what_indices_do():
    model = timed()
    batch = X.new_zeros(6, 3, 4, 6)
    for labels in (torch.tensor([3, 1]), torch.tensor([2])):
        by_index = model.positional_embedding_indexing(batch, INDEX, labels)
        by_function = model.positional_embedding_selector(batch, cut(), labels)
        torch.testing.assert_close(by_function, by_index, atol=0, rtol=0)
    plain = positions()
    torch.testing.assert_close(
        plain.positional_embedding_selector(batch, cut()),
        plain.positional_embedding_indexing(batch, INDEX),
    )


def test_one_lead_time_for_all_in_the_reference():
    model = timed("reference-1.2")
    batch = X.new_zeros(6, 3, 4, 6)
    embedded = model.positional_embedding_selector(batch, cut(), torch.tensor([3, 1]))
    expected = model.positional_embedding_selector(batch, cut(), torch.tensor([3]))
    torch.testing.assert_close(embedded, expected, atol=0, rtol=0)


def test_a_network_of_patches_is_that_of_images_with_more_channels():
    model = timed()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    batch, labels = torch.randn(6, 3, 4, 6), torch.tensor([3, 1])
    output = model(batch, NOISE[:1], None, labels, global_index=INDEX)
    torch.testing.assert_close(
        model(batch, NOISE[:1], None, labels, embedding_selector=cut()), output
    )
    fields = model.positional_embedding_indexing(batch, INDEX, labels)
    plain = super(SongUNetPosEmbd, model).forward(torch.cat((batch, fields), 1), NOISE[:1], None)
    torch.testing.assert_close(output, plain)
    other = model(batch, NOISE[:1], None, labels.flip(0), global_index=INDEX)
    assert (other - output).abs().max() > 1e-3


def test_both_classes_are_one_network():
    lead_times = timed(prob_channels=[0, 2])
    both = positions(
        gridtype="learnable",
        N_grid_channels=2,
        lead_time_mode=True,
        lead_time_channels=2,
        lead_time_steps=4,
        prob_channels=[0, 2],
    )
    both.load_state_dict(lead_times.state_dict())
    labels = torch.tensor([3, 1])
    torch.testing.assert_close(
        both(X, NOISE, None, lead_time_label=labels), lead_times(X, NOISE, None, labels)
    )


def test_probabilities():
    model = timed(prob_channels=[0, 2], dropout=0.0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    plain = timed(dropout=0.0)
    plain.load_state_dict(model.state_dict(), strict=False)
    labels = torch.tensor([3, 1])
    raw = plain(X, NOISE, None, labels)
    logits = raw[:, [0, 2]] * model.scalar
    evaluated = model(X, NOISE, None, labels)
    torch.testing.assert_close(evaluated[:, [0, 2]], logits.softmax(dim=1))
    torch.testing.assert_close(evaluated[:, [0, 2]].sum(1), torch.ones(2, *SIZE))
    trained = model.train()(X, NOISE, None, labels)
    torch.testing.assert_close(trained[:, [0, 2]], logits)
    for output in (evaluated, trained):
        torch.testing.assert_close(output[:, 1], raw[:, 1])


@pytest.mark.parametrize("gridtype", ["sinusoidal", "learnable"])
def test_gradients_reach_grids_that_learn(gridtype):
    model = positions(gridtype=gridtype)
    model(X, NOISE, None).square().sum().backward()
    if gridtype == "learnable":
        assert model.pos_embd.grad.abs().min() > 0
    else:
        assert model.pos_embd.grad is None


def test_it_compiles_without_graph_breaks():
    model = timed(prob_channels=[0, 2])
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    batch, labels = torch.randn(6, 3, 4, 6), torch.tensor([3, 1])
    inputs = (batch, NOISE[:1], None, labels, INDEX)
    torch.testing.assert_close(compiled(*inputs), model(*inputs))
    by_function = (batch, NOISE[:1], None, labels, None, cut())
    torch.testing.assert_close(compiled(*by_function), model(*by_function))


def test_indices_and_a_function():
    with pytest.raises(ValueError, match="global_index or embedding_selector, got both"):
        positions()(X, NOISE, None, INDEX, cut())


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (INDEX.tolist(), TypeError, "global_index to be a tensor, got a list"),
        (INDEX > 0, TypeError, "global_index of real numbers, got torch.bool"),
        (INDEX + 0j, TypeError, "global_index of real numbers, got torch.complex64"),
        (INDEX.to("meta"), ValueError, "global_index is on meta"),
        (INDEX[0], ValueError, r"shape \(patches, 2, height, width\), .*got \(2, 4, 6\)"),
        (INDEX + 1, ValueError, "rows in global_index from 0 to 7, .*8 by 12, got 8"),
        (INDEX - 1, ValueError, "rows in global_index from 0 to 7, .* got -1"),
    ],
)
def test_bad_indices(index, error, message):
    with pytest.raises(error, match=message):
        positions()(torch.randn(3, 3, 4, 6), NOISE[:1], None, index)


@pytest.mark.parametrize("batch", [2, 4])
def test_a_batch_that_does_not_match_its_index(batch):
    x = torch.randn(batch, 3, 4, 6)
    with pytest.raises(ValueError, match=f"3 patches, .* got {batch}; is one of the patches empty"):
        positions()(x, NOISE[:1], None, INDEX)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[:, :2], "images of 3 channels, which with 4 of positions .* in_channels=7, got 2"),
        (X[..., :6], r"positions have shape \(2, 4, 8, 12\) and the images \(2, 3, 8, 6\)"),
    ],
)
def test_images_that_do_not_fit_the_grid(x, message):
    with pytest.raises(ValueError, match=message):
        positions()(x, NOISE, None)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (None, TypeError, "expected lead_time_label, .* got None"),
        (torch.tensor([1, 2, 3]), ValueError, r"shape \(images=2,\) or \(1,\), got \(3,\)"),
        (torch.tensor([[1, 2]]), ValueError, r"got \(1, 2\)"),
        (torch.tensor([1, 9]), ValueError, "indices from 0 to .*, got 9"),
        (torch.tensor([-1, 0]), ValueError, "indices from 0 to .*, got -1"),
        (torch.tensor([1 + 2j, 0]), TypeError, "lead_time_label of real numbers, got .*complex64"),
        (torch.tensor([True, False]), TypeError, "lead_time_label of real numbers, got .*bool"),
        ([1, 2], TypeError, "lead_time_label to be a tensor, got a list"),
        (
            torch.zeros(2, dtype=torch.long, device="meta"),
            ValueError,
            "lead_time_label is on meta and the model on cpu",
        ),
    ],
)
def test_bad_lead_times(labels, error, message):
    with pytest.raises(error, match=message):
        timed()(X, NOISE, None, labels)


def test_a_function_that_cuts_too_few_patches():
    with pytest.raises(ValueError, match="cuts 3 patches, which cannot be those of 2 images"):
        timed()(X, NOISE, None, torch.tensor([1, 2]), embedding_selector=cut(images=1))
