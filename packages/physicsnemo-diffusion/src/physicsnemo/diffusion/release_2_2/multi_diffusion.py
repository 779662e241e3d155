# SPDX-License-Identifier: Apache-2.0
"""Models that work on patches, as release 2.2 has them: :class:`~physicsnemo.diffusion.Patches`.

The reference calls it multi-diffusion: Bar-Tal et al. 2023, "MultiDiffusion", arXiv:2302.08113.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from physicsnemo.diffusion._conditions import Condition, each_tensor, of_batch
from physicsnemo.diffusion.patches import Cut, Patches, in_chunks
from physicsnemo.diffusion.release_2_2.conditions import ALONE, POSITIONS
from physicsnemo.diffusion.release_2_2.protocols import PredictorType
from physicsnemo.models.diffusion.song_unet._grids import position_grid
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn.checkpointing import maybe_checkpoint
from physicsnemo.nn.checks import check_choice
from physicsnemo.utils import unwrap
from physicsnemo.utils.patching import BasePatching2D, GridPatching2D, RandomPatching2D

Embedding = Literal["learnable", "linear", "sinusoidal"]
Flags = bool | Mapping[str, bool]
_ToX0 = Callable[[Tensor, Tensor, Tensor], Tensor]


class MultiDiffusionModel2D(Module):
    """A model of patches of images, with a position and a condition for each.

    Parameters
    ----------
    model
        The model of patches, ``model(x, t, condition=condition)``, such as an
        :class:`EDMPreconditioner`.
    global_spatial_shape
        Height and width of the images.
    positional_embedding
        Channels that tell where a patch is, ``"positional_embedding"`` of its condition:
        ``"learnable"``; ``"linear"``, row and column from -1 to 1; ``"sinusoidal"``, sines and
        cosines of octaves of both. None for none.
    channels_positional_embedding
        Their number: 2 for ``"linear"``, a multiple of 4 for ``"sinusoidal"``.
    condition_patch, condition_interp
        Whether the condition is cut as the images are, or resized to the shape of a patch. Both
        are for all tensors of the condition or by name, where False is the default. Otherwise each
        patch is given all of a tensor.

    Raises
    ------
    TypeError
        If flags are neither one nor a mapping.
    ValueError
        If there is no such embedding, or both flags are set for a tensor.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.diffusion.multi_diffusion import MultiDiffusionModel2D
    >>> from physicsnemo.diffusion.preconditioners import EDMPreconditioner
    >>> from physicsnemo.diffusion.utils import ConcatConditionWrapper
    >>> from physicsnemo.models.diffusion_unets import SongUNet
    >>> network = SongUNet(
    ...     8, in_channels=2 + 1 + 4, out_channels=2, model_channels=8, channel_mult=[1]
    ... )
    >>> patches = EDMPreconditioner(ConcatConditionWrapper(network))
    >>> model = MultiDiffusionModel2D(patches, (16, 16), "sinusoidal", 4, condition_patch=True)
    >>> model.set_grid_patching((8, 8), overlap_pix=2)
    >>> model(torch.randn(3, 2, 16, 16), torch.rand(3), torch.randn(3, 1, 16, 16)).shape
    torch.Size([3, 2, 16, 16])
    """

    _recorded_as = "physicsnemo.diffusion.multi_diffusion.MultiDiffusionModel2D"
    _patch_shape: Tensor
    pos_embd: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        global_spatial_shape: Sequence[int],
        positional_embedding: Embedding | None = None,
        channels_positional_embedding: int = 4,
        condition_patch: Flags = False,
        condition_interp: Flags = False,
    ) -> None:
        super().__init__(meta=ModelMetaData(name="MultiDiffusionModel2D"))
        self.model = model
        height, width = global_spatial_shape
        self.global_spatial_shape = (int(height), int(width))
        self.condition_patch, self.condition_interp = condition_patch, condition_interp
        _check_flags(condition_patch, condition_interp)
        self._set_embedding(positional_embedding, channels_positional_embedding)
        self.register_buffer("_patch_shape", torch.zeros(2, dtype=torch.int64))
        self._patching: BasePatching2D | None = None
        self._fuses = False

    @property
    def patch_shape(self) -> tuple[int, int] | None:
        """Height and width of the patches, those saved with the model at first; None for none."""
        if self._patching is not None:
            return self._patching.patch_shape
        height, width = self._patch_shape.tolist()
        return (height, width) if height else None

    def set_random_patching(self, patch_shape: Sequence[int], patch_num: int) -> None:
        """Work on patches at random places from now on, which PyTorch's generator draws."""
        shape, drawn_by = self.global_spatial_shape, torch.default_generator
        self._set_patching(RandomPatching2D(shape, patch_shape, patch_num, drawn_by), fuse=False)

    def set_grid_patching(
        self,
        patch_shape: Sequence[int],
        overlap_pix: int = 0,
        boundary_pix: int = 0,
        fuse: bool = True,
    ) -> None:
        """Work on patches of a grid from now on, put together unless ``fuse`` is False."""
        shape = self.global_spatial_shape
        self._set_patching(GridPatching2D(shape, patch_shape, overlap_pix, boundary_pix), fuse)

    def reset_patch_indices(self) -> None:
        """Draw new places.

        Raises
        ------
        RuntimeError
            If places are not random.
        """
        if not isinstance(self._patching, RandomPatching2D):
            raise RuntimeError("places of patches are not random: call set_random_patching first")
        self._patching.reset_patch_indices()

    def patch_x(self, x: Tensor) -> Tensor:
        """Return the patches (patches * batch, channels, ...) of images, the batch fastest."""
        return self._patches().fields(x)

    def patch_t(self, t: Tensor) -> Tensor:
        """Return the time of each patch, from those of images."""
        return self._patches().times(t)

    def patch_condition(self, condition: Condition) -> Condition:
        """Return the condition of each patch, from that of images, without positions.

        Raises
        ------
        RuntimeError
            If no patches are set.
        ValueError
            If flags are for tensors that the condition has not, or a tensor to cut is no image.
        """
        return self.cut_condition(self._patches().patching, condition)

    def fuse(self, patches: Tensor, batch_size: int) -> Tensor:
        """Return images of patches, their means where they overlap.

        Raises
        ------
        RuntimeError
            If they are not those of a grid.
        """
        if not isinstance(self._patching, GridPatching2D):
            raise RuntimeError("only patches of a grid make an image: call set_grid_patching first")
        return self._patching.fuse(patches, batch_size)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        condition: Condition = None,
        x_is_patched: bool = False,
        t_is_patched: bool = False,
        condition_is_patched: bool = False,
        **model_kwargs: Any,
    ) -> Tensor:
        """Call the model of patches; without patches set, with the whole images.

        Parameters
        ----------
        x
            Noisy images of shape (batch, channels, height, width), or patches of them.
        t
            Times of shape (batch,), or of patches.
        condition
            A tensor, a mapping or None, of images or of patches.
        x_is_patched, t_is_patched, condition_is_patched
            What is of patches already; a condition of patches has their positions too.
        **model_kwargs
            Further arguments of the model.

        Returns
        -------
        Images, where patches of a grid are put together; else patches.
        """
        patching = self._patching
        if patching is None:
            whole = self.with_positions(condition, None, x.shape[0])
            return self._call(x, t, whole, **model_kwargs)
        batch = x.shape[0] // patching.patch_num if x_is_patched else x.shape[0]
        if not condition_is_patched:
            condition = self.cut_condition(patching, condition)
            condition = self.with_positions(condition, patching, batch)
        x = x if x_is_patched else self.patch_x(x)
        t = t if t_is_patched else self.patch_t(t)
        output = self._call(x, t, condition, **model_kwargs)
        return self.fuse(output, batch) if self._fuses else output

    def cut_condition(self, patching: BasePatching2D, condition: Condition) -> Condition:
        """Return the condition of patches, without positions; errors as of patch_condition."""
        if condition is None:
            return None
        if isinstance(condition, Tensor):
            names, batch = ["image"], condition.shape[0]
        elif isinstance(condition, Mapping):
            names = list(condition.keys())
            batch = max((it.shape[0] for it in condition.values()), default=0)
        else:
            raise TypeError(
                f"expected a condition that is a tensor or a mapping, got "
                f"{type(condition).__name__}"
            )
        for flags in (self.condition_patch, self.condition_interp):
            if isinstance(flags, Mapping) and (missing := flags.keys() - {*names}):
                raise ValueError(
                    f"expected a mapping with {', '.join(sorted(missing))} as the condition, as "
                    f"condition_patch and condition_interp have it, got "
                    f"{'a tensor' if isinstance(condition, Tensor) else ', '.join(names)}"
                )
        return Patches(patching, {name: self._cut(name) for name in names}).condition(
            condition, batch
        )

    def with_positions(
        self, condition: Condition, patching: BasePatching2D | None, batch: int
    ) -> Condition:
        """Return a condition with the embedding, of patches if there is a patching."""
        if self.pos_embd is None:
            return condition
        grid = self.pos_embd.expand(batch, -1, -1, -1)
        named = {ALONE: condition} if isinstance(condition, Tensor) else dict(condition or {})
        return {**named, POSITIONS: grid if patching is None else patching.apply(grid)}

    def _call(self, x: Tensor, t: Tensor, condition: Condition, **model_kwargs: Any) -> Tensor:
        output: Tensor = self.model(x, t, condition=condition, **model_kwargs)
        return output

    def _patches(self) -> Patches:
        if self._patching is None:
            raise RuntimeError(
                "no patches are set: call set_random_patching or set_grid_patching first"
            )
        return Patches(self._patching)

    def _set_patching(self, patching: BasePatching2D, fuse: bool) -> None:
        self._patching, self._fuses = patching, fuse
        self._patch_shape.copy_(torch.tensor(patching.patch_shape))

    def _cut(self, name: str) -> Cut:
        if _flag(self.condition_patch, name):
            return "patch"
        return "resize" if _flag(self.condition_interp, name) else "repeat"

    def _set_embedding(self, kind: Embedding | None, channels: int) -> None:
        if kind is None:
            self.pos_embd = None
            return
        check_choice("positional_embedding", kind, get_args(Embedding))
        grid_of = {"sinusoidal": "sinusoidal_octave"}
        grid = position_grid(grid_of.get(kind, kind), channels, *self.global_spatial_shape)
        grid = grid.to(torch.get_default_dtype())
        if kind == "learnable":
            self.pos_embd = nn.Parameter(grid)
            return
        # Rows first, where the grids of the U-Nets have columns first.
        grid = grid.flip(0) if kind == "linear" else grid
        self.register_buffer("pos_embd", grid, persistent=kind == "linear")


