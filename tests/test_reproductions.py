# SPDX-License-Identifier: Apache-2.0
"""Reproductions learn at small settings, and the README says what has been run."""

import json

import pytest
import torch
from safetensors.torch import load_file

from physicsnemo import Module
from reproductions import fno
from reproductions.problems import BURGERS, DARCY, NAVIER_STOKES, PROBLEMS, RECURRENT, small
from reproductions.table import HERE, README, written
from tools.bench.host import stand_in


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def run(folder, *arguments):
    fno.main([*arguments, "--small", "--device", "cpu", "--output", str(folder)])
    return json.loads((folder / "metrics.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("name", "epochs", "share"),
    [
        ("burgers", 20, 0.2),
        ("darcy", 12, 0.5),
        ("navier-stokes", 5, 0.85),
        ("navier-stokes-1e-4-2d", 12, 1.2),
    ],
)
def test_small_runs_learn(name, epochs, share, tmp_path):
    metrics = run(tmp_path, name, "--epochs", str(epochs))
    mean = metrics["relative_l2_without_model"]["mean of the training outputs"]
    assert metrics["relative_l2"] < share * mean
    # The weights serve all grids.
    for error in metrics["relative_l2_by_resolution"].values():
        assert error < 1.5 * metrics["relative_l2"]
    assert metrics["history"][-1]["test"] == pytest.approx(metrics["relative_l2"], rel=1e-4)
    assert metrics["small"]
    assert (tmp_path / "prediction.png").stat().st_size > 10_000


def test_the_files_predict_what_was_measured(tmp_path):
    metrics = run(tmp_path, "darcy", "--epochs", "2")
    problem = small(DARCY)
    samples = problem.samples(problem, 0, torch.device("cpu"))
    inputs, truth = (problem.on(22, fields)[problem.train :] for fields in samples)
    model = Module.from_checkpoint(tmp_path / "fno.mdlus")
    scale = load_file(tmp_path / "normalizers.safetensors")
    with torch.no_grad():
        found = model((inputs - scale["inputs.mean"]) / scale["inputs.deviation"])
    found = found * scale["outputs.deviation"] + scale["outputs.mean"]
    errors = (found - truth).square().sum((1, 2, 3)).sqrt() / truth.square().sum((1, 2, 3)).sqrt()
    assert errors.mean().item() == pytest.approx(metrics["relative_l2"], rel=1e-4)
    assert model.num_parameters() == metrics["parameters"]


def test_the_plain_loop_computes_the_same(tmp_path):
    captured, plain = (
        run(tmp_path / str(len(more)), "darcy", "--epochs", "1", *more)
        for more in ((), ("--plain",))
    )
    assert plain["plain"]
    assert captured["relative_l2"] == pytest.approx(plain["relative_l2"], rel=1e-2)


def test_padding_has_the_same_length_on_each_grid():
    assert [DARCY.model_on(n)["padding"] for n in DARCY.resolutions] == [9, 16, 24, 49]


@pytest.mark.parametrize("problem", [*PROBLEMS.values(), *map(small, PROBLEMS.values())])
def test_grids_are_part_of_the_finest(problem):
    place = torch.linspace(0, 1, problem.finest + (not problem.closed))[: problem.finest]
    field = place.reshape(1, 1, -1, *[1] * (problem.space - 1)).expand(
        1, 1, *[problem.finest] * problem.space
    )
    for n in problem.resolutions:
        coarse = problem.on(n, field)
        assert coarse.shape[2:] == (n,) * problem.space
        places = torch.linspace(0, 1, n + (not problem.closed))[:n]
        line = coarse.flatten(3)[0, 0, :, 0] if problem.space > 1 else coarse[0, 0]
        torch.testing.assert_close(line, places)


def test_the_models_have_the_size_of_the_papers():
    # Layers, corners of the spectrum, pairs of channels, modes, real and imaginary part.
    spectral = (
        (BURGERS, 4 * 1 * 64**2 * 16 * 2),
        (DARCY, 4 * 2 * 32**2 * 12**2 * 2),
        (NAVIER_STOKES, 4 * 4 * 20**2 * 8**3 * 2),
        (RECURRENT, 4 * 2 * 20**2 * 12**2 * 2),
    )
    for problem, number in spectral:
        encoder = fno.FNO(**problem.model_on(problem.resolution)).spec_encoder
        assert sum(it.numel() for it in encoder.spconv_layers.parameters()) == number


def test_steps_in_turn_start_from_the_latest_states():
    def latest_less_first(states):
        return states[:, -1:] - states[:, :1]

    found = fno.in_turn(latest_less_first, torch.tensor([[1.0, 2.0]])[..., None, None], times=3)
    assert found.shape == (1, 1, 1, 1, 3)
    # 2 + (2 - 1), 3 + (3 - 2), 4 + (4 - 3)
    assert found.flatten().tolist() == [3, 4, 5]


def test_trainings_end_with_their_time(tmp_path):
    metrics = run(tmp_path, "navier-stokes", "--epochs", "1000", "--training-seconds", "1e-9")
    assert metrics["epochs"] == 7  # of 3 steps each, until step 21, the first that is timed
    assert metrics["history"][-1]["count"] == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["darcy", "--resolution", "100"], r"one of \(85, 141, 211, 421\), got 100"),
        (["darcy", "--plain", "--amp"], "neither --compile nor --amp"),
        (["burgers", "--plain"], "a model with coordinates, not that for burgers"),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(SystemExit, match=message):
        fno.main(arguments)


def test_the_readme_has_the_results():
    text = README.read_text("utf-8")
    assert written(text, HERE / "results") == text


def test_results_that_differ_in_seed_share_a_row(tmp_path):
    metrics = {
        "problem": "darcy",
        "resolution": 85,
        "relative_l2": 0.01049,
        "relative_l2_by_resolution": {"85": 0.01049, "141": 0.0121, "211": 0.0112},
        "seed": 3,
        "plain": True,
        "compiled": False,
        "amp": False,
        "epochs": 9,
        "training_seconds": 61.4,
        "seconds_to_paper": 40.6,
        "gpu_minutes": 1.26,
        "environment": {"device": "H200"},
    }
    other = metrics | {"seed": 1, "relative_l2": 0.0107, "seconds_to_paper": None}
    for run in (metrics, other, metrics | {"seed": 2, "plain": False}):
        (tmp_path / str(run["seed"])).mkdir()
        (tmp_path / str(run["seed"]) / "metrics.json").write_text(json.dumps(run), "utf-8")
    text = written("<!-- begin: fno -->\n<!-- end: fno -->", tmp_path)
    rest = "9 epochs, 61 s | 41 s | 1.3 | H200"
    both = "0.0106 (0.0105 to 0.0107) | 0.0112 to 0.0121 | 1, 3"
    assert f"| darcy | 85 | 0.0108 | {both} | {rest}, plain PyTorch |" in text
    assert f"| darcy | 85 | 0.0108 | 0.0105 | 0.0112 to 0.0121 | 2 | {rest} |" in text
    assert text.count("not run yet") == sum(len(it.paper) for it in PROBLEMS.values()) - 1


def test_steps_are_replays_after_the_first(tmp_path, steps_of):
    steps = steps_of(fno)
    with stand_in():
        run(tmp_path, "darcy", "--epochs", "3")
    assert steps[0].replays() == 3 * 120 // 20 - 11
