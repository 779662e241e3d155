# SPDX-License-Identifier: Apache-2.0
"""Models sharded by FSDP2 in a CUDA graph: what their hooks remember from call to call.

Hooks gather the parameters of a unit, free them, and spread gradients, on streams that fork from
that of the step and join it again: a stream capture holds them all. But

- what is gathered already when a recording begins is not gathered in it, and replays would go on
  with weights of that time; and what a recording leaves gathered lies in memory that holds values
  only after a replay;
- a call that fails halfway, as one that cannot be recorded, leaves hooks waiting for its rest.
  PyTorch's own way to begin anew (since 2.13) waits for events, which those of a stream capture
  that was broken off do not allow. So this module sets what private classes hold; no other does.
"""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.core.format.sharded import is_sharded


class ShardedUnits:
    """The units of a model that is sharded by FSDP2; none of any other model.

    Parameters
    ----------
    model
        The model.
    """

    def __init__(self, model: nn.Module) -> None:
        fsdp: Any = sys.modules.get("torch.distributed.fsdp")
        self._units: list[Any] = [
            it for it in model.modules() if fsdp is not None and isinstance(it, fsdp.FSDPModule)
        ]

    def __bool__(self) -> bool:
        return bool(self._units)

    def reshard(self) -> None:
        """Free parameters that are gathered, as those of the model itself after an evaluation."""
        for unit in self._units:
            unit.reshard()

    def reset(self) -> None:
        """Put hooks as they are between two steps, after one that failed; its gradients go."""
        for unit in self._units:
            state = unit._get_fsdp_state()
            _forget(state._comm_ctx, "all_gather_state", "reduce_scatter_state")
            _clear(state._comm_ctx, "reduce_scatter_states", "_last_post_reduce_events")
            _clear(state._comm_ctx, "post_forward_order")
            _clear(state, "_modules_to_run_forward")
            state._state_ctx.iter_forward_root = None
            state._state_ctx.post_backward_final_callback_queued = False
            state._training_state = type(state._training_state).IDLE
            for group in _groups(state):
                _forget(group, "_all_gather_result", "_all_reduce_state", "_partial_reduce_output")
                _forget(group, "_post_reduce_event", "_reshard_after_forward_event")
                _clear(group, "_post_forward_indices")
                group._training_state = type(group._training_state).IDLE
        self.reshard()


def own_part(tensor: Tensor) -> Tensor:
    """Return what this process has of a tensor: its shard, or the tensor itself."""
    with torch.no_grad():
        return tensor.to_local() if is_sharded(tensor) else tensor


def _groups(state: Any) -> list[Any]:
    if hasattr(state, "_fsdp_param_groups"):
        return list(state._fsdp_param_groups)
    return [it for it in [state._fsdp_param_group] if it]  # PyTorch before 2.13


def _forget(owner: Any, *names: str) -> None:
    for name in _present(owner, names):
        setattr(owner, name, None)


def _clear(owner: Any, *names: str) -> None:
    for name in _present(owner, names):
        getattr(owner, name).clear()


def _present(owner: Any, names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if hasattr(owner, name))  # one of two names, by version
