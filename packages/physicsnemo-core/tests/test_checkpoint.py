# SPDX-License-Identifier: Apache-2.0
"""Saving to and loading from ``.mdlus`` files."""

import io
import json
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.errors import CheckpointError


class Outer(Module):
    def __init__(self, inner, others=(), named=None):
        super().__init__()
        self.inner = inner
        self.others = torch.nn.ModuleList(others)
        self.named = torch.nn.ModuleDict(named or {})


class Bag(Module):
    """Takes anything."""

    def __init__(self, anything):
        super().__init__()


@pytest.fixture
def saved(affine, tmp_path):
    """A file with a model whose weights are not those of a new one."""
    model = affine(3)
    torch.nn.init.normal_(model.scale)
    model.save(tmp_path / "model.mdlus")
    return tmp_path / "model.mdlus", model


def test_file_is_a_plain_tar_in_the_known_layout(saved, members_of):
    path, model = saved
    with tarfile.open(path, "r:") as archive:
        assert archive.getnames() == ["model.pt", "args.json", "metadata.json"]
        assert all(member.isreg() for member in archive)
    members = members_of(path)
    assert json.loads(members["args.json"]) == {
        "__name__": "Affine",
        "__module__": type(model).__module__,
        "__args__": {"size": 3, "start": 1.0, "power": 1},
    }
    assert json.loads(members["metadata.json"])["mdlus_file_version"] == "0.1.0"
    state = torch.load(io.BytesIO(members["model.pt"]), weights_only=True)
    assert list(state) == ["scale", "shift", "device_buffer"]
    assert path.stat().st_size % tarfile.RECORDSIZE == 0


def test_round_trip_without_naming_the_class(saved):
    path, model = saved
    twin = Module.from_checkpoint(path)
    assert type(twin) is type(model)
    assert torch.equal(twin.scale, model.scale)


def test_load_into_an_existing_model(saved, affine):
    path, model = saved
    other = affine(3)
    other.load(path)
    assert torch.equal(other.scale, model.scale)


@pytest.mark.parametrize("name", [str, Path, "file://{}".format])
def test_paths_and_urls(saved, name):
    path, model = saved
    model.save(name(path))
    assert torch.equal(Module.from_checkpoint(name(path)).scale, model.scale)


def test_remote_file_system(affine):
    affine(2, start=4.0).save("memory://folder/model.mdlus")
    assert Module.from_checkpoint("memory://folder/model.mdlus").scale.tolist() == [4.0, 4.0]


