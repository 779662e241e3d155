# SPDX-License-Identifier: Apache-2.0
"""Files as releases of nvidia-physicsnemo write them, by the description of those releases.

Written without this library's own tables and writers, so that either can be tested by the other:
where releases keep a class, which arguments and tensors their files hold, and in which container.
"""

import io
import json
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import torch

from physicsnemo import Module

RELEASES = ("1.2", "1.3", "2.0", "2.1", "2.2")
VERSIONS = dict(zip(RELEASES, ("1.2.0", "1.3.0", "2.0.0", "2.1.1", "2.2.2"), strict=True))

OLD, NEW = "physicsnemo.models.diffusion", "physicsnemo.models.diffusion_unets"
WRAPPERS = "physicsnemo.diffusion.preconditioners.legacy"
# Modules until 1.3 and from 2.0 on, of classes that moved; the others stayed.
MODULES = {
    "SongUNet": (f"{OLD}.song_unet", f"{NEW}.song_unet"),
    "SongUNetPosEmbd": (f"{OLD}.song_unet", f"{NEW}.song_unet"),
    "SongUNetPosLtEmbd": (f"{OLD}.song_unet", f"{NEW}.song_unet"),
    "DhariwalUNet": (f"{OLD}.dhariwal_unet", f"{NEW}.dhariwal_unet"),
    "UNet": (f"{OLD}.unet", f"{NEW}.unet"),
    "StormCastUNet": (f"{OLD}.unet", f"{NEW}.unet"),
    "tEDMPrecondSuperRes": ("physicsnemo.experimental.models.diffusion.preconditioning",) * 2,
    **dict.fromkeys(
        (
            "VPPrecond",
            "VEPrecond",
            "iDDPMPrecond",
            "EDMPrecond",
            "EDMPrecondSuperResolution",
            "EDMPrecondSR",
            "VEPrecond_dfsr",
            "VEPrecond_dfsr_cond",
        ),
        (f"{OLD}.preconditioning", WRAPPERS),
    ),
    "FullyConnected": ("physicsnemo.models.mlp.fully_connected",) * 2,
    "FNO": ("physicsnemo.models.fno.fno",) * 2,
    "AFNO": ("physicsnemo.models.afno.afno",) * 2,
    "ModAFNO": ("physicsnemo.models.afno.modafno",) * 2,
    "MeshGraphNet": ("physicsnemo.models.meshgraphnet.meshgraphnet",) * 2,
    "BiStrideMeshGraphNet": ("physicsnemo.models.meshgraphnet.bsms_mgn",) * 2,
    "Pix2Pix": ("physicsnemo.models.pix2pix.pix2pix",) * 2,
    "SRResNet": ("physicsnemo.models.srrn.super_res_net",) * 2,
    "One2ManyRNN": ("physicsnemo.models.rnn.rnn_one2many",) * 2,
    "Seq2SeqRNN": ("physicsnemo.models.rnn.rnn_seq2seq",) * 2,
    "DLWP": ("physicsnemo.models.dlwp.dlwp",) * 2,
    "HEALPixUNet": ("physicsnemo.models.dlwp_healpix.HEALPixUNet",) * 2,
    "HEALPixRecUNet": ("physicsnemo.models.dlwp_healpix.HEALPixRecUNet",) * 2,
    "GraphCastNet": ("physicsnemo.models.graphcast.graph_cast_net",) * 2,
    "Pangu": ("physicsnemo.models.pangu.pangu",) * 2,
    "Fengwu": ("physicsnemo.models.fengwu.fengwu",) * 2,
    "SwinRNN": ("physicsnemo.models.swinvrnn.swinvrnn",) * 2,
}
# Arguments that come, with their value, and go; by class, with the release of the change.
COMING = {
    **{
        name: {"bottleneck_attention": (True, "2.0")}
        for name in ("SongUNet", "SongUNetPosEmbd", "SongUNetPosLtEmbd")
    },
    "GraphCastNet": {"graph_backend": ("pyg", "1.3")},
}
GOING = {"GraphCastNet": {"multimesh_level": "2.0"}}
# Keys that are spelt otherwise from a release on.
RENAMED = {
    "Pangu": ("1.3", r"\.mlp\.fc(1|2)\.", lambda it: f".mlp.layers.{2 * int(it[1]) - 2}."),
    "Fengwu": ("1.3", r"\.mlp\.fc(1|2)\.", lambda it: f".mlp.layers.{2 * int(it[1]) - 2}."),
    "ModAFNO": ("2.0", r"\.scale_shift\.net\.", lambda it: ".scale_shift.net.layers."),
}
# Numbers among the constructor arguments that are in the state from 2.0 on.
NUMBERS = {
    "EDMPrecond": ("sigma_data",),
    "VPPrecond": ("beta_d", "beta_min", "M"),
    "iDDPMPrecond": ("C_1", "C_2", "M"),
}
FILE_VERSIONS = {"UNet": ("0.2.0", "0.2.0"), "HEALPixUNet": ("0.1.0", "0.2.0")}
FILE_VERSIONS["HEALPixRecUNet"] = FILE_VERSIONS["HEALPixUNet"]
MARK = "__physicsnemo.Module__"


