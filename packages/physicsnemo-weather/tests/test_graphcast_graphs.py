# SPDX-License-Identifier: Apache-2.0
"""GraphCast's graphs: who is joined to whom, what is known of the edges, and how they are kept."""

import os

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from physicsnemo.models.graphcast import _cache, build_graphs, graph_cache, graphs
from physicsnemo.models.graphcast._geometry import Coordinates
from physicsnemo.models.graphcast.icosahedral_mesh import mesh_hierarchy

OLD = "reference-1.2"
GRIDS = [(1, (7, 13)), (2, (19, 36)), (3, (13, 8))]


@pytest.fixture(autouse=True)
def _nothing_kept():
    graphs._build.cache_clear()


def places(level, grid):
    """Return the points of the grid and the vertices of the mesh."""
    lat = np.deg2rad(np.linspace(-90, 90, grid[0]))[:, None]
    lon = np.deg2rad(-180 + 360 * np.arange(1, grid[1] + 1) / grid[1])[None]
    points = np.broadcast_arrays(np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat))
    return np.stack(points, axis=-1).reshape(-1, 3), mesh_hierarchy(level)[-1].vertices


@pytest.mark.parametrize(
    ("level", "grid", "numerics"),
    [(0, (2, 1), "paper"), *((*where, name) for where in GRIDS for name in ("paper", OLD))],
)
def test_every_point_of_the_grid_is_joined(level, grid, numerics):
    built = build_graphs(level, grid, numerics=numerics)
    points, vertices = grid[0] * grid[1], 10 * 4**level + 2
    assert (built.g2m.num_nodes, built.g2m.num_targets) == (points, vertices)
    assert (built.mesh.num_nodes, built.mesh.num_targets) == (vertices, vertices)
    assert (built.m2g.num_nodes, built.m2g.num_targets) == (vertices, points)
    assert built.g2m.source.degrees.min() >= 1
    assert (built.m2g.target.degrees == 3).all()


def test_points_out_of_reach():
    # The centre of a face of the icosahedron, as a pole is, is further from its corners than that.
    paper, reference = (build_graphs(0, (3, 4), numerics=name) for name in ("paper", OLD))
    assert paper.g2m.source.degrees[:4].tolist() == [1] * 4
    assert reference.g2m.source.degrees[:4].tolist() == [0] * 4


def test_vertices_without_points():
    built = build_graphs(2, (7, 12))
    assert built.g2m.num_targets == 162
    assert (built.g2m.target.degrees[-10:] == 0).any()
    assert (build_graphs(3, (3, 5)).m2g.source.degrees[-10:] == 0).all()


@pytest.mark.parametrize(("level", "grid"), GRIDS)
def test_points_are_joined_to_all_vertices_within_reach(level, grid):
    points, vertices = places(level, grid)
    apart = np.linalg.norm(points[:, None] - vertices, axis=-1)
    reach = 0.6 * mesh_hierarchy(level)[-1].edge_lengths.max()
    edges = build_graphs(level, grid).g2m.edge_index
    assert not (np.abs(apart - reach) < 1e-12).any()
    expected = set(zip(*np.nonzero(apart < reach), strict=True))
    assert set(map(tuple, edges.T.tolist())) == expected
    distance = apart[tuple(edges)]
    assert (np.lexsort((distance, edges[0])) == np.arange(len(distance))).all()


@pytest.mark.parametrize("multimesh", [True, False])
def test_points_get_features_from_the_finest_triangle_around_them(multimesh):
    grid = (7, 13)
    points, vertices = places(2, grid)
    source, target = build_graphs(2, grid, multimesh).m2g.edge_index.numpy()
    assert np.array_equal(target, np.arange(7 * 13).repeat(3))
    corners = vertices[source.reshape(-1, 3)]
    assert np.linalg.solve(corners.transpose(0, 2, 1), points[..., None]).min() > -1e-12
    finest = mesh_hierarchy(2)[-1].faces
    assert set(map(frozenset, source.reshape(-1, 3))) <= set(map(frozenset, finest))


@pytest.mark.parametrize("multimesh", [True, False])
def test_in_the_reference_the_nearest_centroid_decides(multimesh):
    grid = (7, 13)
    points, vertices = places(2, grid)
    meshes = mesh_hierarchy(2)
    faces = np.concatenate([mesh.faces for mesh in (meshes if multimesh else meshes[-1:])])
    apart = np.linalg.norm(points[:, None] - vertices[faces].mean(axis=1), axis=-1)
    source = build_graphs(2, grid, multimesh, OLD).m2g.edge_index[0].reshape(-1, 3)
    chosen = [(faces == row).all(axis=1).argmax() for row in source.numpy()]
    assert np.allclose(apart[np.arange(len(points)), chosen], apart.min(axis=1), atol=1e-6)
    around = build_graphs(2, grid, multimesh).m2g.edge_index[0].reshape(-1, 3)
    same = [set(a) == set(b) for a, b in zip(source.tolist(), around.tolist(), strict=True)]
    assert 0 < sum(same) < len(same)


