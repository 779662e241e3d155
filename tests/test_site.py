# SPDX-License-Identifier: Apache-2.0
"""The site's pages on models: each model has one, and it says what is written down elsewhere."""

import re
import tomllib
from pathlib import Path
from textwrap import wrap
from xml.etree import ElementTree

import pytest

from physicsnemo.core.install.entry_points import installed_models, shipped_models
from physicsnemo.registry import ModelRegistry
from tools.bench import finder
from tools.bench.cases import CASES as BENCH
from tools.bench.report import write_json
from tools.performance_page import RESULTS, Results
from tools.site import changelog
from tools.site.architectures import FIGURES
from tools.site.cards import Card, install_line, list_table
from tools.site.costs import costs
from tools.site.docstrings import linked, papers, parameters, sections, without
from tools.site.evidence import evidence, gpu
from tools.site.facts import DATA, OUTCOMES, all_facts
from tools.site.figures import HEIGHT, LINE, NOTE, TITLE, draw, note
from tools.site.pages import HEAD, row
from tools.site.tables import oddities, tables
from tools.workspace import ROOT

FACTS = all_facts()
DOCS = ROOT / "docs"
FAMILIES = sorted({shipped["distribution"] for shipped in shipped_models().values()})


def test_every_registered_model_has_an_entry() -> None:
    assert set(FACTS) == set(ModelRegistry().list_models()) == set(shipped_models())


@pytest.mark.parametrize("name", FACTS)
def test_words_are_those_of_the_project(name: str) -> None:
    facts = FACTS[name]
    (entry, *_) = installed_models()[name]
    assert set(facts.task) <= set(entry.tasks)
    assert set(facts.data) <= set(DATA)
    assert set(facts.outcome) <= set(OUTCOMES)
    assert all((facts.task, facts.data, facts.outcome, facts.options, facts.limits, facts.see))


@pytest.mark.parametrize("name", FACTS)
def test_references_lead_somewhere(name: str) -> None:
    for target in re.findall(r":doc:`([^`]+)`", " ".join([*FACTS[name].see, FACTS[name].purpose])):
        page = target.removeprefix("../")
        if target.startswith("/gallery/"):
            assert (DOCS / "examples" / f"{page.removeprefix('/gallery/')}.py").exists()
        elif target.startswith("/"):
            assert (DOCS / f"{page[1:]}.md").exists()
        else:
            assert page in FACTS or (DOCS / "models" / f"{page}.md").exists()


@pytest.mark.parametrize("name", FACTS)
def test_docstrings_say_what_pages_quote(name: str) -> None:
    model_class = ModelRegistry().factory(name)
    found = sections(model_class)
    assert f"import {name}" in found["Examples"]
    assert papers(found["References"])
    arguments = set(FACTS[name].options)
    known = {it for owner in model_class.__mro__ for it in _arguments(owner)}
    assert arguments <= known


def _arguments(owner: type) -> list[str]:
    return list(parameters(sections(owner).get("Parameters", "")))


def test_every_model_has_a_size() -> None:
    benchmarks = set(map(str, BENCH))
    quarter_degree = {it["case"] for it in Results(RESULTS).rows("one_card")}
    for name, facts in FACTS.items():
        assert set(facts.bench) <= benchmarks
        assert facts.bench or name in quarter_degree


@pytest.mark.parametrize("name", FIGURES)
def test_drawings(name: str) -> None:
    drawing = draw(FIGURES[name])
    ElementTree.fromstring(drawing)
    assert "\n" not in drawing
    for box in FIGURES[name].boxes:
        title = wrap(box.title, TITLE, break_long_words=False)
        assert max(map(len, title)) <= TITLE
        assert max(map(len, ["", *note(box)])) <= NOTE
        assert len(title) + len(note(box)) <= HEIGHT // LINE


def test_drawings_are_used() -> None:
    assert {facts.figure for facts in FACTS.values()} == set(FIGURES)


