# SPDX-License-Identifier: Apache-2.0
"""Parameters spread over a mesh of processes: FSDP2 for every model, by the plan of its family."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial, wraps
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import Shard
from torch.nn.modules.batchnorm import _NormBase

from physicsnemo.distributed.plans import Plan, plan_of
from physicsnemo.utils import recomputed, unwrap

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
    are averaged over the mesh. Each parameter becomes a ``DTensor`` of the same name. Make the
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
        Type in which the parameters of units are gathered, and in which these compute; what they
        return has the type of the first tensor that they are called with. Gradients are reduced in
        single precision. What belongs to no block, and normalizations that keep running moments,
        have the model's own type. Or a policy of FSDP2 for everything.
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
    blocks = find_blocks(model, plan)
    exact = _running(model) if isinstance(precision, torch.dtype) else set()
    chosen = choose_units(model, plan, units, blocks, exact)
    for block in outermost(blocks):
        _change_calls(block, plan.methods_of(block), compile, recompute)
    was_channels_last = _make_contiguous(model)
    placement = partial(_placement, count=mesh.size(-1))
    settings = partial(fully_shard, mesh=mesh, shard_placement_fn=placement)
    for module in (model,) if units == "model" else chosen:
        if isinstance(precision, torch.dtype) and module not in exact:
            _compute_in(precision, module, plan.methods_of(module))
    for module in chosen if was_channels_last else ():
        _keep_channels_last(module, plan.methods_of(module))
    for module in chosen:
        policy = _policy(None if module in exact else precision, module)
        settings(module, mp_policy=policy, reshard_after_forward=reshard_after_forward)
    whole = isinstance(precision, MixedPrecisionPolicy) or units == "model"
    policy = _policy(precision if whole else None, model)
    settings(model, mp_policy=policy, reshard_after_forward=False)
    for module in model.modules():
        for name in plan.methods_of(module):
            register_fsdp_forward_method(module, name)
    return model


def find_blocks(model: nn.Module, plan: Plan) -> list[nn.Module]:
    """Return the blocks of a model, inner ones first; without a plan, the items of its lists."""
    if plan.blocks:
        found = set(filter(plan.is_block, model.modules()))
    else:
        kinds = (nn.ModuleDict, nn.ModuleList, nn.Sequential)
        lists = outermost(it for it in model.modules() if isinstance(it, kinds))
        found = {item for it in lists for item in it.children()}
    return [it for it in _inside_out(model) if it in found - {model} and _has_parameters(it)]


def choose_units(
    model: nn.Module,
    plan: Plan,
    units: Units,
    blocks: Iterable[nn.Module],
    apart: Iterable[nn.Module] = (),
) -> list[nn.Module]:
    """Return the modules that are units of their own, inner ones first, less the model itself.

    Those that are to stay apart are units too. A module that several units share becomes one.
    Units that share a parameter, but no module, are left to what surrounds them.
    """
    if units not in ("block", "leaf", "model"):
        raise ValueError(f"expected units to be 'block', 'leaf' or 'model', got {units!r}")
    blocks = set(blocks)
    divisible = _divisible(model, plan, blocks)
    chosen = divisible.intersection(apart) | (blocks if units != "model" else set())
    if units == "leaf":
        chosen |= {it for it in divisible if it._parameters or plan.is_whole(it)}
    while True:
        owners = _owners(model, chosen)
        shared = {it for it, above in owners.items() if len(above) > 1 and it._parameters}
        if not (new := shared & divisible):
            break
        chosen |= new
    chosen.discard(model)
    while clashing := _sharing(_owners(model, chosen)):
        chosen -= clashing
    return [it for it in _inside_out(model) if it in chosen and _has_parameters(it)]


def outermost(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Return those of some modules that are inside none of the others."""
    modules = list(modules)
    inner = {it for module in modules for it in _below(module)}
    return [module for module in modules if module not in inner]


def _check(model: nn.Module, mesh: DeviceMesh) -> None:
    if unwrap(model) is not model:
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


def _running(model: nn.Module) -> set[nn.Module]:
    """Return the normalizations that keep running moments, with which their weights compute."""
    # Buffers are not gathered, so the moments keep the model's own type, as they should: small
    # changes of them would be lost. PyTorch refuses weights of another type than theirs.
    norms = (it for it in model.modules() if isinstance(it, _NormBase))
    return {it for it in norms if it.running_mean is not None}