class MultiDiffusionPredictor:
    """A predictor of whole images, of a model of patches and a condition, for sampling.

    It leaves the model as it is.

    Parameters
    ----------
    model
        A :class:`MultiDiffusionModel2D`.
    condition
        The condition of images, for each sample or one for all.
    fuse
        Put patches together.
    chunk_size
        How many patches the model is given at once; by default all. What gradients need of more
        than one chunk is computed again.
    use_checkpointing
        Compute again what gradients need of a single chunk too.
    prediction_type, score_to_x0_fn, epsilon_to_x0_fn
        What the model returns, and the function that makes data of it, as of :class:`MSEDSMLoss`.
    **model_kwargs
        Further arguments of the model.

    Raises
    ------
    TypeError
        If the model is another.
    ValueError
        If the function that the prediction needs is missing.
    """

    def __init__(
        self,
        model: nn.Module,
        condition: Condition = None,
        fuse: bool = True,
        chunk_size: int | None = None,
        use_checkpointing: bool = False,
        prediction_type: PredictorType = "x0",
        score_to_x0_fn: _ToX0 | None = None,
        epsilon_to_x0_fn: _ToX0 | None = None,
        **model_kwargs: Any,
    ) -> None:
        plain = unwrap(model)
        if not isinstance(plain, MultiDiffusionModel2D):
            raise TypeError(f"expected a MultiDiffusionModel2D, got a {type(plain).__name__}")
        self.model, self.condition, self.fuse = plain, condition, fuse
        self.chunk_size, self.use_checkpointing = chunk_size, use_checkpointing
        self._to_x0 = as_x0(prediction_type, score_to_x0_fn, epsilon_to_x0_fn)
        self._keywords = model_kwargs
        self._patching: GridPatching2D | None = None

    def set_patching(
        self,
        overlap_pix: int,
        boundary_pix: int,
        *,
        patch_shape: Sequence[int] | None = None,
        global_shape: Sequence[int] | None = None,
    ) -> None:
        """Choose the grid of patches.

        Parameters
        ----------
        overlap_pix, boundary_pix
            As of :class:`~physicsnemo.utils.patching.GridPatching2D`.
        patch_shape, global_shape
            Height and width of patches and images, by default those of the model.

        Raises
        ------
        RuntimeError
            If no shape of patches is given, and the model knows none.
        """
        patch_shape = patch_shape or self.model.patch_shape
        if patch_shape is None:
            raise RuntimeError("the model knows no shape of patches: give patch_shape")
        shape = global_shape or self.model.global_spatial_shape
        self._patching = GridPatching2D(shape, patch_shape, overlap_pix, boundary_pix)

    @property
    def patching(self) -> GridPatching2D:
        """The grid of patches; a RuntimeError if there is none."""
        if self._patching is None:
            raise RuntimeError("the predictor is not configured: call set_patching first")
        return self._patching

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Height and width of the patches."""
        return self.patching.patch_shape

    def patch_fn(self, x: Tensor) -> Tensor:
        """Return the patches (patches * batch, channels, ...) of images, the batch fastest."""
        return self.patching.apply(x)

    def fuse_fn(self, patches: Tensor) -> Tensor:
        """Return the images of patches."""
        return self.patching.fuse(patches, patches.shape[0] // self.patching.patch_num)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the estimate of images (batch, channels, height, width) at times (batch,)."""
        x, t, condition = self._in_patches(x, t)
        if self.use_checkpointing and x.shape[0] <= (self.chunk_size or x.shape[0]):
            x0 = maybe_checkpoint(self._estimate, torch.is_grad_enabled(), x, t, condition)
        else:
            x0 = in_chunks(self._estimate, x, t, condition, self.chunk_size)
        return self.fuse_fn(x0) if self.fuse else x0

    def chunks(self, x: Tensor, t: Tensor) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """Yield the first row of each chunk, the estimates, the patches and the times of it.

        Each chunk of patches that require a gradient has a graph of its own.

        Raises
        ------
        RuntimeError
            If there is no ``chunk_size``.
        """
        if self.chunk_size is None:
            raise RuntimeError("there are no chunks: give chunk_size to the predictor")
        x, t, condition = self._in_patches(x, t)
        for start in range(0, x.shape[0], self.chunk_size):
            rows = slice(start, start + self.chunk_size)
            of_rows = each_tensor(condition, lambda _, it, rows=rows: it[rows])  # type: ignore[misc]
            noisy = x[rows]
            if torch.is_grad_enabled() and not noisy.requires_grad:
                noisy.requires_grad_()
            yield start, self._estimate(noisy, t[rows], of_rows), noisy, t[rows]

    def _estimate(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        output = self.model.model(x, t, condition=condition, **self._keywords)
        return self._to_x0(output, x, t)

    def _in_patches(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Condition]:
        patching, batch = self.patching, x.shape[0]
        condition = self.model.cut_condition(patching, of_batch(self.condition, batch))
        condition = self.model.with_positions(condition, patching, batch)
        return patching.apply(x), t.repeat(patching.patch_num), condition


def as_x0(
    prediction_type: PredictorType, score_to_x0_fn: _ToX0 | None, epsilon_to_x0_fn: _ToX0 | None
) -> _ToX0:
    """Return the function of a prediction, the state and the time that makes data of it.

    Raises
    ------
    ValueError
        If there is no such prediction, or no function for it.
    """
    check_choice("prediction_type", prediction_type, get_args(PredictorType))
    if prediction_type == "x0":
        return lambda x0, x, t: x0
    function = score_to_x0_fn if prediction_type == "score" else epsilon_to_x0_fn
    if function is None:
        raise ValueError(f"prediction_type={prediction_type!r} needs {prediction_type}_to_x0_fn")
    return function


def _check_flags(patch: Flags, interp: Flags) -> None:
    for name, flags in (("condition_patch", patch), ("condition_interp", interp)):
        if not isinstance(flags, bool | Mapping):
            raise TypeError(
                f"expected {name} to be a bool, or a mapping of names to such, got {flags!r}"
            )
    names = {name for flags in (patch, interp) if isinstance(flags, Mapping) for name in flags}
    for name in names or {"image"}:
        if _flag(patch, name) and _flag(interp, name):
            raise ValueError(
                f"the condition {name!r} can be cut or resized, not both: set condition_patch or "
                f"condition_interp"
            )


def _flag(flags: Flags, name: str) -> bool:
    return flags.get(name, False) if isinstance(flags, Mapping) else flags