@pytest.mark.parametrize("numerics", ["paper", OLD])
@pytest.mark.parametrize("part", ["g2m", "mesh", "m2g"])
def test_features_of_edges_are_positions_seen_from_the_target(part, numerics):
    grid = (6, 9)  # without the poles, as the next test is about them
    points, vertices = places(1, grid)
    built = build_graphs(1, grid, numerics=numerics)
    ends = {"g2m": (points, vertices), "mesh": (vertices, vertices), "m2g": (vertices, points)}[
        part
    ]
    edges = getattr(built, part).edge_index.numpy()
    source, target = (end[number] for end, number in zip(ends, edges, strict=True))
    lat = np.rad2deg(np.arcsin(target[:, 2].clip(-1, 1)))
    lon = np.rad2deg(np.arctan2(target[:, 1], target[:, 0]))
    turn = Rotation.from_euler("zy", np.stack((-lon, lat), axis=1), degrees=True)
    assert np.allclose(turn.apply(target), [1, 0, 0])
    moved = turn.apply(source) - turn.apply(target)
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    expected = np.concatenate((moved, length), axis=1) / length.max()
    inner = np.abs(lat) < 89
    features = getattr(built, f"{part}_edata")
    assert features.dtype == torch.float64
    exact = 1e-12 if numerics == "paper" else 2e-6
    assert np.allclose(features[inner], expected[inner], rtol=0, atol=exact)
    assert features[:, 3].max() == 1
    torch.testing.assert_close(features[:, :3].norm(dim=1), features[:, 3])


def test_east_and_north_at_the_poles():
    # The faces of an icosahedron are those of the nearest centroids too.
    paper, reference = (build_graphs(0, (8, 13), numerics=name) for name in ("paper", OLD))
    target = paper.m2g.edge_index[1]
    pole = (target < 13) | (target >= 7 * 13)
    assert torch.equal(paper.m2g.edge_index[:, pole], reference.m2g.edge_index[:, pole])
    ours, theirs = paper.m2g_edata[pole], reference.m2g_edata[pole]
    torch.testing.assert_close(ours * torch.tensor([1, -1, -1, 1]), theirs, atol=1e-6, rtol=0)
    # As one step towards the pole along a meridian: north stays north.
    step = Coordinates.of_grid(180 * 60 + 1, 13)
    place, vertex = step.xyz[13:26], mesh_hierarchy(0)[-1].vertices
    away = vertex[paper.m2g.edge_index[0, :39].reshape(13, 3)] - place[:, None]
    lat, lon = step.lat[13:26], step.lon[13:26]
    north = np.stack((-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)), axis=1)
    longest = np.linalg.norm(away[0, 0]) / paper.m2g_edata[0, 3].item()
    seen = np.einsum("pvd,pd->pv", away, north) / longest
    assert np.allclose(paper.m2g_edata[:39, 2], seen.ravel(), atol=1e-3)


def test_features_of_vertices():
    x, y, z = mesh_hierarchy(1)[-1].vertices.T
    paper, reference = (build_graphs(1, (7, 13), numerics=name) for name in ("paper", OLD))
    flat = np.hypot(x, y)
    expected = np.stack((z, y / flat, x / flat), axis=1)
    assert np.allclose(paper.mesh_ndata, expected, rtol=0, atol=1e-12)
    assert len(paper.mesh_ndata.mul(1e6).round().unique(dim=0)) == 42  # no two are alike
    first = torch.tensor([-0.1822, -0.3048, -0.9524]).double()
    torch.testing.assert_close(reference.mesh_ndata[0], first, atol=1e-4, rtol=0)


def test_both_references_are_the_same():
    old, new = (build_graphs(1, (7, 13), numerics=f"reference-{v}") for v in ("1.2", "2.1"))
    assert torch.equal(old.m2g.edge_index, new.m2g.edge_index)
    assert torch.equal(old.mesh_ndata, new.mesh_ndata)


def test_kept_in_memory_and_fit_for_training():
    with torch.inference_mode():
        built = build_graphs(1, (7, 13))
    assert build_graphs(1, (7, 13)) is built
    assert build_graphs(1, (7, 14)) is not built
    assert not built.g2m_edata.is_inference()
    assert not built.g2m.target.perm.is_inference()


