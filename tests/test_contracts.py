# SPDX-License-Identifier: Apache-2.0
"""What only the whole workspace can say of the registered models."""

import pytest

from physicsnemo.registry import ModelRegistry
from tools.cases import all_cases
from tools.workspace import packages


def test_every_model_has_a_case():
    assert {case.model for case in all_cases()} == set(ModelRegistry().list_models())


@pytest.mark.parametrize("name", ModelRegistry().list_models())
def test_name_is_that_of_the_class(name):
    assert ModelRegistry().factory(name).__name__ == name


def test_ids_of_cases_are_unique():
    names = [str(case) for case in all_cases()]
    assert len(names) == len(set(names))


def test_every_package_with_cases_runs_the_conformance_kit():
    folders = [package.folder / "tests" for package in packages().values()]
    tested = [folder for folder in folders if (folder / "cases.py").exists()]
    assert tested
    for folder in tested:
        text = (folder / "test_conformance.py").read_text(encoding="utf-8")
        assert "test_conformance = conformance_test(CASES" in text, folder
