# SPDX-License-Identifier: Apache-2.0
"""The guide says of each model in which ways it trains in parallel, and tests run all of these."""

import runpy

from physicsnemo.registry import ModelRegistry
from tools.parallel_table import NOT_OFFERED, WAYS, divisible, models, table
from tools.workspace import ROOT

GRAPHS = {"BiStrideMeshGraphNet", "GraphCastNet", "MeshGraphNet", "Mesh_Reduced"}


def registered() -> set[str]:
    return set(ModelRegistry().list_models())


def test_the_guide_has_the_table():
    assert table() in (ROOT / "docs" / "several_gpus.md").read_text(encoding="utf-8")


def test_the_table_has_every_model_once():
    names = [name for names in models().values() for name in names]
    assert sorted(names) == sorted(registered())
    assert {name for name, _ in NOT_OFFERED} <= registered()
    assert {way for _, way in NOT_OFFERED} <= set(WAYS)


def test_every_model_is_tested_in_every_way_but_one():
    tested = runpy.run_path(str(ROOT / "tests" / "test_distributed_models.py"))
    assert set(tested["MODELS"]) == registered()
    assert {way for _, way in NOT_OFFERED} <= {"domain parallel"}


def test_models_with_rules_are_tested_and_the_others_have_a_reason():
    missing = {name for name, way in NOT_OFFERED if way == "domain parallel"}
    assert divisible() == registered() - missing
    examples = runpy.run_path(str(ROOT / "tests" / "test_domain_models.py"))["examples"]()
    assert runpy.run_path(str(ROOT / "tests" / "test_domain_graphs.py")).keys() >= GRAPHS
    assert {example.model for example in examples.values()} | GRAPHS >= divisible()