def _divisible(model: nn.Module, plan: Plan, blocks: set[nn.Module]) -> set[nn.Module]:
    """Return the modules that nothing around them reads parameters of."""
    found: set[nn.Module] = set()

    def visit(module: nn.Module, whole: bool) -> None:
        if not whole:
            found.add(module)
        for child in module.children():
            visit(child, (whole or plan.is_whole(module)) and child not in blocks)

    visit(model, False)
    return found


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
        for parameter in module.parameters(recurse=False):
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


def _change_calls(
    module: nn.Module,
    methods: Iterable[str],
    compile: bool | Mapping[str, Any],
    recompute: bool,
) -> None:
    """Compile what a module computes, and have it computed again in the backward pass.

    Nothing is wrapped around the module, which would rename its parameters.
    """
    if recompute:
        _replace(module, methods, recomputed)
    options = compile if isinstance(compile, Mapping) else {}
    if compile:
        module.compile(**options)
        for name in methods:
            setattr(module, name, torch.compile(getattr(module, name), **options))


def _compute_in(precision: torch.dtype, module: nn.Module, methods: Iterable[str]) -> None:
    """Cast what a module, and methods of it, are called with, and what they return back.

    They return the type of the first tensor that they are called with: images, say, whatever the
    type of an embedding behind them is.

    FSDP2 would look into dataclasses among the arguments, and make these anew: graphs have theirs
    sorted. And it would return one type whatever it is given, so that under autocast, which leaves
    half precision between layers, twice the bytes would be written there, and rounded again.
    """
    own = _own_type(module) or torch.get_default_dtype()

    def computing(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            outer = next(iter(_types([[*args], kwargs])), own)
            found = function(*_cast([*args], precision), **_cast(kwargs, precision))
            return _cast(found, outer)

        return called

    _replace(module, methods, computing)


def _keep_channels_last(module: nn.Module, methods: Iterable[str]) -> None:
    """Give a module images that PyTorch knows as channels-last, where the batch is one image.

    What FSDP2 hands on are views. In a view, PyTorch sets the stride of an axis of one item as it
    likes, and then takes the images for contiguous; weights, which it has made so, do not help it.
    """

    def keeping(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            return function(*_mapped(_restrided, [*args]), **_mapped(_restrided, kwargs))

        return called

    _replace(module, methods, keeping)


def _replace(
    module: nn.Module, methods: Iterable[str], change: Callable[[Any], Callable[..., Any]]
) -> None:
    """Replace a module's forward, and methods of it, by what they are changed into."""
    for name in ("forward", *methods):
        setattr(module, name, change(getattr(module, name)))


def _restrided(x: Tensor) -> Tensor:
    if x.ndim != 4 or len(x) != 1 or not x.is_contiguous(memory_format=torch.channels_last):
        return x
    last = x.permute(0, 2, 3, 1)
    return last.view(last.shape).permute(0, 3, 1, 2)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Return a value with the floating-point tensors in its lists and dictionaries cast."""
    return _mapped(lambda x: x.to(dtype) if x.is_floating_point() else x, value)


def _mapped(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return a value with the tensors in its lists and dictionaries mapped."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: _mapped(function, item) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_mapped(function, item) for item in value)
    return value


def _types(value: Any) -> list[torch.dtype]:
    """Return the types of those tensors that :func:`_cast` would cast."""
    if isinstance(value, Tensor):
        return [value.dtype] if value.is_floating_point() else []
    if isinstance(value, dict):
        return _types([*value.values()])
    if type(value) in (tuple, list):
        return [dtype for item in value for dtype in _types(item)]
    return []


def _make_contiguous(model: nn.Module) -> bool:
    """Lay parameters out row by row, as FSDP2 asks for, and return whether any were not so."""
    others = [parameter for parameter in model.parameters() if not parameter.is_contiguous()]
    for parameter in others:
        parameter.data = parameter.data.contiguous()
    return bool(others)


def _placement(parameter: nn.Parameter, count: int) -> Shard | None:
    """Return the axis to divide, if it is not the first: one of fewer items is padded to others.

    FSDP2 divides other axes evenly or not at all.
    """
    shape = parameter.shape
    even = [axis for axis in range(1, len(shape)) if shape[axis] % count == 0]
    if not even or shape[0] >= count:
        return None
    return Shard(max(even, key=lambda axis: shape[axis]))


def _policy(
    precision: torch.dtype | MixedPrecisionPolicy | None, module: nn.Module
) -> MixedPrecisionPolicy:
    if isinstance(precision, MixedPrecisionPolicy):
        return precision
    if precision is None or _own_type(module) is None:
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(precision, reduce_dtype=torch.float32, cast_forward_inputs=False)


def _own_type(module: nn.Module) -> torch.dtype | None:
    return next((it.dtype for it in module.parameters() if it.is_floating_point()), None)
