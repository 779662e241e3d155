# SPDX-License-Identifier: Apache-2.0
"""Diffusion of images larger than a network is trained on, patch by patch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from physicsnemo.diffusion._conditions import Condition, each_tensor, of_batch
from physicsnemo.nn.checkpointing import maybe_checkpoint
from physicsnemo.nn.checks import check_choice
from physicsnemo.utils.patching import BasePatching2D

Cut = Literal["patch", "resize", "repeat"]
Estimate = Callable[[Tensor, Tensor, Condition], Tensor]


@dataclass(frozen=True)
class Patches:
    """How fields and their conditions are cut into patches, in training and in sampling.

    It holds no state: the same model can be trained on patches and sample whole images.

    Parameters
    ----------
    patching
        Where patches are. Sampling needs a :class:`~physicsnemo.utils.patching.GridPatching2D`;
        training takes random places too.
    cut
        What becomes of each tensor of a condition, by its name, ``image`` if it stands alone:
        ``"patch"``, it is cut as the fields are; ``"resize"``, each patch gets all of it, resized
        to the shape of a patch; ``"repeat"``, each gets it as it is. By default tensors of the
        images' height and width are cut, and others repeated.
    positions
        Add two channels to the condition's image: row and column, each from -1 to 1 over the
        whole image.

    References
    ----------
    Bar-Tal et al. 2023, "MultiDiffusion", arXiv:2302.08113; Mardani et al. 2023, arXiv:2309.15214.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.diffusion import Patches
    >>> from physicsnemo.utils.patching import GridPatching2D
    >>> patches = Patches(GridPatching2D((16, 16), (8, 8)), positions=True)
    >>> condition = {"image": torch.randn(2, 3, 16, 16), "vector": torch.randn(2, 5)}
    >>> {name: tuple(cut.shape) for name, cut in patches.condition(condition, batch=2).items()}
    {'image': (8, 5, 8, 8), 'vector': (8, 5)}
    """

    patching: BasePatching2D
    cut: Mapping[str, Cut] = field(default_factory=dict)
    positions: bool = False

    def __post_init__(self) -> None:
        """Check the options."""
        for name, kind in self.cut.items():
            check_choice(f"cut of {name!r}", kind, get_args(Cut))

    def fields(self, x: Tensor) -> Tensor:
        """Return patches (patches * batch, channels, ...) of fields, the batch running fastest."""
        return self.patching.apply(x)

    def times(self, t: Tensor) -> Tensor:
        """Return the time of each patch, from those of images."""
        return t.repeat(self.patching.patch_num)

    def condition(self, condition: Condition, batch: int, like: Tensor | None = None) -> Condition:
        """Return the condition of each patch.

        Parameters
        ----------
        condition
            That of images.
        batch
            How many images there are.
        like
            Where positions are made if there is no condition: its type and device. By default
            those of the condition's image.
        """
        condition = of_batch(condition, batch)
        if self.positions:
            condition = self._with_positions(condition, batch, like)
        return each_tensor(condition, self._cut)

    def estimate(
        self, estimate: Estimate, x: Tensor, t: Tensor, condition: Condition, chunk: int | None
    ) -> Tensor:
        """Return estimates of whole images, the means of those of patches where they overlap."""
        in_patches = self.condition(condition, x.shape[0], like=x)
        estimates = in_chunks(estimate, self.fields(x), self.times(t), in_patches, chunk)
        return self.patching.fuse(estimates, batch_size=x.shape[0])

    def _cut(self, name: str, tensor: Tensor) -> Tensor:
        of_image = tensor.ndim == 4 and tuple(tensor.shape[2:]) == self.patching.img_shape
        kind = self.cut.get(name, "patch" if of_image else "repeat")
        if kind == "patch":
            return self.patching.apply(tensor)
        if kind == "resize":
            tensor = cast(Tensor, self.patching.resized(tensor))
        return tensor.repeat(self.patching.patch_num, *[1] * (tensor.ndim - 1))

    def _with_positions(
        self, condition: Condition, batch: int, like: Tensor | None
    ) -> dict[str, Tensor]:
        named = {"image": condition} if isinstance(condition, Tensor) else dict(condition or {})
        image = named.get("image", like)
        if image is None:
            raise ValueError("expected a condition with an image to add positions to, got none")
        axes = [
            torch.linspace(-1, 1, size, dtype=image.dtype, device=image.device)
            for size in self.patching.img_shape
        ]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(batch, -1, -1, -1)
        named["image"] = torch.cat((named["image"], grid), dim=1) if "image" in named else grid
        return named


def in_chunks(
    estimate: Estimate, x: Tensor, t: Tensor, condition: Condition, chunk: int | None
) -> Tensor:
    """Return estimates, of so many samples at once; what gradients need is computed again."""
    size = x.shape[0] if chunk is None else chunk
    if size >= x.shape[0]:
        return estimate(x, t, condition)

    def rows(start: int) -> Tensor:
        part = slice(start, start + size)
        return estimate(x[part], t[part], each_tensor(condition, lambda _, it: it[part]))

    # Only in training may a model draw random numbers, whose state a captured loop cannot keep.
    draws, again = getattr(estimate, "training", False), torch.is_grad_enabled()
    return torch.cat(
        [
            maybe_checkpoint(rows, again, start, preserve_rng_state=draws)
            for start in range(0, x.shape[0], size)
        ]
    )