def test_name_defaults_to_that_of_the_model(affine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    affine(2).save()
    assert [path.name for path in tmp_path.iterdir()] == ["Affine.mdlus"]


def test_commit_is_recorded_when_verbose(affine, tmp_path, monkeypatch, members_of):
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x"]
    subprocess.run([*git, "init", "-q", tmp_path], check=True)
    subprocess.run([*git, "-C", tmp_path, "commit", "-qm", "x", "--allow-empty"], check=True)
    monkeypatch.chdir(tmp_path)
    affine(2).save("model.mdlus", verbose=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    metadata = json.loads(members_of("model.mdlus")["metadata.json"])
    assert metadata["git_hash"] == head.stdout.strip()


def test_commit_is_none_outside_a_repository(affine, tmp_path, monkeypatch, members_of):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    affine(2).save("model.mdlus", verbose=True)
    assert json.loads(members_of("model.mdlus")["metadata.json"])["git_hash"] is None


def test_infinity_and_nan_survive(tmp_path):
    Bag([float("inf"), {"a": float("nan")}]).save(tmp_path / "bag.mdlus")
    first, second = Module.from_checkpoint(tmp_path / "bag.mdlus")._args["__args__"]["anything"]
    assert first == float("inf")
    assert second["a"] != second["a"]


def test_nested_models_round_trip_and_stay_shared(affine, tmp_path):
    inner = affine(2, start=5.0)
    model = Outer(inner, [Outer(inner, [affine(1)]), inner], {"deep": affine(3)})
    model.save(tmp_path / "outer.mdlus")
    twin = Module.from_checkpoint(tmp_path / "outer.mdlus")
    assert twin.inner is twin.others[1] is twin.others[0].inner
    assert twin.inner.scale.tolist() == [5.0, 5.0]
    assert twin.named["deep"].scale.shape == (3,)


def test_nested_models_are_written_as_newer_files_have_them(affine, tmp_path, members_of):
    Outer(Outer(affine(2))).save(tmp_path / "outer.mdlus")
    members = members_of(tmp_path / "outer.mdlus")
    arguments, metadata = (json.loads(members[f"{n}.json"]) for n in ("args", "metadata"))
    key, deeper = "__physicsnemo.Module__.inner", "__physicsnemo.Module__.inner.inner"
    assert arguments["__args__"]["inner"] == key
    assert arguments[key]["__args__"]["inner"] == deeper
    assert arguments[deeper]["__name__"] == "Affine"
    assert metadata[f"{deeper}.mdlus_file_version"] == "0.1.0"


def test_zip_container_of_newer_files_is_read(saved, members_of):
    path, model = saved
    members = members_of(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert torch.equal(Module.from_checkpoint(path).scale, model.scale)


def test_former_package_name_is_read(saved, affine, monkeypatch, members_of, write_tar):
    path, _ = saved
    members = members_of(path)
    arguments = json.loads(members["args.json"])
    arguments["__module__"] = "modulus.models.affine"
    monkeypatch.setattr(affine, "__module__", "physicsnemo.models.affine")
    write_tar(path, {**members, "args.json": json.dumps(arguments).encode()})
    assert type(Module.from_checkpoint(path)) is affine


@pytest.mark.parametrize("name", ["model.pt", "model", "model.mdlus.bak"])
def test_wrong_extension(affine, name):
    with pytest.raises(ValueError, match=rf"must end with \.mdlus, got '{name}'"):
        affine(2).save(name)


@pytest.mark.parametrize("load", [Module.from_checkpoint, lambda path: Bag(1).load(path)])
def test_missing_file(load, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint file at .*absent"):
        load(tmp_path / "absent.mdlus")


def test_missing_folder(affine, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder .*absent"):
        affine(2).save(tmp_path / "absent" / "model.mdlus")


@pytest.mark.parametrize("fraction", [0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.999])
def test_truncated_file(saved, fraction):
    path, _ = saved
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(CheckpointError, match=r"model\.mdlus"):
        Module.from_checkpoint(path)


@pytest.mark.parametrize("lost", ["model.pt", "args.json", "metadata.json"])
def test_missing_member(saved, lost, members_of, write_tar):
    path, _ = saved
    write_tar(path, {name: part for name, part in members_of(path).items() if name != lost})
    with pytest.raises(OSError, match=f"File '{lost}' not found in checkpoint"):
        Module.from_checkpoint(path)


@pytest.mark.parametrize(
    ("member", "content", "text"),
    [
        ("model.pt", b"not a pickle", "model.pt .* cannot be read"),
        ("args.json", b"{", "args.json .* is not valid JSON"),
        ("args.json", b"[]", "args.json .* is not a JSON object"),
        ("args.json", b"{}", "must hold the texts __name__ and __module__"),
        ("args.json", b"[" * 100_000, "args.json .* is not valid JSON"),
        ("../model.pt", b"", "lies in a folder"),
        ("/model.pt", b"", "lies in a folder"),
    ],
)
def test_damaged_member(saved, member, content, text, members_of, write_tar):
    path, _ = saved
    write_tar(path, {**members_of(path), member: content})
    with pytest.raises(CheckpointError, match=text):
        Module.from_checkpoint(path)


def test_links_and_duplicates_are_refused(saved, members_of, write_tar):
    path, _ = saved
    members = members_of(path)
    with tarfile.open(path, "a") as archive:
        archive.addfile(tarfile.TarInfo("model.pt"))
    with pytest.raises(CheckpointError, match="'model.pt' .* appears twice"):
        Module.from_checkpoint(path)
    write_tar(path, {name: part for name, part in members.items() if name != "model.pt"})
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("model.pt")
        link.type, link.linkname = tarfile.SYMTYPE, "elsewhere"
        archive.addfile(link)
    with pytest.raises(CheckpointError, match="'model.pt' .* is not a plain"):
        Module.from_checkpoint(path)


def test_weights_are_read_as_data_only(saved, members_of, write_tar):
    path, _ = saved
    hostile = io.BytesIO()
    torch.save({"scale": Bag}, hostile)
    write_tar(path, {**members_of(path), "model.pt": hostile.getvalue()})
    with pytest.raises(CheckpointError, match="cannot be read: Unsupported global"):
        Module.from_checkpoint(path)


@pytest.mark.parametrize("weights", [[torch.ones(3)], torch.ones(3), {3: torch.ones(3)}])
def test_weights_must_be_a_dictionary(saved, weights, members_of, write_tar):
    path, _ = saved
    other = io.BytesIO()
    torch.save(weights, other)
    write_tar(path, {**members_of(path), "model.pt": other.getvalue()})
    with pytest.raises(CheckpointError, match=r"model\.pt .* cannot be read: .*(text|dictionary)"):
        Module.from_checkpoint(path)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (torch.nn.ReLU(), "'anything' of Bag is a torch.nn.modules.activation.ReLU.*from_torch"),
        ([1, {"a": b"12"}], r"'anything\.1\.a' of Bag is a builtins.bytes"),
        ({1: 2}, "its keys must be text"),
        (torch.float32, "is a torch.dtype, which is not JSON serializable"),
    ],
)
def test_argument_that_json_cannot_hold_is_named(value, named, tmp_path):
    with pytest.warns(UserWarning, match=f"{named}.*; save.. will refuse this model"):
        model = Bag(value)
    with pytest.raises(TypeError, match=named):
        model.save(tmp_path / "bag.mdlus")
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_model_are_listed(affine, tmp_path):
    class Affine(Module):  # of the same name, with other weights
        def __init__(self, size, start=1.0, power=1):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.zeros(size))
            self.offset = torch.nn.Parameter(torch.zeros(size))

    affine(2).save(tmp_path / "model.mdlus")
    with pytest.raises(CheckpointError, match="1 missing: offset; 1 unexpected: shift"):
        Affine(2).load(tmp_path / "model.mdlus")
    Affine(2).load(tmp_path / "model.mdlus", strict=False)


def test_shapes_are_compared_before_anything_is_copied(affine, tmp_path):
    affine(2).save(tmp_path / "model.mdlus")
    model = affine(3, start=7.0)
    with pytest.raises(CheckpointError, match=r"scale \(2,\), expected \(3,\)"):
        model.load(tmp_path / "model.mdlus", strict=False)
    assert model.scale.tolist() == [7.0, 7.0, 7.0]


def test_failed_save_leaves_the_old_file_whole(saved, affine, monkeypatch):
    path, _ = saved
    before = path.read_bytes()

    def fail(state, file):
        file.write(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        affine(3).save(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_saving_through_a_link_keeps_the_link(saved, affine, tmp_path):
    path, _ = saved
    (tmp_path / "latest.mdlus").symlink_to(path)
    affine(3, start=9.0).save(tmp_path / "latest.mdlus")
    assert (tmp_path / "latest.mdlus").is_symlink()
    assert Module.from_checkpoint(path).scale.tolist() == [9.0] * 3


def test_override_of_an_argument(saved):
    path, _ = saved
    assert Module.from_checkpoint(path, override_args={"power": 2}).power == 2


def test_override_in_a_nested_model(affine, tmp_path):
    Outer(Outer(affine(2))).save(tmp_path / "outer.mdlus")
    twin = Module.from_checkpoint(tmp_path / "outer.mdlus", {"inner.inner.power": 3})
    assert twin.inner.inner.power == 3


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ({"size": 4}, "Argument 'size' cannot be overridden for Affine; it allows power"),
        ({"absent.power": 4}, "cannot override 'absent.power'"),
        ({"not a name": 4}, "cannot override 'not a name'"),
    ],
)
def test_override_that_is_not_allowed(saved, override, text):
    with pytest.raises(ValueError, match=text):
        Module.from_checkpoint(saved[0], override_args=override)


def test_arguments_of_a_former_version_are_migrated(tmp_path, members_of, write_tar):
    class Versioned(Module):
        __model_checkpoint_version__ = "0.2.0"
        __supported_model_checkpoint_version__ = {"0.1.0": "an old file of Versioned"}

        def __init__(self, width):
            super().__init__()
            self.width = width

        @classmethod
        def _backward_compat_arg_mapper(cls, version, args):
            args = super()._backward_compat_arg_mapper(version, args)
            return {"width": args["size"]}

    path = tmp_path / "model.mdlus"
    Versioned(3).save(path)
    members = members_of(path)
    arguments = {**json.loads(members["args.json"]), "__args__": {"size": 8}}
    for version in ("0.1.0", "0.0.9"):
        metadata = {"mdlus_file_version": version}
        write_tar(
            path,
            {
                **members,
                "args.json": json.dumps(arguments).encode(),
                "metadata.json": json.dumps(metadata).encode(),
            },
        )
        if version == "0.1.0":
            with pytest.warns(UserWarning, match="an old file of Versioned"):
                assert Versioned.from_checkpoint(path).width == 8
        else:
            with pytest.raises(OSError, match="version 0.0.9 .* is not compatible with current"):
                Versioned.from_checkpoint(path)


def test_a_model_that_contains_itself_is_refused(saved, members_of, write_tar):
    path, _ = saved
    key = "__physicsnemo.Module__.inner"
    record = {"__name__": "Outer", "__module__": __name__, "__args__": {"inner": key}}
    arguments = {**record, key: record}
    write_tar(path, {**members_of(path), "args.json": json.dumps(arguments).encode()})
    with pytest.raises(CheckpointError, match="inner .* contains itself"):
        Module.from_checkpoint(path)


def test_a_file_of_torch_save_is_told_apart(affine, tmp_path):
    model = affine(2)
    torch.save(model.state_dict(), tmp_path / "weights.mdlus")
    for load in (Module.from_checkpoint, model.load):
        with pytest.raises(CheckpointError, match=r"weights\.mdlus was written by torch\.save, so"):
            load(tmp_path / "weights.mdlus")
