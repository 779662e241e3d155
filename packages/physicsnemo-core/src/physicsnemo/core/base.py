# SPDX-License-Identifier: Apache-2.0
"""A model that remembers its constructor call, which is what a file is made of.

``ModelBase`` records the call and knows no file; :class:`physicsnemo.Module` derives from it, and
adds saving, loading and conversion. The functions below it are what the library asks of a model: a
class that derived from ``torch.nn.Module`` may keep something of its own under the names
``device``, ``logger``, ``meta`` or ``_args``.
"""

import inspect
import logging
import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast

import torch
from torch.nn.parallel import DataParallel, DistributedDataParallel

from physicsnemo.core.format.container import EXTENSION
from physicsnemo.core.format.records import Record
from physicsnemo.core.format.values import Path, recorded, write
from physicsnemo.core.history import Argument, Constant, Ignored, Renamed, Twin, Value
from physicsnemo.core.install.provenance import recorded_as
from physicsnemo.core.releases import follow_history
from physicsnemo.models.meta import ModelMetaData

Model = TypeVar("Model", bound=torch.nn.Module)
_UNSET = object()
_INNER = ("_orig_mod", "_original_module")  # the model in torch.compile, and in Lightning Fabric


class ModelBase(torch.nn.Module):
    """A ``torch.nn.Module`` that remembers its constructor call.

    See :class:`physicsnemo.Module`, the only class that derives from it directly.
    """

    _file_extension: ClassVar[str] = EXTENSION
    __model_checkpoint_version__: ClassVar[str] = "0.1.0"
    # Former versions whose files this class still reads, each with the warning to give.
    __supported_model_checkpoint_version__: ClassVar[dict[str, str]] = {}
    # Arguments that from_checkpoint(override_args=...) may replace.
    _overridable_args: ClassVar[set[str]] = set()
    # Whether the constructor draws random numbers for nothing but weights that a file replaces, so
    # that loading may leave them undrawn; counts for the class alone that says so.
    _draws_only_weights: ClassVar[bool] = False
    # How files differ from release to release of the reference implementation; see
    # physicsnemo.models.history. What leaving an argument out means, by the first release where it
    # does; arguments that come and go; the path under which files record the class, by default its
    # own, and that of files for a release, by the first one; keys of states.
    _implied_args: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    _argument_history: ClassVar[tuple[Argument | Value | Renamed, ...]] = ()
    _recorded_as: ClassVar[str | None] = None
    _recorded_by_release: ClassVar[Mapping[str, str]] = {}
    _state_history: ClassVar[tuple[Renamed | Twin | Constant | Ignored, ...]] = ()
    __jit_unused_properties__: ClassVar[list[str]] = ["device", "logger", "_args", "_name"]

    if TYPE_CHECKING:  # since TorchScript takes annotations of attributes for types of its own
        _constructed_from: Record
    # What a subclass keeps under the names of the properties below.
    _own_device: ClassVar[Any] = _UNSET
    _own_logger: ClassVar[Any] = _UNSET
    _own_args: ClassVar[Any] = _UNSET
    device_buffer: torch.Tensor

    def __new__(cls, /, *args: Any, **kwargs: Any) -> Self:
        """Record what the model is built from."""
        # Not in __init__: the constructor of a subclass has changed or forgotten its arguments by
        # the time that it calls this one, if it calls it with any.
        self = super().__new__(cls)
        self._constructed_from = record(cls, args, kwargs)
        return self

    def __init__(self, meta: ModelMetaData | None = None) -> None:
        super().__init__()
        self.meta = meta() if isinstance(meta, type) else meta
        self.register_buffer("device_buffer", torch.empty(0))
        self.register_load_state_dict_post_hook(forgive_device_buffer)  # type: ignore[no-untyped-call]
        if self._state_history:
            follow_history(self)

    @property
    def device(self) -> torch.device:
        """The device that the model is on, unless a subclass has assigned one of its own."""
        own = self._own_device
        return self.device_buffer.device if own is _UNSET else own

    @device.setter
    def device(self, value: Any) -> None:
        vars(self)["_own_device"] = value

    @property
    def logger(self) -> logging.Logger:
        """The logger of this class, ``physicsnemo.module.<class name>``, unless it has another."""
        return logger_of(self) if self._own_logger is _UNSET else self._own_logger

    @logger.setter
    def logger(self, value: Any) -> None:
        vars(self)["_own_logger"] = value

    @property
    def _args(self) -> Any:
        return record_of(self) if self._own_args is _UNSET else self._own_args

    @_args.setter
    def _args(self, value: Any) -> None:
        vars(self)["_own_args"] = value

    def debug(self) -> None:
        """Show this class's messages of every level, with the model's name and the time."""
        handler = logging.StreamHandler()
        handler.setFormatter(
            logging.Formatter(f"[%(asctime)s - %(levelname)s - {self._name}] %(message)s")
        )
        logger = logger_of(self)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.DEBUG)

    def num_parameters(self) -> int:
        """Return the number of parameter elements, frozen ones included."""
        return sum(parameter.numel() for parameter in self.parameters())

    @classmethod
    def _backward_compat_arg_mapper(cls, version: str, args: dict[str, Any]) -> dict[str, Any]:
        """Translate the arguments of a file of a former version; overriding methods call super."""
        return args

    @property
    def _name(self) -> str:
        meta = metadata_of(self)
        return class_of(self).__name__ if meta is None else meta.name


