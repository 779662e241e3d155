# SPDX-License-Identifier: Apache-2.0
"""Flow past a cylinder: the solver against closed forms and a benchmark, and its model."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import j0, j1, jn_zeros
from skfem import MeshTri

from physicsnemo import Module
from reproductions import cylinder_flow
from reproductions.data import cylinder_flow as solved
from reproductions.data.cylinder_flow import (
    FLUID,
    INFLOW,
    OUTFLOW,
    WALL,
    Setting,
    benchmark,
    strouhal,
    trajectories,
    trajectory,
)
from reproductions.data.incompressible import Flow, State
from reproductions.data.triangles import Channel, Spacing, quality, triangulate
from reproductions.table import written
from tools.bench.host import stand_in

COARSE = Setting(Spacing(near=0.04, far=0.06), states=4)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def flows():
    return [trajectory(COARSE, seed=0, index=index) for index in range(3)]


@pytest.mark.parametrize("radius", [0.04, 0.08])
def test_meshes_follow_the_outlines(radius):
    channel = Channel(0.3, 0.18, radius)
    spacing = Spacing(near=0.02, far=0.04)
    mesh = triangulate(channel, spacing, seed=0)
    assert quality(mesh).min() > 0.5
    corners = mesh.p[:, mesh.t]
    (ax, bx), (ay, by) = corners[:, 1:] - corners[:, :1]
    sides = round(2 * np.pi * radius / spacing.near)
    polygon = sides / 2 * radius**2 * np.sin(2 * np.pi / sides)
    assert abs(ax * by - ay * bx).sum() / 2 == pytest.approx(1.6 * 0.41 - polygon, rel=1e-9)
    ends = mesh.p[:, mesh.facets]
    lengths = np.hypot(*(ends[:, 0] - ends[:, 1]))
    assert 0.5 * spacing.near < lengths.min() < lengths.max() < 1.8 * spacing.far
    assert np.array_equal(mesh.p, triangulate(channel, spacing, seed=0).p)


def test_quality_of_known_triangles():
    nodes = np.array([[0, 1, 0.5, 1], [0, 0, np.sqrt(0.75), 1]])
    found = quality(MeshTri(nodes, np.array([[0, 0], [1, 1], [2, 3]])))
    assert found == pytest.approx([1, np.sqrt(3) / 2])


def test_channel_flow_stays_as_it_is():
    height, length, viscosity = 0.41, 1.6, 1e-3
    mesh = MeshTri.init_tensor(np.linspace(0, length, 9), np.linspace(0, height, 5))
    flow = Flow(mesh, viscosity, step=0.005)
    x, y = flow.places
    profile = 4 * y * (height - y) / height**2
    outlet = (x > length - 1e-9) & (y > 1e-9) & (y < height - 1e-9)
    fixed = np.setdiff1d(flow.boundary, np.flatnonzero(outlet))
    values = np.stack((profile[fixed], 0 * fixed), axis=1)
    flow.enclose(fixed, values, np.flatnonzero(mesh.p[0] > length - 1e-9))
    state = flow.at_rest()
    for _ in range(20):
        np.testing.assert_allclose(state.velocity, np.stack((profile, 0 * x), 1), atol=1e-9)
        np.testing.assert_allclose(
            state.pressure, 8 * viscosity / height**2 * (length - mesh.p[0]), atol=1e-9
        )
        state = flow.advance(state)


def test_convection_of_a_strain_and_its_energy():
    flow = Flow(MeshTri().refined(2), viscosity=1.0, step=1.0)
    x, y = flow.places
    # Of (x, -y), it is (x, y), and the sum over all functions is the integral: 1/2 each.
    found = flow.convection(np.stack((x, -y), axis=1))
    np.testing.assert_allclose(found.sum(0), [0.5, 0.5], rtol=1e-12)
    np.testing.assert_allclose((found * np.stack((x, y), 1)).sum(0), [1 / 3, 1 / 3], rtol=1e-12)
    velocity = np.random.default_rng(0).standard_normal((len(x), 2))
    velocity[flow.boundary] = 0
    assert abs((velocity * flow.convection(velocity)).sum()) < 1e-12


def vortex(steps):
    """Return a vortex in a disc after 0.2 s, which decays in a known way, and its error."""
    mesh, viscosity, number = MeshTri.init_circle(3), 0.05, jn_zeros(1, 1)[0]
    step = 0.2 / steps
    flow = Flow(mesh, viscosity, step)
    x, y = flow.places
    radius = np.hypot(x, y)

    def at(time):
        speed = np.exp(-viscosity * number**2 * time) * j1(number * radius)
        return speed[:, None] * np.stack((-y, x), 1) / np.maximum(radius, 1e-9)[:, None]

    flow.enclose(flow.boundary, np.zeros((len(flow.boundary), 2)), np.array([0]))
    start, before = at(0.0), at(-step)
    for velocity in (start, before):
        velocity[flow.boundary] = 0
    square = number * np.hypot(*mesh.p)
    pressure = (1 - j0(square) ** 2 - j1(square) ** 2) / 2  # so that it balances u²/r
    still = np.zeros_like(pressure)
    state = State(start, before, pressure, still, still)
    for _ in range(steps):
        state = flow.advance(state)
    truth = at(0.2)
    return state.velocity, np.linalg.norm(state.velocity - truth) / np.linalg.norm(truth)


def test_a_vortex_decays_and_steps_are_of_second_order():
    (coarse, _), (middle, _), (fine, error) = (vortex(steps) for steps in (10, 20, 40))
    assert error < 0.02  # of the straight edges of the disc
    order = np.log2(np.linalg.norm(coarse - middle) / np.linalg.norm(middle - fine))
    assert order == pytest.approx(2, abs=0.4)


def test_the_steady_benchmark():
    """The case 2D-1: drag 5.5795, and pressure difference 0.1175."""
    spacing = Spacing(near=0.015, far=0.05, growth=0.2, wake=0.05)
    _, drag, lift, difference = benchmark(0.3, spacing, seconds=3.0)
    assert drag[-1] == pytest.approx(5.5795, rel=0.03)
    assert difference[-1] == pytest.approx(0.1175, rel=0.03)
    assert abs(lift[-1]) < 0.1


@pytest.mark.slow
def test_the_unsteady_benchmark():
    """The case 2D-2: drag 3.22 to 3.24, lift 0.99 to 1.01, Strouhal number 0.295 to 0.305."""
    times, drag, lift, _ = benchmark(1.5, Spacing(), seconds=6.0)
    late = times > 4.5
    assert drag[late].max() == pytest.approx(3.23, rel=0.02)
    assert lift[late].max() == pytest.approx(1.0, rel=0.05)
    assert strouhal(times[late], lift[late], 1.5) == pytest.approx(0.3, rel=0.03)


def test_steps_are_short_enough_for_fast_flows():
    spacing = Spacing()
    assert solved.steps(1.0, spacing) == 7  # a tenth of an edge
    assert solved.steps(2.352, spacing) == 20  # with 16, the flow of the next test was unstable
    assert solved.fastest(Channel(0.3, 0.2, 0.1025), 1.5) == pytest.approx(3)


@pytest.mark.slow
def test_the_fastest_of_a_hundred_flows_is_stable():
    states = trajectory(Setting(Spacing(), states=60), seed=0, index=28).states
    assert 2.5 < states[..., :2].abs().max() < 3


def test_an_unstable_flow_is_an_error():
    flow = Flow(MeshTri().refined(2), viscosity=1e-6, step=10.0)
    flow.enclose(flow.boundary, np.zeros((len(flow.boundary), 2)), np.array([0]))
    state = flow.at_rest()
    start = np.random.default_rng(0).standard_normal(state.velocity.shape)
    start[flow.boundary] = 0
    state = replace(state, velocity=start, before=start)

    def advance(state):
        for _ in range(100):
            state = flow.advance(state)

    with pytest.raises(FloatingPointError, match="steps of 10 s are too long"):
        advance(state)


def test_an_unstable_flow_is_computed_again_with_half_the_step(monkeypatch):
    real, counts, broken = solved.flow, [], 1

    def flow(*arguments):
        found, kind, count = real(*arguments)
        counts.append(count)
        rest = found.at_rest()
        if len(counts) <= broken:
            rest.velocity *= 10
        monkeypatch.setattr(found, "at_rest", lambda: rest)
        return found, kind, count

    monkeypatch.setattr(solved, "flow", flow)
    setting = replace(COARSE, states=2)
    assert trajectory(setting, seed=3, index=0).states[..., :2].abs().max() < 3
    assert counts[1] == 2 * counts[0]
    # If that is unstable too, it is an error, and nothing is kept.
    counts, broken = [], 2
    for _ in range(2):
        with pytest.raises(FloatingPointError, match="unstable flow: more than"):
            trajectory(setting, seed=3, index=1)
        counts = []


def test_flows_that_are_not_finite_are_refused(flows):
    states = flows[1].states.clone()
    states[-1, 0, 0] = torch.nan
    broken = [flows[0], replace(flows[1], states=states), flows[2]]
    with pytest.raises(FloatingPointError, match=r"trajectories \[1\] have states"):
        cylinder_flow.Data(broken, test=1, device=torch.device("cpu"))


def test_strouhal_numbers_of_waves():
    times = np.linspace(0, 2, 1000)
    assert strouhal(times, 3 + np.sin(2 * np.pi * 3 * times), 1.5) == pytest.approx(0.3, rel=1e-4)
    assert strouhal(times, times, 1.5) == 0


def test_trajectories_keep_what_is_given(flows):
    assert len({it.nodes.shape for it in flows}) > 1  # other meshes
    for flow in flows:
        x = flow.nodes[:, 0]
        assert (x[flow.kind == INFLOW] == 0).all()
        assert (x[flow.kind == OUTFLOW] == 1.6).all()
        assert (flow.states[:, flow.kind == WALL, :2] == 0).all()
        inflow = flow.states[:, flow.kind == INFLOW]
        assert (inflow[1:, :, :2] == inflow[0, :, :2]).all()
        assert 0.5 < inflow[..., 0].max() < 1.5
        assert flow.states[1:, flow.kind == FLUID, :2].diff(dim=0).abs().max() > 1e-4
        assert flow.states.isfinite().all()


def test_trajectories_follow_from_the_seed(flows, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (again,) = trajectories(COARSE, number=1, seed=0, processes=1)  # in another process
    assert torch.equal(again.states, flows[0].states)
    assert not torch.equal(again.states[0, :9], trajectory(COARSE, seed=1, index=0).states[0, :9])
    monkeypatch.setattr("reproductions.data.cylinder_flow.workers", ThreadPoolExecutor)
    assert not trajectories(COARSE, number=1, seed=2, processes=1, seconds=0)


def test_added_nodes_and_other_flows_change_nothing(flows):
    device = torch.device("cpu")
    data = cylinder_flow.Data(flows, test=1, device=device)
    stepper = cylinder_flow.Stepper(cylinder_flow.SMALL, data, noise=0.02, device=device)
    every = cylinder_flow.Flows.of(flows, device)
    joined = cylinder_flow.Batch.of(every.pairs, every.edges, every.kind)
    with torch.no_grad():
        found = stepper.advance(joined, every.states[:, 1].flatten(0, 1))
        found = found.unflatten(0, every.kind.shape[:2])
        for flow, one in zip(flows, found, strict=True):
            alone = cylinder_flow.Flows.of([flow], device).part(slice(None))
            count = len(flow.nodes)
            pairs = alone.pairs[:, :, (alone.pairs[0] < count).all(dim=0)]
            edges = alone.edges[:, : pairs.shape[2]]
            batch = cylinder_flow.Batch.of(pairs, edges, alone.kind[:, :count])
            right = stepper.advance(batch, flow.states[1])
            torch.testing.assert_close(one[:count], right, rtol=1e-4, atol=1e-5)
            kept = (flow.kind == WALL) | (flow.kind == INFLOW)
            assert torch.equal(one[:count][kept, :2], flow.states[1, kept, :2])


def test_a_perfect_model_has_no_loss(flows):
    """With noise too: the target is the change from the state with noise to the next one."""
    device = torch.device("cpu")
    data = cylinder_flow.Data(flows, test=1, device=device)
    stepper = cylinder_flow.Stepper(cylinder_flow.SMALL, data, noise=0.02, device=device)
    it = data.train
    now, later = it.states[:, 0], it.states[:, 1]

    def outputs(batch, velocity):
        assert (velocity - now.flatten(0, 1)[:, :2]).std() > 0.005  # the noise is there
        change = stepper.change.encode(later.flatten(0, 1)[:, :2] - velocity)
        return torch.cat((change, data.pressure.encode(later.flatten(0, 1)[:, 2:])), dim=1)

    stepper.outputs = outputs
    random = torch.randn(*now.shape[:2], 2)
    assert stepper.loss(it.pairs, it.edges, it.kind, now, later, random) < 1e-9


def test_training_lowers_the_error_of_a_step(flows):
    device = torch.device("cpu")
    data = cylinder_flow.Data(flows, test=1, device=device)
    size = replace(cylinder_flow.SMALL, messages=2)
    torch.manual_seed(0)
    stepper = cylinder_flow.Stepper(size, data, noise=0.0, device=device)
    before, _ = cylinder_flow.evaluate(stepper, data.train)
    options = cylinder_flow.parse(["--small"])
    cylinder_flow.train(stepper, data.train, size, 150, options)
    after, rollout = cylinder_flow.evaluate(stepper, data.train)
    unchanged = cylinder_flow.persistence(data.train)
    assert after["rmse"]["1 step"] < 0.9 * unchanged["rmse"]["1 step"] < before["rmse"]["1 step"]
    assert rollout.shape[:2] == (COARSE.states, 2)
    # The first step of a rollout is one step from the truth.
    assert after["rmse_by_step"][0] < unchanged["rmse_by_step"][0]


def test_errors_are_those_of_velocities_at_real_nodes():
    truth, kind = torch.zeros(60, 3, 3), torch.tensor([[1.0, 0], [0, 1], [0, 0]])
    rollout = torch.zeros(60, 3, 3)
    rollout[:, :, 0], rollout[:, 2], rollout[:, :, 2] = 3.0, 99.0, 7.0
    rollout[50:] *= 2
    one = torch.full_like(truth, 0.5)
    found = cylinder_flow.errors(one, rollout, truth, kind)
    assert found["rmse"]["1 step"] == pytest.approx(0.5)
    assert found["rmse"]["50 steps"] == pytest.approx(3 / 2**0.5)
    assert found["rmse"]["all steps"] == pytest.approx(((50 * 4.5 + 10 * 18) / 60) ** 0.5)
    rollout[-1] = torch.inf
    assert cylinder_flow.errors(one, rollout, truth, kind)["rmse"]["all steps"] is None


def test_a_small_run(tmp_path, monkeypatch, steps_of):
    steps = steps_of(cylinder_flow)
    size = replace(cylinder_flow.SMALL, setting=COARSE, train=2, test=1, benchmark=0.1)
    monkeypatch.setattr(cylinder_flow, "SMALL", size)
    # A thread starts faster than a process.
    monkeypatch.setattr(cylinder_flow, "workers", ThreadPoolExecutor)
    monkeypatch.setattr("reproductions.data.cylinder_flow.workers", ThreadPoolExecutor)
    with stand_in():
        arguments = ["--small", "--device", "cpu", "--steps", "16", "--output", str(tmp_path)]
        cylinder_flow.main(arguments)
    assert [it.replays() for it in steps] == [16 - 11] * 2
    metrics = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
    assert list(metrics["runs"]) == ["noise-0.02", "noise-0"]
    for name, run in metrics["runs"].items():
        assert len(run["rmse_by_step"]) == COARSE.states - 1
        model = Module.from_checkpoint(tmp_path / f"{name}.mdlus")
        assert model.num_parameters() == metrics["parameters"]
    assert metrics["without_model"]["rmse"]["1 step"] > 0
    text = written("<!-- begin: cylinder_flow -->\n<!-- end: cylinder_flow -->", tmp_path)
    for name in ("noise 0.02 m/s", "noise 0 m/s", "nothing changes"):
        assert f"| {name} | " in text
    assert "| the paper, its own flows | 0.0023 | 0.0063 | 0.0409 |" in text
    assert (tmp_path / "rollout.png").stat().st_size > 10_000
