# SPDX-License-Identifier: Apache-2.0
"""Parameters spread over a mesh of processes: FSDP2 for every model, by the plan of its family."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial, wraps
from typing import Any, Literal, TypeVar

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from physicsnemo.distributed.plans import Plan, plan_of

__all__ = ["shard"]

Model = TypeVar("Model", bound=nn.Module)
Units = Literal["block", "leaf", "model"]


def shard(
    model: Model,
    mesh: DeviceMesh,
    *,
    units: Units = "block",
    precision: torch.dtype | MixedPrecisionPolicy | None = None,
    compile: bool | Mapping[str, Any] = False,
    recompute: bool = False,
    reshard_after_forward: bool | int = True,
) -> Model:
    """Shard a model in place: each process keeps a part of every parameter (FSDP2, ZeRO-3).

    A unit's parameters are gathered when it is called and freed again afterwards; its gradients
    are averaged over the mesh. Parameters become ``DTensor``s under the same names. Make the
    optimizer afterwards. What the family of a model says of it is applied: see
    :mod:`physicsnemo.distributed.plans`.

    Parameters
    ----------
    model
        The model, on any device; parameters move to the mesh's, shard by shard. Those on the meta
        device stay there until ``to_empty``.
    mesh
        One axis to shard over, or two: replicas, then shards (HSDP).
    units
        What is gathered at once: each block, each module that has parameters, or the whole model.
        The rest of the model is one unit more.
    precision
        Type in which parameters are gathered and blocks compute; gradients are reduced in single
        precision, outputs have the model's own type. Or a policy of FSDP2 for all units.
    compile
        Whether to compile each block, or options of :func:`torch.compile`.
    recompute
        Whether blocks compute their activations again in the backward pass, instead of
        remembering them.
    reshard_after_forward
        Whether parameters are freed after the forward pass and gathered again for the backward
        pass; a number keeps them spread over groups of so many processes in between. What belongs
        to no block is always kept.

    Returns
    -------
    The same model.

    Raises
    ------
    TypeError
        If the model is wrapped, as for data-parallel training.
    ValueError
        If it is sharded already, or the mesh has more than two axes.
    """
    _check(model, mesh)
    plan = plan_of(model)
    blocks = list(find_blocks(model, plan))
    chosen = choose_units(model, plan, units, blocks)
    if recompute:
        for block in outermost(blocks):
            _recompute(block)
    if compile:
        for block in outermost(blocks):
            block.compile(**(compile if isinstance(compile, Mapping) else {}))
    _make_contiguous(model)
    settings = partial(fully_shard, mesh=mesh)
    for module in chosen:
        settings(
            module,
            mp_policy=_policy(precision),
            reshard_after_forward=reshard_after_forward,
        )
    own = next((it.dtype for it in model.parameters() if it.is_floating_point()), None)
    settings(model, mp_policy=_policy(precision, own), reshard_after_forward=False)
    for module in model.modules():
        for name in plan.methods_of(module):
            register_fsdp_forward_method(module, name)
    return model


def find_blocks(model: nn.Module, plan: Plan) -> Iterator[nn.Module]:
    """Yield the blocks of a model, inner ones first; without a plan, the items of its lists."""
    if plan.blocks:
        yield from (it for it in _inside_out(model) if plan.is_block(it) and it is not model)
        return
    lists = (it for it in model.modules() if isinstance(it, nn.ModuleList | nn.Sequential))
    items = {item for it in lists for item in it.children() if _has_parameters(item)}
    yield from (it for it in _inside_out(model) if it in items and it is not model)


def choose_units(
    model: nn.Module, plan: Plan, units: Units, blocks: Iterable[nn.Module]
) -> list[nn.Module]:
    """Return the modules that are units of their own, inner ones first, less the model itself.

    A module that several units share becomes one too. Units that share a parameter, but no module,
    are left to what surrounds them.
    """
    if units not in ("block", "leaf", "model"):
        raise ValueError(f"expected units to be 'block', 'leaf' or 'model', got {units!r}")
    if units == "model":
        return []
    inside = {it for whole in model.modules() if plan.is_whole(whole) for it in _below(whole)}
    if units == "block":
        chosen = set(blocks)
    else:
        chosen = {
            it
            for it in model.modules()
            if (it._parameters or plan.is_whole(it)) and it not in inside
        }
    chosen -= {model, *inside}
    while True:
        owners = _owners(model, chosen)
        shared = {it for it, above in owners.items() if len(above) > 1 and it._parameters}
        if not (new := shared - inside - {model}):
            break
        chosen |= new
    while clashing := _sharing(_owners(model, chosen)):
        chosen -= clashing
    return [it for it in _inside_out(model) if it in chosen and _has_parameters(it)]


def outermost(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Return those of some modules that are inside none of the others."""
    modules = list(modules)
    inner = {it for module in modules for it in _below(module)}
    return [module for module in modules if module not in inner]