def test_costs_are_those_of_the_benchmark() -> None:
    rows = [it for it in Results(RESULTS).rows("cold") if it["case"] == "FullyConnected-32"]
    steps = [it["step_s"] * 1e3 for it in rows if it["step_s"] is not None]
    (cost,) = costs("FullyConnected", FACTS["FullyConnected"])
    assert cost.step_ms == min(steps)
    # From 32 features through six layers of 512 to 512.
    assert cost.parameters == (32 + 1) * 512 + 6 * (512 + 1) * 512
    assert cost.at == "1024×32"


def test_costs_at_a_quarter_of_a_degree() -> None:
    (measured,) = (it for it in Results(RESULTS).rows("one_card") if it["case"] == "HEALPixUNet")
    (cost,) = costs("HEALPixUNet", FACTS["HEALPixUNet"])
    assert (cost.parameters, cost.step_ms) == (measured["parameters"], measured["step_s"] * 1e3)


def test_costs_of_models_that_are_timed_in_one_way(tmp_path: Path) -> None:
    run = finder.Run("Pix2Pix-2d", step_s=0.0123, peak_bytes=5 * 10**8, captured=True, amp=True)
    failed = finder.Run("Pix2Pix-3d", error="not done after 15 s")
    write_json(tmp_path / "finder.json", {}, results=[run, failed])
    (cost,) = costs("Pix2Pix", FACTS["Pix2Pix"], Results(tmp_path))
    assert cost.step_ms == pytest.approx(12.3)
    assert cost.memory_gb == 0.5
    assert (cost.at, cost.way) == ("8×3×128×128", "captured, AMP")


def test_parameters_alone_where_nothing_was_measured(tmp_path: Path) -> None:
    first, second = costs("Pix2Pix", FACTS["Pix2Pix"], Results(tmp_path))
    assert (first.at, first.step_ms, first.way) == ("8×3×128×128", None, "not measured")
    assert 2 * first.parameters < second.parameters  # kernels of three dimensions


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("BiStrideMeshGraphNet", "20,000 nodes, 120,000 edges"),
        ("EDMPrecondSuperResolution", "2×(4+12)×448×448"),
        ("ModAFNO", "1×155×720×1440"),
        ("Sequence_Model", "8×100×768"),
    ],
)
def test_sizes_are_those_of_inputs(model: str, size: str, tmp_path: Path) -> None:
    assert costs(model, FACTS[model], Results(tmp_path))[0].at == size


def test_evidence_is_that_of_metadata_and_proofs() -> None:
    known = evidence("FNO")
    assert known["cuda_graphs"].holds
    assert re.fullmatch(r"\d+ cases on a GPU", known["cuda_graphs"].proof)
    assert re.fullmatch(r"NVIDIA \w+, PyTorch [\d.]+", gpu())
    assert not known["onnx_cpu"].holds
    assert known["compile"].holds
    assert known["compile"].proof == "test on a CPU"
    assert not evidence("Mesh_Reduced")["vmap"].holds


def test_a_card() -> None:
    card = Card("FNO", FACTS["FNO"])
    text = card.text()
    assert text.startswith(".. meta::\n   :description: FNO. Fourier neural operator")
    assert "\n>>> from physicsnemo.models.fno import FNO\n" in text
    assert "of shape (batch, in_channels, \\*grid)" in text
    assert ".. autoclass:: physicsnemo.models.fno.FNO\n" in text
    assert "https://arxiv.org/abs/2010.08895" in text
    (tests,) = re.findall(r"``(packages/\S+)``", text)
    assert (ROOT / tests).exists()
    cells = row(card)
    assert len(cells) == len(HEAD)
    assert cells[0] == ":doc:`FNO <cards/FNO>`"
    assert cells[HEAD.index("Paper")] == "`Li et al. 2020 <https://arxiv.org/abs/2010.08895>`__"


@pytest.mark.parametrize(
    "package", sorted({it["distribution"] for it in shipped_models().values()})
)
def test_install_lines_are_those_of_the_packages(package: str) -> None:
    readme = (ROOT / "packages" / package / "README.md").read_text(encoding="utf-8")
    assert f"\n    {install_line(package)}  # in a clone\n" in readme


