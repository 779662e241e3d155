# SPDX-License-Identifier: Apache-2.0
"""Domain parallelism: one sample over several ranks, by rows of its grid.

Each rank holds some consecutive rows of every field, as a plain local tensor. Layers that look at
single points work as they are. The others are given another forward, by rules: those of PyTorch's
own layers are here, and each family states those of its layers and models, in a module that its
distribution names in the entry-point group ``physicsnemo.domain``. A rule sees the ranks through
:class:`Domain` alone.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from physicsnemo.distributed import layers
from physicsnemo.distributed.domain import Domain
from physicsnemo.distributed.plans import entry_points_of

__all__ = ["GROUP", "FamilyRules", "distribute", "gather", "split"]

GROUP = "physicsnemo.domain"

Model = TypeVar("Model", bound=nn.Module)
Forward = Callable[..., Any]
Rule = Callable[[Any, Domain], Forward | None]


class FamilyRules(Protocol):
    """What a family's module of rules holds.

    Attributes
    ----------
    MODELS
        For each model, a function of it that returns the axis of its inputs to divide and the
        unit of the division.
    RULES
        For each class of layers, a function of a layer and a :class:`Domain` that returns the
        forward to use instead, or changes the layer and returns None.
    """

    MODELS: Mapping[type[nn.Module], Callable[[Any], tuple[int, int]]]
    RULES: Mapping[type[nn.Module], Rule]


def distribute(model: Model, mesh: DeviceMesh, *, axis: int | None = None, unit: int = 1) -> Model:
    """Let a model work on rows of its fields, in place: domain parallelism.

    Each rank then calls the model with its rows, as :func:`split` gives them, and gets its rows of
    the output. Collectives inside make them those of the whole fields, and gradients with respect
    to parameters each rank's share of the sum of all ranks' losses; what averages them, as
    ``DistributedDataParallel`` or :func:`~physicsnemo.distributed.shard` do, gives those of the
    mean loss. All ranks must call the model equally often.

    Parameters
    ----------
    model
        A model of a class that its family supports. Its parameters stay what they are.
    mesh
        The ranks among which rows are divided, of one dimension.
    axis, unit
        For a model of one's own, made of PyTorch's layers and of functions of single points: the
        axis of its inputs to divide, and what the numbers of rows must be multiples of.

    Returns
    -------
    The model. It cannot be copied or pickled; its state and files are those of any other.

    Raises
    ------
    NotImplementedError
        If there are no rules for the model, or for a layer in it.
    ValueError
        If it was distributed before.
    """
    families: list[FamilyRules] = [point.load() for point in entry_points_of(model, GROUP)]
    models = {known: division for it in families for known, division in it.MODELS.items()}
    rules = {known: rule for it in families for known, rule in it.RULES.items()} | layers.RULES
    if "_domain" in vars(model):
        raise ValueError(f"this {type(model).__name__} was distributed before; build another one")
    if axis is None:
        if type(model) not in models:
            supported = (it for point in entry_points(group=GROUP) for it in point.load().MODELS)
            raise NotImplementedError(
                f"{type(model).__name__} has no rules for domain parallelism; these have: "
                f"{', '.join(sorted(known.__name__ for known in supported))}. Pass axis= for a "
                f"model of your own"
            )
        axis, unit = models[type(model)](model)
    domain = Domain(mesh.get_group(), axis, unit)
    # All rules first, so that one that refuses leaves the model as it was.
    found = [(it, rules[type(it)](it, domain)) for it in model.modules() if type(it) in rules]
    for module, forward in found:
        if forward is not None:
            module.forward = forward
    for changed in (model, *(module for module, _ in found)):
        vars(changed).update(__deepcopy__=_refusal(model), __reduce_ex__=_refusal(model))
    vars(model)["_domain"] = domain
    return model


def _refusal(model: nn.Module) -> Callable[[Any], Any]:
    """Return what is called to copy or pickle a part of a model."""
    name = type(model).__name__

    def refuse(_: Any) -> Any:
        # The forwards that rules give to layers would go on with the parameters of these.
        raise TypeError(
            f"cannot copy or pickle this {name}, which was distributed: its layers work with those "
            f"of other processes. Copy it before distribute(), or build another {name}, load the "
            f"state_dict() of this one and distribute that; files are made by save() or of the "
            f"state_dict()"
        )

    return refuse


def _told(y: Tensor, axis: int, domain: Domain) -> tuple[int, ...]:
    """Return how many rows each rank has."""
    own = torch.tensor([y.shape[axis]], device=y.device)
    return tuple(domain.all_gather(own, 0, [1] * domain.size).tolist())


def domain_of(model: nn.Module) -> Domain:
    """Return the division that :func:`distribute` gave a model."""
    domain: Domain | None = vars(model).get("_domain")
    if domain is None:
        raise ValueError(f"call distribute() on this {type(model).__name__} first")
    return domain


def split(x: Tensor, model: nn.Module, axis: int | None = None) -> Tensor:
    """Return this rank's rows of whole fields.

    Parameters
    ----------
    x
        The fields.
    model
        The model.
    axis
        Their axis of rows, if it is another than that of a batch of inputs.

    Raises
    ------
    ValueError
        If there are too few rows for each rank to have some.
    """
    domain = domain_of(model)
    axis = domain.axis if axis is None else axis
    sizes = domain.chunks(x.shape[axis], domain.unit)
    if not all(sizes):
        units = "" if domain.unit == 1 else f", which are divided in units of {domain.unit}"
        raise ValueError(
            f"expected at least one row for each of {domain.size} ranks, got {x.shape[axis]} "
            f"rows{units}; use fewer ranks or a finer grid"
        )
    domain.sizes = sizes
    rows = domain.rows(domain.sizes[domain.rank])
    return x.narrow(axis, rows.first, rows.stop - rows.first)


def gather(y: Tensor, model: nn.Module, rows: int | None = None, axis: int | None = None) -> Tensor:
    """Return whole fields of the ranks' rows.

    Parameters
    ----------
    y
        This rank's rows of an input or an output.
    model
        The model.
    rows
        How many rows there are, if that is known; otherwise the ranks tell each other how many
        each has, which cannot be recorded in a graph.
    axis
        Their axis of rows, if it is another than that of inputs.
    """
    domain = domain_of(model)
    axis = domain.axis if axis is None else axis
    counts = _told(y, axis, domain) if rows is None else domain.chunks(rows, domain.unit)
    return domain.all_gather(y, axis, counts)
