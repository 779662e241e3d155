# SPDX-License-Identifier: Apache-2.0
"""The files that one step of a training consists of, and how they are called."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from physicsnemo.core.base import class_of, metadata_of, unwrap
from physicsnemo.core.format.container import EXTENSION
from physicsnemo.models.module import Module

Models = torch.nn.Module | Sequence[torch.nn.Module] | None


@dataclass(frozen=True)
class Part:
    """One of the files of every step, ``<stem>.<rank>.<step><extension>``."""

    stem: str
    extension: str

    def file(self, rank: int, step: int) -> str:
        """Return the file's name at a step."""
        return f"{self.stem}.{rank}.{step}{self.extension}"

    def steps(self, names: Iterable[str], rank: int) -> set[int]:
        """Return the steps whose file is among the names."""
        head, tail = re.escape(f"{self.stem}.{rank}."), re.escape(self.extension)
        pattern = re.compile(rf"{head}(0|[1-9][0-9]*){tail}")
        return {int(match[1]) for match in map(pattern.fullmatch, names) if match}


TRAINING = Part("checkpoint", ".pt")
MANIFEST = Part("manifest", ".json")


def name_parts(models: Models) -> dict[Part, torch.nn.Module]:
    """Return the models, unwrapped, by the part that each is stored in.

    A :class:`physicsnemo.Module` is called by its metadata, another one by its class. Models that
    share a name are numbered in their order.

    Raises
    ------
    ValueError
        If two models come to the same name nevertheless, or one cannot be a file's.
    """
    given = [models] if isinstance(models, torch.nn.Module) else models or []
    inner = [unwrap(model) for model in given]
    names = [_name(model) for model in inner]
    parts: dict[Part, torch.nn.Module] = {}
    for position, (model, name) in enumerate(zip(inner, names, strict=True)):
        number = names[:position].count(name) if names.count(name) > 1 else ""
        part = Part(f"{name}{number}", EXTENSION if isinstance(model, Module) else ".pt")
        if part in parts or part == TRAINING or re.search(r"[/\\]", name):
            raise ValueError(
                f"model {position} cannot be stored as {part.stem}{part.extension}: it is taken, "
                f"or not a file's name; name the model in its metadata"
            )
        parts[part] = model
    return parts


def _name(model: torch.nn.Module) -> str:
    if isinstance(model, Module) and (meta := metadata_of(model)) is not None:
        return meta.name
    return class_of(model).__name__