def test_options_of_a_base_are_quoted_from_there() -> None:
    card = Card("VPPrecond", FACTS["VPPrecond"])
    assert not card.option("img_channels").startswith("As in")
    assert "Noisy fields of shape" in card.text()
    with pytest.raises(ValueError, match="no docstring of VPPrecond says what depth is"):
        card.option("depth")


def test_parts_of_docstrings() -> None:
    def documented() -> None:
        """Do it.

        Twice.

        Parameters
        ----------
        x, y
            Fields of shape
            (batch, 2).
        **more
            The rest.

        References
        ----------
        Li et al. 2020, A title, arXiv:2010.08895; Weyn and Durran 2021, doi:10.1029/2021MS0.
        """

    found = sections(documented)
    assert found[""] == "Do it.\n\nTwice."
    told = parameters(found["Parameters"])
    assert told == {"x": (both := "Fields of shape\n(batch, 2)."), "y": both, "**more": "The rest."}
    assert papers(found["References"]) == [
        ("Li et al. 2020", "https://arxiv.org/abs/2010.08895"),
        ("Weyn and Durran 2021", "https://doi.org/10.1029/2021MS0"),
    ]
    assert "`arXiv:2010.08895 <https://arxiv.org/abs/2010.08895>`__" in linked(found["References"])


def test_a_section_is_left_out() -> None:
    lines = ["Do it.", "", "Raises", "------", "KeyError", "", "References", "----------", "A."]
    assert without(lines, "Raises") == ["Do it.", "", "References", "----------", "A."]


def test_a_table() -> None:
    text = list_table(("a", "b"), [("1", "")], [":class: c"])
    assert text.split("\n") == [
        ".. list-table::",
        "   :header-rows: 1",
        "   :class: c",
        "",
        "   * - a",
        "     - b",
        "   * - 1",
        "     -",
    ]


def test_the_next_release_has_an_entry() -> None:
    text = changelog.next_release()
    assert re.match(r"## \d+\.\d+\.\d+, not released yet\n", text)
    assert "### physicsnemo-core" in text


def test_tables_of_guides_have_every_model() -> None:
    found = tables()
    for page, name in [("mixed_precision", "precision.txt"), ("export", "programs.txt")]:
        assert f".. include:: models/cards/{name}\n" in (DOCS / f"{page}.md").read_text("utf-8")
        named = re.findall(r":doc:`(\w+) </models/cards/\1>`", found[name])
        assert sorted(named) == sorted(FACTS)
    for models, *flags in re.findall(
        r"\* - (.+`)\n +- (\w+)\n +- (\w+)\n +- (\w+)", found["precision.txt"]
    ):
        for name in re.findall(r":doc:`(\w+) ", models):
            known = evidence(name)
            assert [flag == "yes" for flag in flags] == [
                known[it].holds for it in ("amp_gpu", "amp_cpu", "bf16")
            ]


def test_oddities_are_those_of_releases() -> None:
    assert "\n   * - Pangu, Fengwu\n     - shifted windows roll" in oddities()
    assert "by the shift of latitudes\n     - 1.2, 1.3, 2.0\n" in oddities()


def test_the_page_of_reproductions_has_all_their_tables() -> None:
    page = (DOCS / "reproduce.md").read_text("utf-8")
    shown = re.findall(
        r':start-after: "<!-- begin: (\w+) -->"\n:end-before: "<!-- end: \1 -->"', page
    )
    readme = (ROOT / "reproductions" / "README.md").read_text("utf-8")
    assert shown == re.findall(r"<!-- begin: (\w+) -->", readme)


def test_what_to_install_for_examples_is_what_they_need() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    need = " ".join(groups["dependency-groups"]["examples"])
    for name in ("examples/GALLERY_HEADER.rst", "conf.py"):
        text = " ".join((DOCS / name).read_text(encoding="utf-8").split())
        assert f"pip install {need}" in text
