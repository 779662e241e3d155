# SPDX-License-Identifier: Apache-2.0
"""Where the processes that torchrun has started meet, and only those of the same start.

The agent of torchrun keeps one store for all restarts, so what processes that are dead have left
there (addresses of theirs, say) would be taken for that of the new ones. The number of restarts
tells them apart on one machine, but agents of several machines count each for itself. So each
process draws a name, the first one gathers the names, and all of them wait until every process has
seen its own among these.
"""

import hashlib
import time
import uuid
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

_PLACE = "physicsnemo"
_PAUSE = 0.02  # in seconds


def meet(address: str, port: int, rank: int, size: int, timeout: timedelta) -> Store:
    """Return a store of torchrun's that the processes of this start have for themselves.

    Raises
    ------
    TimeoutError
        If they do not all come.
    """
    shared = TCPStore(address, port, size, is_master=False, timeout=timeout)
    start = agree(PrefixStore(_PLACE, shared), rank, size, timeout)
    return PrefixStore(f"{_PLACE}/{start}", shared)


def agree(store: Store, rank: int, size: int, timeout: timedelta) -> str:
    """Return what all processes of this start, and no others, know."""
    own, end = uuid.uuid4().hex[:12], time.monotonic() + timeout.total_seconds()
    store.set(f"seen/{rank}", "")
    store.set(f"name/{rank}", own)
    while time.monotonic() < end:
        if rank == 0:
            # Names of dead processes may be among them until the new ones have come.
            names = b" ".join(store.multi_get([f"name/{it}" for it in range(size)])).decode()
            store.set("names", names)
        else:
            names = store.get("names").decode()
        if names.split()[rank : rank + 1] == [own]:
            store.set(f"seen/{rank}", names)
            if rank == 0:
                seen = store.multi_get([f"seen/{it}" for it in range(size)])
                if all(it.decode() == names for it in seen):
                    store.set("agreed", names)
                    return _short(names)
            elif store.check(["agreed"]) and store.get("agreed").decode() == names:
                return _short(names)
        time.sleep(_PAUSE)
    raise TimeoutError(f"process {rank} of {size} has not met the others in {timeout}")


def _short(names: str) -> str:
    return hashlib.sha256(names.encode()).hexdigest()[:16]
