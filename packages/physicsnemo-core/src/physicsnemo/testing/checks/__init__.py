# SPDX-License-Identifier: Apache-2.0
"""The properties that :func:`physicsnemo.testing.conformance_test` tries, in reading order.

Each is one function that takes a case and a device and raises where the property does not hold;
what the flags of the metadata promise is in :mod:`physicsnemo.testing.flags`.
"""

from physicsnemo.testing.checks._check import Check
from physicsnemo.testing.checks.checkpoints import (
    check_arguments,
    check_checkpoint,
    check_reload,
    check_undrawn,
    declares,
)
from physicsnemo.testing.checks.compilers import check_compile, check_export
from physicsnemo.testing.checks.copies import check_deepcopy, check_instances, check_pickle
from physicsnemo.testing.checks.devices import check_device, check_float64, check_meta_device
from physicsnemo.testing.checks.global_state import check_global_state
from physicsnemo.testing.checks.purity import (
    check_batch,
    check_empty_batch,
    check_eval,
    check_inputs,
)
from physicsnemo.testing.checks.running import check_capture, check_construction, check_gradients
from physicsnemo.testing.checks.transforms import (
    check_double_backward,
    check_recomputation,
    check_transforms,
    check_vmap,
)

__all__ = ["CHECKS", "CONSTRUCTION", "Check"]

CONSTRUCTION = Check("construction", check_construction)

CHECKS = (
    Check("arguments", check_arguments),
    Check("inputs", check_inputs),
    Check("checkpoint", check_checkpoint),
    Check("reload", check_reload),
    Check("undrawn", check_undrawn, applies=declares),
    Check("deepcopy", check_deepcopy),
    Check("pickle", check_pickle),
    Check("instances", check_instances),
    Check("global_state", check_global_state),
    Check("eval", check_eval),
    Check("gradients", check_gradients),
    Check("recomputation", check_recomputation),
    Check("double_backward", check_double_backward),
    Check("transforms", check_transforms),
    Check("vmap", check_vmap),
    Check("batch", check_batch, applies=lambda case, device: case.batched),
    Check("empty_batch", check_empty_batch, applies=lambda case, device: case.batched),
    Check("float64", check_float64),
    Check("meta_device", check_meta_device, applies=lambda case, device: device.type == "cpu"),
    Check("device", check_device, applies=lambda case, device: device.type != "cpu"),
    Check("capture", check_capture),
    Check("compile", check_compile, expensive=True),
    Check("export", check_export, expensive=True),
)
