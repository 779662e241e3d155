# SPDX-License-Identifier: Apache-2.0
"""Rows and points that go from process to process."""

import random

import pytest
import torch
import torch.distributed as dist

from physicsnemo.distributed import collectives

ROWS = 11


@pytest.mark.parametrize("seed", range(6))
def test_rows_go_from_any_division_to_any_other(processes, seed):
    processes.run(check_rows, seed)


def test_rows_that_stay_are_not_sent(processes):
    assert processes.run(count_exchanges) == [0, 0]


def test_points_of_other_processes_are_fetched(processes):
    processes.run(check_points)


def check_rows(seed):
    """Compare with slices of the whole, for ranges at random, which may lie beyond its ends."""
    draw = random.Random(seed)
    cuts = sorted(draw.sample(range(1, ROWS), 3))
    pieces = list(zip([0, *cuts], [*cuts, ROWS], strict=True))
    draw.shuffle(pieces)
    held = [pieces[:2], pieces[2:]]
    wanted = [
        [(a, a + draw.randrange(0, ROWS + 2)) for a in draw.sample(range(-3, ROWS + 3), 2)]
        for _ in range(2)
    ]
    torch.manual_seed(seed)
    whole, rank = torch.randn(2, ROWS, 3, dtype=torch.float64, requires_grad=True), dist.get_rank()
    around = torch.nn.functional.pad(whole, (0, 0, 20, 20))
    expected = [torch.cat([around[:, 20 + a : 20 + b] for a, b in spans], 1) for spans in wanted]
    weights = [torch.randn_like(it) for it in expected]
    sum((a * b).sum() for a, b in zip(expected, weights, strict=True)).backward()

    own = torch.cat([whole.detach()[:, a:b] for a, b in held[rank]], dim=1).requires_grad_()
    got = collectives.redistribute(own, 1, held, wanted, dist.group.WORLD)
    assert torch.equal(got, expected[rank])
    (got * weights[rank]).sum().backward()
    right = torch.cat([whole.grad[:, a:b] for a, b in held[rank]], dim=1)
    torch.testing.assert_close(own.grad, right, rtol=1e-14, atol=1e-14)


def count_exchanges():
    """Return how many exchanges it takes to give each process zeros beside its own rows."""
    made, exchange = [], collectives.exchange
    collectives.exchange = lambda *args: made.append(args) or exchange(*args)
    try:
        held, wanted = [[(0, 4)], [(4, 6)]], [[(-2, 4)], [(4, 8)]]
        x = torch.ones(held[dist.get_rank()][0][1] - held[dist.get_rank()][0][0])
        got = collectives.redistribute(x, 0, held, wanted, dist.group.WORLD)
    finally:
        collectives.exchange = exchange
    assert got.tolist() == [[0.0, 0, 1, 1, 1, 1], [1.0, 1, 0, 0]][dist.get_rank()]
    return len(made)


def check_points():
    """Fetch points by pairs in any order, of which some are the process' own."""
    owner = torch.tensor([0, 1, 1, 0, 1])
    pairs = torch.tensor([[0, 4], [0, 2], [0, 2], [0, 0], [1, 3], [1, 1]]).T
    found = collectives.fetch(pairs[0], pairs[1], owner, dist.group.WORLD)
    own = (owner == dist.get_rank()).nonzero()[:, 0]
    assert found.points.tolist() == [[2, 4], [3]][dist.get_rank()]
    assert found(10 * own).tolist() == [[20, 40], [30]][dist.get_rank()]
