# SPDX-License-Identifier: Apache-2.0
"""Samples on the disk, computed once."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import load_file, save_file
from torch import Tensor


def cache_folder() -> Path:
    """Return the user's folder for samples: below ``XDG_CACHE_HOME``, by default ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "physicsnemo", "reproductions")


def cached(name: str, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return inputs and outputs in float32 on the CPU, from the disk if they are there.

    Parameters
    ----------
    name, make
        As in :func:`cached_tensors`; ``make`` computes inputs and outputs.
    """

    def tensors() -> dict[str, Tensor]:
        inputs, outputs = make()
        return {"inputs": inputs.float(), "outputs": outputs.float()}

    found = cached_tensors(name, tensors)
    return found["inputs"], found["outputs"]


def cached_tensors(name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return tensors by name on the CPU, from the disk if they are there.

    Parameters
    ----------
    name
        Begin of the file's name, which must tell apart all that ``make`` depends on but the code
        of the solvers: a hash of that follows, since samples of other code are other samples.
    make
        Computes them.

    Raises
    ------
    FloatingPointError
        If some of them are not finite. None is kept then.
    """
    path = cache_folder() / f"{name}-{_hash_of_solvers()}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {key: it.cpu().contiguous() for key, it in make().items()}
        for key, it in tensors.items():
            if not it.isfinite().all():
                raise FloatingPointError(f"samples {name}: {key} are not finite")
        # Renamed when whole: whoever reads meanwhile, or after a crash, finds no part of it.
        with TemporaryDirectory(dir=path.parent) as folder:
            save_file(tensors, Path(folder, "samples"))
            os.replace(Path(folder, "samples"), path)
    return load_file(path)


def _hash_of_solvers() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