def write(model: Module, release: str, path: Path, **metadata: Any) -> Path:
    """Write a model as a release does, and return the file's path.

    Parameters
    ----------
    model
        The model.
    release
        As in ``"1.3"``.
    path
        The file.
    **metadata
        Takes the place of what the release writes.
    """
    arguments, stated = records(model, release)
    buffer = io.BytesIO()
    torch.save(state(model, release), buffer)
    content = {
        "model.pt": buffer.getvalue(),
        "args.json": json.dumps(arguments).encode(),
        "metadata.json": json.dumps(stated | metadata).encode(),
    }
    if release >= "2.0":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        return path
    with tarfile.open(path, "w") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def read(path: Path) -> tuple[bool, dict[str, torch.Tensor], Any, Any]:
    """Return whether a file is a zip, its state, its arguments and its metadata."""
    is_zip = path.read_bytes().startswith(b"PK")
    if is_zip:
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
    else:
        with tarfile.open(path) as archive:
            content = {member.name: archive.extractfile(member).read() for member in archive}
    weights = torch.load(io.BytesIO(content["model.pt"]), weights_only=True)
    return is_zip, weights, json.loads(content["args.json"]), json.loads(content["metadata.json"])


def records(model: Module, release: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a model's ``args.json`` and ``metadata.json``, those of models in it included."""
    parts: dict[str, Any] = {}
    metadata = {"physicsnemo_version": VERSIONS[release]}
    outer = _record(model, "", release, parts, metadata)
    return outer | parts, metadata


def _record(
    model: Module, key: str, release: str, parts: dict[str, Any], metadata: dict[str, Any]
) -> dict[str, Any]:
    name, is_new = type(model).__name__, release >= "2.0"
    versions = FILE_VERSIONS.get(name, ("0.1.0", "0.1.0"))
    metadata[f"{key}.mdlus_file_version".removeprefix(".")] = versions[is_new]
    arguments = {}
    for argument, value in model._args["__args__"].items():
        if isinstance(value, Module):
            inner = f"{key or MARK}.{argument}"
            parts[inner] = _record(value, inner, release, parts, metadata)
            value = inner
        if argument != "numerics":
            arguments[argument] = value
    for argument, (value, since) in COMING.get(name, {}).items():
        if release < since:
            arguments.pop(argument, None)
        else:
            arguments.setdefault(argument, value)
    for argument, until in GOING.get(name, {}).items():
        if release >= until:
            arguments.pop(argument, None)
    if name.startswith("HEALPix"):
        text = json.dumps(arguments).replace("physicsnemo.nn.", "physicsnemo.models.layers.")
        arguments = moved_targets(json.loads(text)) if is_new else json.loads(text)
    shown = "CorrDiffRegressionUNet" if is_new and name == "UNet" else name
    module = MODULES[name][is_new] if name in MODULES else type(model).__module__
    return {"__name__": shown, "__module__": module, "__args__": arguments}


def moved_targets(value: Any) -> Any:
    """Return a configuration of HEALPix layers with the class paths of 2.0 and later."""
    if isinstance(value, dict):
        return {name: moved_targets(item) for name, item in value.items()}
    if isinstance(value, list):
        return [moved_targets(item) for item in value]
    if not isinstance(value, str):
        return value
    name = value.rpartition(".")[2]
    if re.match(r"physicsnemo\.(nn|models\.layers)\.activations\.", value):
        return f"physicsnemo.nn.{name}"
    if not value.startswith("physicsnemo.models.dlwp_healpix_layers."):
        return value
    if name in ("AvgPool", "MaxPool"):
        return f"physicsnemo.nn.HEALPix{name}"
    if name.startswith("HEALPix"):
        return f"physicsnemo.nn.{name}"
    return f"physicsnemo.models.dlwp_healpix.layers.{name}"


def state(model: Module, release: str) -> dict[str, torch.Tensor]:
    """Return the state dict of a model as a release has it."""
    parts = dict(model.named_modules(remove_duplicate=False))
    result = {key: it.detach().clone() for key, it in model.state_dict().items()}
    for path, part in parts.items():
        prefix, name = f"{path}." if path else "", type(part).__name__
        if name in RENAMED and release >= RENAMED[name][0]:
            _, pattern, new = RENAMED[name]
            result = {re.sub(pattern, new, key): it for key, it in result.items()}
        if name in NUMBERS and release >= "2.0":
            for number in NUMBERS[name]:
                result[prefix + number] = torch.tensor(part._args["__args__"][number])
        if name == "PositionalEmbedding" and release >= "2.1":
            half = part.num_channels // 2  # endpoint is set in no model
            last = half - (name_of_owner(parts, path) == "SongUNet")
            exponents = torch.arange(half, dtype=torch.float32) / last
            result[f"{prefix}freqs"] = (1 / 10000) ** exponents
        fixed = f"{prefix}pos_embd" in dict(model.named_buffers())
        if name.startswith("SongUNetPos") and release >= "1.3" and fixed:
            del result[f"{prefix}pos_embd"]
    if release >= "2.0":
        result = {key: it for key, it in result.items() if not key.endswith("device_buffer")}
    return result


def name_of_owner(parts: dict[str, torch.nn.Module], path: str) -> str:
    """Return the family of the network that an embedding belongs to: all SongUNets have one."""
    name = type(parts[path.rpartition(".")[0]]).__name__
    return "SongUNet" if name.startswith("SongUNet") else name
