# SPDX-License-Identifier: Apache-2.0
"""Releases: which one a file is like, and the keys that its state dict has there and here.

A module declares by ``_state_history`` how its keys differed; what the entries mean is told in
:mod:`physicsnemo.core.history`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch

from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.history import Constant, Ignored, Renamed, Twin, covers, order

State = dict[str, Any]  # tensors, but for extra state
Change = Renamed | Twin | Constant | Ignored


@dataclass(frozen=True)
class ReleaseEvidence:
    """Which release of the reference implementation a file is like.

    Attributes
    ----------
    release
        As in ``"1.3"``.
    reason
        Why, to follow the release in a sentence.
    is_claimed
        Whether the file says so itself.
    """

    release: str
    reason: str
    is_claimed: bool = False

    @classmethod
    def shown(cls, release: str, what: str) -> "ReleaseEvidence":
        """Return the evidence of a file that holds what no older release writes."""
        return cls(release, f"the oldest that writes {what}, for the file claims none")


def latest(evidence: Iterable[ReleaseEvidence]) -> ReleaseEvidence:
    """Return the evidence for the latest release, the first one of equals."""
    return max(evidence, key=lambda one: order(one.release))


def to_current_keys(model: torch.nn.Module, state: State, source: str) -> State:
    """Convert a state dict of any release to the keys of a model as it is here.

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
        _read(result, module, prefix, change, source)
    return result


def follow_history(module: torch.nn.Module) -> None:
    """Let ``load_state_dict`` follow the ``_state_history`` of a module, as loading a file does.

    A constructor calls it. Models call it by themselves where their class has a history.
    """
    module.register_load_state_dict_pre_hook(convert_before_loading)


def convert_before_loading(module: torch.nn.Module, state: State, prefix: str, *_: object) -> None:
    """Convert the keys of one module, without those in it: a hook before ``load_state_dict``."""
    for change in getattr(module, "_state_history", ()):
        _read(state, module, prefix, change, "the state dict")


def constants(model: torch.nn.Module) -> set[str]:
    """Return the keys of what the arguments fix, whether the model's state has them or not."""
    changes = _changes(model)
    return {prefix + it.name for prefix, _, it in changes if isinstance(it, Constant)}


def to_release_keys(
    model: torch.nn.Module, state: Mapping[str, torch.Tensor], release: str
) -> State:
    """Convert a model's state dict to the keys that a release of the reference reads.

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
        if not isinstance(change, Ignored):
            _write(result, module, prefix, change, covers(change, release))
    if order(release) >= (2, 0):  # from which on it is no part of the state
        result = {key: it for key, it in result.items() if not key.endswith("device_buffer")}
    return result


def release_of(
    metadata: Mapping[str, Any], keys: Collection[str], is_zip: bool, is_nested: bool = False
) -> ReleaseEvidence:
    """Return the release of the reference implementation that a file is like, and why.

    It is the one that the file claims; else the oldest that may have written it, by its container,
    by the buffer that files have until 2.0, and by models within models. What its classes know of
    their history may show a later one, see :func:`shown_by_state`.

    Parameters
    ----------
    metadata
        The file's metadata.
    keys
        Those of its state dict.
    is_zip
        Whether its container is a zip.
    is_nested
        Whether it has records of more than one model.
    """
    claimed = metadata.get("physicsnemo_version")
    if order(claimed) >= (1, 2):
        return ReleaseEvidence(str(claimed), "which the file claims", is_claimed=True)
    if order(claimed):  # an older release, or this library's own
        return ReleaseEvidence(
            "1.2", f"the oldest, since the file claims {claimed}", is_claimed=True
        )
    shown = [
        ReleaseEvidence("1.2", "the oldest, since neither container nor keys show a later one")
    ]
    if is_nested:
        shown.append(ReleaseEvidence.shown("1.3", "models within models"))
    if "device_buffer" not in keys:
        shown.append(ReleaseEvidence.shown("2.0", "no device_buffer"))
    if is_zip:
        shown.append(ReleaseEvidence.shown("2.0", "zip files"))
    return latest(shown)


def shown_by_state(model: torch.nn.Module, keys: Collection[str]) -> Iterator[ReleaseEvidence]:
    """Yield the oldest releases that may have written a state, by what a model knows of keys.

    Parameters
    ----------
    model
        The model, of whatever release's numerics.
    keys
        Those of the file's state dict.
    """
    for prefix, module, change in _changes(model):
        if isinstance(change, Renamed) and change.since is not None:
            theirs = (key for _, key in _renamed_keys(module, prefix, change))
            if found := next((key for key in theirs if key in keys), None):
                yield ReleaseEvidence.shown(change.since, f"keys such as {found}")
        elif isinstance(change, Constant):
            key, own = prefix + change.name, getattr(module, change.name)
            if isinstance(own, torch.nn.Parameter) or own is None:
                continue
            if change.since is not None and key in keys:
                yield ReleaseEvidence.shown(change.since, f"keys such as {key}")
            if change.until is not None and change.since is None and key not in keys:
                yield ReleaseEvidence.shown(change.until, f"no {key}")


def _changes(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module, Change]]:
    for name, module in model.named_modules(remove_duplicate=False):
        for change in getattr(module, "_state_history", ()):
            yield f"{name}." if name else "", module, change


def _read(state: State, module: torch.nn.Module, prefix: str, change: Change, source: str) -> None:
    """Change a state of any release to one by a module's own keys."""
    if isinstance(change, Renamed):
        for ours, theirs in _renamed_keys(module, prefix, change):
            _rename(state, theirs, ours, source)
    elif isinstance(change, Twin):
        ours, twin = prefix + change.name, prefix + change.twin
        if twin in state:
            state[ours] = state.pop(twin)
        if change.twin in module.state_dict() and ours in state:
            state[twin] = state[ours]
    elif isinstance(change, Ignored):
        for key in [key for key in state if key.startswith(prefix)]:
            if key.endswith(change.ending):
                del state[key]
    else:
        _read_constant(state, module, prefix, change, source)