def _check(model: nn.Module, mesh: DeviceMesh) -> None:
    if isinstance(model, DataParallel | DistributedDataParallel) or "_orig_mod" in model._modules:
        raise TypeError(
            f"expected a model, got it wrapped in {type(model).__name__}: pass the model itself; "
            f"shard() averages gradients, and compiles with compile=True"
        )
    if any(isinstance(module, FSDPModule) for module in model.modules()):
        raise ValueError(f"{type(model).__name__} is sharded already, at least in part")
    if mesh.ndim > 2:
        raise ValueError(
            f"expected a mesh of one axis, or of two for replicas and shards, got "
            f"{mesh.mesh_dim_names or mesh.ndim}: index it, as in mesh['data']"
        )


def _owners(model: nn.Module, units: set[nn.Module]) -> dict[nn.Module, set[nn.Module]]:
    """Return, for each module, the units that it is reached from; a unit is its own."""
    owners: dict[nn.Module, set[nn.Module]] = {}

    def visit(module: nn.Module, unit: nn.Module) -> None:
        unit = module if module in units else unit
        above = owners.setdefault(module, set())
        if unit in above:
            return
        above.add(unit)
        for child in module.children():
            visit(child, unit)

    visit(model, model)
    return owners


def _sharing(owners: Mapping[nn.Module, set[nn.Module]]) -> set[nn.Module]:
    """Return the units that have a parameter in common, the model itself left out."""
    holders: dict[nn.Parameter, set[nn.Module]] = {}
    root = next(iter(owners))
    for module, above in owners.items():
        for parameter in filter(None.__ne__, module._parameters.values()):
            holders.setdefault(parameter, set()).update(above)
    return {unit for units in holders.values() if len(units) > 1 for unit in units} - {root}


def _inside_out(model: nn.Module) -> list[nn.Module]:
    """Return all modules, each after those in it: a shared one before all that it is part of."""
    found: dict[nn.Module, None] = {}

    def visit(module: nn.Module) -> None:
        if module not in found:
            for child in module.children():
                visit(child)
            found[module] = None

    visit(model)
    return list(found)


def _below(module: nn.Module) -> list[nn.Module]:
    return [it for it in module.modules() if it is not module]


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _recompute(module: nn.Module) -> None:
    forward: Callable[..., Any] = module.forward

    @wraps(forward)
    def recomputed(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    module.forward = recomputed  # not a wrapper, which would rename the parameters


def _make_contiguous(model: nn.Module) -> None:
    """Lay parameters out row by row, as FSDP2 asks for; those in channels-last order are not."""
    for parameter in model.parameters():
        if not parameter.is_contiguous():
            parameter.data = parameter.data.contiguous()


def _policy(
    precision: torch.dtype | MixedPrecisionPolicy | None, output: torch.dtype | None = None
) -> MixedPrecisionPolicy:
    if isinstance(precision, MixedPrecisionPolicy):
        return precision
    if precision is None:
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(precision, torch.float32, output)
