# SPDX-License-Identifier: Apache-2.0
"""Processes of one start agree, whatever earlier ones have left in their store."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from physicsnemo.distributed.meeting import agree

LONG, SHORT = timedelta(seconds=60), timedelta(seconds=0.3)


@pytest.fixture
def server():
    """A store that outlives those who meet."""
    return dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)


def begin(pool, server, rank, timeout=LONG):
    """Let one of three ranks come, with a connection of its own."""
    store = dist.TCPStore("localhost", server.port, is_master=False, timeout=LONG)
    return pool.submit(agree, store, rank, 3, timeout)


def started(server, ranks, timeout=LONG):
    """What each of the ranks returns."""
    with ThreadPoolExecutor(3) as pool:
        futures = [begin(pool, server, rank, timeout) for rank in ranks]
        return [future.result() for future in futures]


def test_each_start_has_a_place_of_its_own(server):
    places = [set(started(server, ranks)) for ranks in ((0, 1, 2), (2, 1, 0), (1, 0, 2))]
    assert [len(it) for it in places] == [1, 1, 1]
    assert len(set.union(*places)) == 3


def test_those_who_come_early_wait_for_the_new_ones(server):
    [first] = set(started(server, (0, 1, 2)))
    with ThreadPoolExecutor(3) as pool:
        early = [begin(pool, server, it) for it in (0, 1)]
        with pytest.raises(TimeoutError):
            early[0].result(0.5)
        last = begin(pool, server, 2)
        [second] = {it.result() for it in (*early, last)}
    assert second != first


@pytest.mark.parametrize("ranks", [(0, 2), (1, 2)])
def test_a_start_that_not_all_have_survived_is_forgotten(server, ranks):
    started(server, (0, 1, 2))
    with pytest.raises(TimeoutError, match=r"process \d of 3 has not met the others in 0:00:00.3"):
        started(server, ranks, SHORT)
    assert len(set(started(server, (0, 1, 2)))) == 1