def _write(
    state: State, module: torch.nn.Module, prefix: str, change: Change, is_theirs: bool
) -> None:
    """Change a module's own state to what a release has, if it is among those of the change."""
    if isinstance(change, Renamed) and is_theirs:
        for ours, theirs in _renamed_keys(module, prefix, change):
            state[theirs] = state.pop(ours)
    elif isinstance(change, Twin) and not is_theirs:
        state.pop(prefix + change.twin, None)
    elif isinstance(change, Constant):
        key, own = prefix + change.name, getattr(module, change.name)
        if isinstance(own, torch.nn.Parameter):  # learned, and so in files of every release
            return
        if not is_theirs:
            state.pop(key, None)
        elif key not in state and own is not None:
            state[key] = torch.as_tensor(own).detach().clone()


def _renamed_keys(
    module: torch.nn.Module, prefix: str, change: Renamed
) -> Iterator[tuple[str, str]]:
    """Yield each key that a renaming concerns, as it is spelt here and there."""
    for key in module.state_dict():
        if key.startswith(change.ours):
            yield prefix + key, prefix + change.theirs + key.removeprefix(change.ours)


def _rename(state: State, theirs: str, ours: str, source: str) -> None:
    if theirs in state:
        if ours in state:
            raise CheckpointError(f"{source} holds {ours} by another name too, {theirs}")
        state[ours] = state.pop(theirs)


def _read_constant(
    state: State, module: torch.nn.Module, prefix: str, constant: Constant, source: str
) -> None:
    key, own = prefix + constant.name, getattr(module, constant.name)
    if own is None or isinstance(own, torch.nn.Parameter):  # absent, or learned
        return
    kept = constant.name in module._buffers and (
        constant.name not in module._non_persistent_buffers_set
    )
    if key in state and constant.tolerance is not None:
        _compare(state[key], torch.as_tensor(own), constant.tolerance, key, source)
    if not kept:
        state.pop(key, None)
    elif key not in state or constant.tolerance is None:
        state[key] = own


def _compare(stated: Any, meant: torch.Tensor, tolerance: float, key: str, source: str) -> None:
    """Raise CheckpointError unless a constant in a file is what the arguments make."""
    if not isinstance(stated, torch.Tensor) or stated.layout is not torch.strided:
        raise CheckpointError(f"{key} in {source} is no dense tensor")
    if meant.is_meta or stated.is_meta:  # in a dry run, there are no numbers
        return
    if not _agree(stated.detach().cpu(), meant.detach().cpu(), tolerance):
        raise CheckpointError(
            f"{key} in {source} is {_brief(stated)}, and the arguments make it "
            f"{_difference(stated, meant)}"
        )


def _agree(stated: torch.Tensor, meant: torch.Tensor, tolerance: float) -> bool:
    if stated.shape != meant.shape or stated.is_complex():
        return False
    # Both as the coarser of their types rounds them; a whole number is as it is.
    coarser = max((stated.dtype, meant.dtype), key=_step)
    if _step(coarser):
        stated, meant = stated.to(coarser), meant.to(coarser)
    scale = float(meant.abs().max()) if meant.numel() else 0.0
    rounding = _step(coarser)
    return torch.allclose(
        stated.double(),
        meant.double(),
        rtol=max(tolerance, rounding),
        atol=rounding * min(scale, 1.0),
    )


def _step(dtype: torch.dtype) -> float:
    """Return the distance of 1 from the next number, 0 between whole ones."""
    return torch.finfo(dtype).eps if dtype.is_floating_point else 0.0


def _brief(tensor: torch.Tensor) -> str:
    return (
        str(tensor.tolist()) if tensor.numel() <= 4 else f"a tensor of shape {tuple(tensor.shape)}"
    )


def _difference(stated: torch.Tensor, meant: torch.Tensor) -> str:
    if stated.shape != meant.shape or stated.numel() <= 4:
        return _brief(meant)
    distance = (stated.cpu().double() - meant.cpu().double()).abs().max()
    return f"another, that differs by up to {float(distance):.2g}"
