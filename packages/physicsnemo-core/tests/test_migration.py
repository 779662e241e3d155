# SPDX-License-Identifier: Apache-2.0
"""Arguments of files of former versions."""

import pytest

from physicsnemo import Module
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import write_checkpoint


class Versioned(Module):
    __model_checkpoint_version__ = "0.2.0"
    __supported_model_checkpoint_version__ = {"0.1.0": "an old file of Versioned"}

    def __init__(self, width):
        super().__init__()
        self.width = width

    @classmethod
    def _backward_compat_arg_mapper(cls, version, args):
        args = super()._backward_compat_arg_mapper(version, args)
        return {"width": args.pop("size")}


class Holder(Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner


def write(path, metadata, **arguments):
    record = {"__name__": "Versioned", "__module__": __name__, "__args__": arguments}
    write_checkpoint(path, {}, record, metadata)
    return path


def test_the_warning_points_at_the_caller(tmp_path):
    path = write(tmp_path / "model.mdlus", {"mdlus_file_version": "0.1.0"}, size=8)
    with pytest.warns(UserWarning, match="an old file of Versioned") as warned:
        assert Versioned.from_checkpoint(path).width == 8
    assert [warning.filename for warning in warned] == [__file__]


def test_nested_models_are_migrated_by_their_own_version(tmp_path):
    path, key = tmp_path / "model.mdlus", "__physicsnemo.Module__.inner"
    inner = {"__name__": "Versioned", "__module__": __name__, "__args__": {"size": 8}}
    outer = {"__name__": "Holder", "__module__": __name__, "__args__": {"inner": key}}
    metadata = {"mdlus_file_version": "0.1.0", f"{key}.mdlus_file_version": "0.1.0"}
    write_checkpoint(path, {}, {**outer, key: inner}, metadata)
    with pytest.warns(UserWarning, match="an old file of Versioned"):
        assert Module.from_checkpoint(path).inner.width == 8


@pytest.mark.parametrize("version", ["0.0.9", ["0.1.0"], {}, 2])
def test_version_that_the_class_cannot_read(tmp_path, version):
    path = write(tmp_path / "model.mdlus", {"mdlus_file_version": version}, size=8)
    with pytest.raises(CheckpointError, match="is not compatible with current version 0.2.0"):
        Versioned.from_checkpoint(path)


def test_arguments_that_the_migration_does_not_expect(tmp_path):
    path = write(tmp_path / "model.mdlus", {"mdlus_file_version": "0.1.0"}, height=8)
    text = "Versioned in .* cannot be migrated from version 0.1.0 to 0.2.0: KeyError: 'size'"
    with (
        pytest.warns(UserWarning, match="an old file"),
        pytest.raises(CheckpointError, match=text),
    ):
        Versioned.from_checkpoint(path)