def test_kept_in_files(tmp_path, monkeypatch):
    plain = build_graphs(1, (7, 13))
    with graph_cache(tmp_path / "graphs"):
        made = build_graphs(1, (7, 13))
        build_graphs(1, (7, 13), numerics=OLD)
        assert len(list((tmp_path / "graphs").iterdir())) == 2
        graphs._build.cache_clear()
        monkeypatch.setattr(graphs, "_make", lambda layout: pytest.fail("made again"))
        read = build_graphs(1, (7, 13))
    for name in ("g2m_edata", "mesh_edata", "m2g_edata", "mesh_ndata"):
        assert torch.equal(getattr(read, name), getattr(plain, name))
        assert torch.equal(getattr(made, name), getattr(plain, name))
    for name in ("g2m", "mesh", "m2g"):
        assert torch.equal(getattr(read, name).edge_index, getattr(plain, name).edge_index)


def test_files_appear_whole_or_not_at_all(tmp_path, monkeypatch):
    def interrupted(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with graph_cache(tmp_path), pytest.raises(KeyboardInterrupt):
        build_graphs(1, (7, 13))
    assert not list(tmp_path.iterdir())


def cut(content):
    return content[: len(content) // 2]


def altered(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"", lambda _: b"no graphs", lambda _: b"PK\x03\x04 and then nothing", cut, altered],
    ids=["empty", "text", "start", "cut", "altered"],
)
def test_damaged_file_is_made_again(tmp_path, damage):
    with graph_cache(tmp_path):
        made = build_graphs(1, (7, 13))
        (path,) = tmp_path.iterdir()
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
        graphs._build.cache_clear()
        with pytest.warns(UserWarning, match=f"{path.name} is damaged and is made again"):
            again = build_graphs(1, (7, 13))
    assert path.read_bytes() == whole
    assert torch.equal(again.m2g_edata, made.m2g_edata)


@pytest.mark.parametrize("what", ["feature", "edge", "missing", "compressed", "of_others"])
def test_altered_file_is_made_again(tmp_path, what):
    with graph_cache(tmp_path):
        made = build_graphs(1, (7, 13))
        (path,) = tmp_path.iterdir()
        with np.load(path) as content:
            arrays = dict(content)
        if what == "feature":
            arrays["mesh_ndata"] = 2 * arrays["mesh_ndata"]
        elif what == "edge":
            arrays["m2g"][0, 0] += 1
        elif what == "missing":
            del arrays["digest"]
        elif what == "of_others":
            build_graphs(1, (7, 13), numerics=OLD)
            (other,) = set(tmp_path.iterdir()) - {path}
            arrays = dict(np.load(other))
        save = np.savez_compressed if what == "compressed" else np.savez
        save(path, **arrays)
        graphs._build.cache_clear()
        with pytest.warns(UserWarning, match=f"{path.name} is damaged and is made again"):
            again = build_graphs(1, (7, 13))
    assert torch.equal(again.mesh_ndata, made.mesh_ndata)
    assert torch.equal(again.m2g.edge_index, made.m2g.edge_index)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_refused(tmp_path, make):
    with graph_cache(tmp_path):
        build_graphs(1, (7, 13))
        (path,) = tmp_path.iterdir()
        path.unlink()
        make(path)
        graphs._build.cache_clear()
        with pytest.raises(FileExistsError, match="expected a file of graphs at .*remove it"):
            build_graphs(1, (7, 13))


def test_where_no_file_can_be_written_graphs_are_made_each_time(tmp_path, monkeypatch):
    plain = build_graphs(1, (7, 13))

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(_cache, "atomic_write", refused)
    with graph_cache(tmp_path), pytest.warns(UserWarning, match="so graphs are not kept"):
        built = build_graphs(1, (7, 13))
    assert torch.equal(built.m2g_edata, plain.m2g_edata)


def test_file_that_may_not_be_read_is_made_again(tmp_path, monkeypatch):
    with graph_cache(tmp_path):
        made = build_graphs(1, (7, 13))
        graphs._build.cache_clear()
        monkeypatch.setattr(np, "load", lambda *_, **__: (_ for _ in ()).throw(PermissionError))
        with pytest.warns(UserWarning, match="is made again"):
            again = build_graphs(1, (7, 13))
    assert torch.equal(again.mesh_ndata, made.mesh_ndata)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, (7, 13)), "mesh_level of at least 0, got -1"),
        ((9, (7, 13)), r"mesh_level of at most 8, .*graphs\.MOST_LEVELS"),
        ((1, (1, 13)), "the latitudes with both poles, of at least 2, got 1"),
        ((1, (7, 0)), "the longitudes, of at least 1, got 0"),
        ((1, (7,)), r"two numbers, got \(7,\)"),
        ((1, [7, 13, 2]), r"two numbers, got \[7, 13, 2\]"),
        ((1, "12"), "two numbers, got '12'"),
        ((1, (4000, 4000)), r"at most 4194304 points, .*graphs\.MOST_POINTS"),
        ((1, (7, 13), True, "exact"), "numerics to be one of paper, .* got 'exact'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_graphs(*arguments)
