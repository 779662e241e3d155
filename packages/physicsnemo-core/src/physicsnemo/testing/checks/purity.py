# SPDX-License-Identifier: Apache-2.0
"""A model in evaluation mode is a function of its inputs and of its weights."""

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from physicsnemo.testing._compare import (
    assert_equal,
    disturb,
    exactness,
    prepare,
    run,
    tensors,
    vary,
)
from physicsnemo.testing.case import Case


def check_inputs(case: Case, device: torch.device) -> None:
    """Equal inputs come from the case each time, and forward does not change them."""
    assert_equal(case.inputs(), case.inputs(), 0.0, "an input of the case, made a second time")
    model, inputs = prepare(case, device)
    for training in (False, True):
        run(model.train(training), inputs)
        assert_equal(inputs, case.inputs(), 0.0, "an input after the call")


def check_eval(case: Case, device: torch.device) -> None:
    """In evaluation mode, equal inputs give equal outputs, whatever the seed."""
    model, inputs = prepare(case, device)
    run(model, vary(inputs))
    first, second = (run(model, inputs, seed) for seed in (0, 1))
    assert_equal(second, first, exactness(device), "the output of a second call")


def check_batch(case: Case, device: torch.device) -> None:
    """Each sample of a batch is independent of the others in evaluation mode."""
    model, inputs = prepare(case, device)
    disturb(model)  # a layer that starts at zero hides what it mixes
    sizes = {tensor.shape[:1] for tensor in tensors(inputs)}
    if len(sizes) != 1 or sizes == {torch.Size()}:
        raise AssertionError(
            f"the first axes of the inputs are {sorted(map(tuple, sizes))}: not one batch; "
            f"if they need not be, say so in the case: batched=False"
        )
    size = sizes.pop()[0]
    # Both batches have one size, so that the same kernels run.
    beside_itself = pytree.tree_map_only(Tensor, lambda t: torch.cat([t, t]), inputs)
    beside_others = pytree.tree_map_only(Tensor, lambda t: torch.cat([t, _other(t)]), inputs)
    results = [tensors(run(model, batch)) for batch in (beside_itself, beside_others)]
    for output in results[0]:
        if output.shape[:1] != (2 * size,):
            raise AssertionError(
                f"a batch of {2 * size} gives an output of shape {tuple(output.shape)}; if samples "
                f"are not independent, say so in the case: batched=False"
            )
    expected, got = ([output[:size] for output in outputs] for outputs in results)
    assert_equal(got, expected, exactness(device), "with other samples in the batch, the output")


def check_empty_batch(case: Case, device: torch.device) -> None:
    """Return an empty batch for an empty batch."""
    model, inputs = prepare(case, device)
    empty = pytree.tree_map_only(Tensor, lambda x: x[:0], inputs)
    shapes = [[tuple(output.shape) for output in tensors(run(model, x))] for x in (inputs, empty)]
    expected = [(0, *shape[1:]) for shape in shapes[0]]
    if shapes[1] != expected:
        raise AssertionError(f"an empty batch gives outputs of shapes {shapes[1]}, not {expected}")


def _other(tensor: Tensor) -> Tensor:
    """Return another sample in place of each; whole numbers keep their range by changing places."""
    floats = tensor.is_floating_point() or tensor.is_complex()
    return tensor * 0.5 if floats else tensor.roll(1, 0)