def record_of(model: ModelBase) -> Record:
    """Return the record of class and arguments that was made when a model was built."""
    return model._constructed_from


def metadata_of(model: ModelBase) -> ModelMetaData | None:
    """Return what a model supports, None if it does not say."""
    meta = getattr(model, "meta", None)
    return meta if isinstance(meta, ModelMetaData) else None


def device_of(model: ModelBase) -> torch.device:
    """Return the device that a model is on."""
    return model.device_buffer.device


def logger_of(model: ModelBase) -> logging.Logger:
    """Return the logger of a model's class."""
    return logging.getLogger(f"physicsnemo.module.{class_of(model).__name__}")


def class_of(model: Model) -> type[Model]:
    """Return a model's class, not the one that ``fully_shard`` has put before it."""
    fsdp: Any = sys.modules.get("torch.distributed.fsdp")
    kinds = type(model).__mro__
    if fsdp is None or fsdp.FSDPModule not in kinds:
        return type(model)
    return cast(type[Model], kinds[kinds.index(fsdp.FSDPModule) + 1])


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model inside wrappers for parallel training and compilation.

    These are ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile``, in which
    accelerate and Ray Train wrap models too, and what ``setup`` of Lightning Fabric returns.

    Parameters
    ----------
    model
        Any model; one that is not wrapped comes back as it is.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(2, 1)
    >>> unwrap(torch.nn.DataParallel(model)) is model
    True
    """
    if isinstance(model, DataParallel | DistributedDataParallel):
        return unwrap(cast(torch.nn.Module, model.module))
    inner = next(filter(None, map(model._modules.get, _INNER)), None)
    return model if inner is None else unwrap(inner)


def forgive_device_buffer(module: torch.nn.Module, incompatible: Any) -> None:
    """Leave the empty ``device_buffer``, which some writers leave out, off the lists of keys.

    A hook for ``register_load_state_dict_post_hook``.
    """
    for keys in (incompatible.missing_keys, incompatible.unexpected_keys):
        keys[:] = [key for key in keys if not is_device_buffer(key)]


def is_device_buffer(key: str) -> bool:
    """Tell whether a key of a state dict is that of a model's ``device_buffer``."""
    return key.rpartition(".")[2] == "device_buffer"


def record(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Record:
    """Return what ``cls(*args, **kwargs)`` was called with, and defaults that a file can hold.

    Containers are copied, so that a constructor that changes its arguments does not change the
    record. Arguments that do not fit the signature are left for the constructor to report. Defaults
    are recorded too: a file then means the same after a default has changed.

    Warns
    -----
    UserWarning
        If something was passed that no file can hold.
    """
    signature = inspect.signature(cls.__init__)  # type: ignore[misc]  # a class, not an instance
    try:
        bound = signature.bind_partial(None, *args, **kwargs)
    except TypeError:
        bound = signature.bind_partial(None)
    arguments: dict[str, Any] = {}
    for parameter in list(signature.parameters.values())[1:]:
        if parameter.name in bound.arguments:
            passed = _flat(parameter, recorded(bound.arguments[parameter.name]), signature)
            for problem in filter(None, (_problem(cls, *item) for item in passed.items())):
                warnings.warn(f"{problem}; save() will refuse this model", stacklevel=3)
            arguments.update(passed)
        elif parameter.default is not parameter.empty:
            default = recorded(parameter.default)
            if _problem(cls, parameter.name, default) is None:
                arguments[parameter.name] = default
    module, name = recorded_as(cls)
    return {"__name__": name, "__module__": module, "__args__": arguments}


def _flat(parameter: inspect.Parameter, value: Any, signature: inspect.Signature) -> dict[str, Any]:
    """Return what was passed for a parameter, by the names that it has in a record."""
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return {parameter.name: list(value)}
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        # A name may be that of a parameter which cannot be passed by name.
        clashes = value.keys() & (signature.parameters.keys() - {parameter.name})
        return {_together(parameter): value} if clashes else dict(value)
    return {parameter.name: value}


def _together(parameter: inspect.Parameter) -> str:
    return f"**{parameter.name}"


def _problem(cls: type, name: str, value: Any) -> str | None:
    """Say why an argument cannot be stored, if it cannot."""
    try:
        write(value, (name,), cls.__name__, {}, _stand_in)
    except TypeError as error:
        return str(error)
    return None


def bind(cls: type, arguments: Mapping[str, Any]) -> inspect.BoundArguments:
    """Sort recorded arguments into positional and keyword ones for ``cls``.

    Raises
    ------
    TypeError
        If they do not fit the signature.
    """
    signature = inspect.signature(cls.__init__)  # type: ignore[misc]
    positional: list[Any] = []
    keywords = dict(arguments)
    names = list(signature.parameters.values())[1:]
    variadic = [p.name for p in names if p.kind is inspect.Parameter.VAR_POSITIONAL]
    by_position = bool(variadic and keywords.get(variadic[0]))
    together = [keywords.pop(_together(parameter), {}) for parameter in names[-1:]]
    for parameter in names:
        if parameter.name not in keywords:
            continue
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            positional.extend(keywords.pop(parameter.name))
        elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY or (
            by_position and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ):
            positional.append(keywords.pop(parameter.name))
    return signature.bind(None, *positional, **keywords, **dict(*together))


def _stand_in(value: Any, path: Path) -> str | None:
    return "" if isinstance(value, ModelBase) else None
