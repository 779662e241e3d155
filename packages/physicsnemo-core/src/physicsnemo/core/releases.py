# SPDX-License-Identifier: Apache-2.0
"""Which release wrote a file, and a state dict as this or that release has it."""

import re
from collections.abc import Collection, Iterator, Mapping
from copy import copy
from types import MappingProxyType
from typing import Any

import torch

from physicsnemo.core.errors import CheckpointError
from physicsnemo.models.history import Constant, Renamed

State = dict[str, Any]  # tensors, but for extra state


def order(release: Any) -> tuple[int, ...]:
    """Return what sorts releases by age; anything that is no release is older than all."""
    numbers = re.match(r"(\d{1,9})\.(\d{1,9})", release) if isinstance(release, str) else None
    return tuple(map(int, numbers.groups())) if numbers else ()


def covers(change: Any, release: str) -> bool:
    """Tell whether a release lies between ``since`` and ``until`` of an entry of a history."""
    at = order(release)
    return at >= order(change.since) and (change.until is None or at < order(change.until))


def in_own_keys(model: torch.nn.Module, state: State, source: str) -> State:
    """Return a state dict of any release by the keys of a model as it is here.

    What the arguments fix and the file leaves out is the model's own; what the file holds and the
    model does not keep is compared and dropped. A state dict that is in the model's keys comes back
    as it is.

    Parameters
    ----------
    model
        The model, built from the file's arguments.
    state
        The file's tensors.
    source
        The file's name, for error texts.

    Raises
    ------
    CheckpointError
        If the file holds a tensor by both of its names, or a constant that contradicts the
        arguments.
    """
    result = copy(state)  # with the versions of modules, which its attribute _metadata holds
    for prefix, module, change in _changes(model):
        if isinstance(change, Renamed):
            for ours, theirs in _spellings(module, prefix, change):
                _rename(result, theirs, ours, source)
        else:
            _settle(result, module, prefix, change, source)
    return result


def in_keys_of(model: torch.nn.Module, state: Mapping[str, torch.Tensor], release: str) -> State:
    """Return a model's state dict by the keys that a release of the reference implementation reads.

    Parameters
    ----------
    model
        The model.
    state
        Its state dict.
    release
        As in ``"2.0"``.
    """
    result = dict(state)
    for prefix, module, change in _changes(model):
        if isinstance(change, Constant):
            key = prefix + change.name
            if not covers(change, release):
                if not isinstance(getattr(module, change.name), torch.nn.Parameter):
                    result.pop(key, None)
            elif key not in result and getattr(module, change.name) is not None:
                result[key] = torch.as_tensor(getattr(module, change.name)).detach().clone()
        elif covers(change, release):
            for ours, theirs in _spellings(module, prefix, change):
                result[theirs] = result.pop(ours)
    if order(release) >= (2, 0):  # from which on it is no part of the state
        result = {key: it for key, it in result.items() if not key.endswith("device_buffer")}
    return result


def release_of(
    metadata: Mapping[str, Any],
    keys: Collection[str],
    is_zip: bool,
    marks: Mapping[str, str] = MappingProxyType({}),
) -> tuple[str, str]:
    """Return the release of the reference implementation that a file is like, and why.

    It is the one that the file claims; else the oldest that may have written it, by its container,
    by the buffer that files have until 2.0, and by what only keys of later releases show.

    Parameters
    ----------
    metadata
        The file's metadata.
    keys
        Those of its state dict.
    is_zip
        Whether its container is a zip.
    marks
        Regular expressions of a class's keys, by the first release that has them.
    """
    claimed = metadata.get("physicsnemo_version")
    if order(claimed) >= (1, 2):
        return str(claimed), "which the file claims"
    if order(claimed):  # an older release, or this library's own
        return "1.2", f"the oldest, since the file claims {claimed}"
    shown = {"1.2": "the oldest, since neither container nor keys show a later one"}
    if "device_buffer" not in keys:
        shown["2.0"] = "the oldest that writes no device_buffer, for the file claims none"
    if is_zip:
        shown["2.0"] = "the oldest that writes zip files, for the file claims none"
    for release, pattern in marks.items():
        if found := next((key for key in keys if re.search(pattern, key)), None):
            shown[release] = (
                f"the oldest that writes keys such as {found}, for the file claims none"
            )
    release = max(shown, key=order)
    return release, shown[release]


def _changes(
    model: torch.nn.Module,
) -> Iterator[tuple[str, torch.nn.Module, Renamed | Constant]]:
    for name, module in model.named_modules(remove_duplicate=False):
        for change in getattr(module, "_state_history", ()):
            yield f"{name}." if name else "", module, change


def _spellings(module: torch.nn.Module, prefix: str, change: Renamed) -> Iterator[tuple[str, str]]:
    """Yield each key that a renaming concerns, as it is spelt here and there."""
    for key in module.state_dict():
        if key.startswith(change.ours):
            yield prefix + key, prefix + change.theirs + key.removeprefix(change.ours)


def _rename(state: State, theirs: str, ours: str, source: str) -> None:
    if theirs in state:
        if ours in state:
            raise CheckpointError(f"{source} holds {ours} by another name too, {theirs}")
        state[ours] = state.pop(theirs)


def _settle(
    state: State, module: torch.nn.Module, prefix: str, constant: Constant, source: str
) -> None:
    key, own = prefix + constant.name, getattr(module, constant.name)
    kept = constant.name in module._buffers and (
        constant.name not in module._non_persistent_buffers_set
    )
    if isinstance(own, torch.nn.Parameter):  # learned, and so in files of every release
        return
    if kept and key not in state:
        state[key] = own
    elif not kept and key in state:
        _compare(state.pop(key), own, key, source)


def _compare(stated: torch.Tensor, own: Any, key: str, source: str) -> None:
    meant = torch.as_tensor(own)
    if meant.is_meta or stated.is_meta:  # in a dry run, there are no numbers
        return
    agrees = stated.shape == meant.shape and torch.allclose(
        stated.double().cpu(), meant.double().cpu(), rtol=1e-5, atol=1e-8
    )
    if not agrees:
        raise CheckpointError(
            f"{key} in {source} is {_brief(stated)}, and the arguments in the file make it "
            f"{_brief(meant)}"
        )


def _brief(tensor: torch.Tensor) -> str:
    if tensor.numel() <= 4:
        return str(tensor.tolist())
    return f"a tensor of shape {tuple(tensor.shape)} that begins with {tensor.flatten()[0].item()}"
