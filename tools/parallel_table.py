# SPDX-License-Identifier: Apache-2.0
"""Which models train in parallel in which way: the table of the guide for several GPUs.

``python -m tools.parallel_table`` prints it. The tests of the session ``distributed`` run every
model in every way that the table grants it.
"""

from collections import defaultdict
from importlib.metadata import entry_points

WAYS = (
    "data parallel, captured",
    "sharded (FSDP2)",
    "resharded files",
    "recomputation",
    "built on meta",
    "domain parallel",
)
NOT_OFFERED = {
    ("Sequence_Model", "domain parallel"): "it sees a short sequence of latent states, no grid",
}


def models() -> dict[str, list[str]]:
    """Return the registered models by the package that ships them."""
    found = defaultdict(list)
    for point in sorted(entry_points(group="physicsnemo.models"), key=lambda it: it.name.lower()):
        assert point.dist is not None
        found[point.dist.name].append(point.name)
    return dict(sorted(found.items()))


def divisible() -> set[str]:
    """Return the models for which a family has rules of domain parallelism."""
    points = entry_points(group="physicsnemo.domain")
    return {kind.__name__ for point in points for kind in point.load().MODELS}


def table() -> str:
    """Return the table, in Markdown."""
    lines = [f"| models | {' | '.join(WAYS)} |", "|---|" + "---|" * len(WAYS)]
    for names in models().values():
        by_marks = defaultdict(list)
        for name in names:
            marks = tuple(
                f"no: {NOT_OFFERED[name, way]}" if (name, way) in NOT_OFFERED else "yes"
                for way in WAYS
            )
            by_marks[marks].append(f"`{name}`")
        lines += [f"| {', '.join(own)} | {' | '.join(marks)} |" for marks, own in by_marks.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
