# SPDX-License-Identifier: Apache-2.0
"""What training on several GPUs sends and how long that takes, measured and predicted.

``torchrun --nproc-per-node 2 -m tools.bench.communication measure --json FILE`` times collectives
and tells their latency and bandwidth. ``python -m tools.bench.communication predict`` counts, for
weather models at a quarter of a degree, what the steps of all ways send and hold, and tells times
where links were measured; it needs no GPU. ``python -m tools.bench.communication scaling`` counts
the steps of ``tools.bench.scaling`` likewise. ``python -m tools.bench.communication table`` writes
the tables of the documentation from the files in ``tools/bench/results``.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tools.bench.links import Link, Time, fit, measure, needed
from tools.bench.quarter_degree import CASES
from tools.bench.report import ROOT, duration, provenance, read_json, show, write_json
from tools.bench.scaling_cases import WAYS as STEPS
from tools.bench.scaling_cases import problems
from tools.bench.scaling_traffic import Exchange, count
from tools.bench.traffic import HOST, WAYS, Cost, costs

RESULTS = ROOT / "tools" / "bench" / "results"
COSTS = RESULTS / "quarter_degree.json"
GUIDE = ROOT / "docs" / "several_gpus.md"
BEGIN, END = "<!-- begin: tools.bench.communication table -->", "<!-- end: table -->"
SIZES = (2, 4, 8, 64)
NAMES = {"ddp": "data parallel", "fsdp": "sharded", "domain": "domain parallel"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says."""
    options = _parser().parse_args(arguments)
    options.run(options)


def measured(options: argparse.Namespace) -> None:
    """Time collectives on all processes."""
    on_gpu = options.device == "cuda"
    device = torch.device("cpu")
    if on_gpu:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo", device_id=device if on_gpu else None)
    first = dist.get_rank() == 0

    def report(time: Time) -> None:
        if first:
            print(f"{time.kind} {time.sent} {duration(time.seconds)}", flush=True)

    times = measure(device, options.largest * 2**20, report)
    links = fit(times)
    if first:
        rows = [
            (it.kind, str(it.gpus), duration(it.latency_s), f"{it.bytes_per_s / 1e9:.1f} GB/s", "")
            for it in links
        ]
        show("Links", ("kind", "GPUs", "latency", "bandwidth", ""), rows)
        machine = {
            "device": torch.cuda.get_device_name(device) if on_gpu else "CPU",
            "nccl": ".".join(map(str, torch.cuda.nccl.version())) if on_gpu else None,
            "command": " ".join(["-m tools.bench.communication", *sys.argv[1:]]),
        }
        if options.json:
            write_json(options.json, provenance() | machine, links=links, times=times)
    dist.barrier()
    dist.destroy_process_group()


def predicted(options: argparse.Namespace) -> None:
    """Count what steps send and hold, and tell how long the links need for it."""
    links = read_links(options.links)
    found: list[Cost] = []
    columns = ("model", "way", "GPUs", "state", "activations", "sent", "calls", "time", "")
    for case in CASES:
        if case.name in options.case:
            own = costs(case, options.gpus, options.way)
            found += own
            show(case.name, columns, [_row(cost, links) for cost in own])
    if options.json:
        write_json(options.json, provenance(), costs=found)


def counted(options: argparse.Namespace) -> None:
    """Count what the steps that ``tools.bench.scaling`` times send and compute."""
    found: list[Exchange] = []
    for problem in problems(options.size == "small"):
        if problem.name not in options.case:
            continue
        own = [count(problem, "alone", 1)]
        own += [
            count(problem, way, size) for size in options.gpus for way in STEPS if way != "alone"
        ]
        columns = ("way", "GPUs", "TFLOP", "MiB sent", "collectives", "largest, MiB", "")
        show(problem.name, columns, [_exchange(it) for it in own])
        found += own
    if options.json:
        write_json(options.json, provenance(), exchanges=found)


def table(options: argparse.Namespace) -> None:
    """Write the tables into the guide."""
    text = options.guide.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    whole = f"{before}{BEGIN}\n{tables(read_costs(COSTS), read_links())}{END}{after}"
    options.guide.write_text(whole, encoding="utf-8")


def read_links(paths: Sequence[Path] | None = None) -> list[Link]:
    """Return the links of some files, by default of all that were measured on GPUs."""
    paths = sorted(RESULTS.glob("links*.json")) if paths is None else paths
    return [Link(**link) for path in paths for link in read_json(path)["links"]]


def read_costs(path: Path) -> list[Cost]:
    """Return what ``predict --json`` wrote."""
    return [Cost(**cost) for cost in read_json(path)["costs"]]


def seconds(cost: Cost, links: Sequence[Link]) -> float | None:
    """Return how long what a step sends takes, if nothing hides it; None if nobody measured it.

    Links between hosts are not those that were measured, so that beyond one host no time is told.
    """
    return None if cost.gpus > HOST else needed(links, cost.gpus, cost.calls, cost.sent)


def tables(found: Sequence[Cost], links: Sequence[Link]) -> str:
    """Return tables in Markdown: memory, bytes sent, and times where links were measured."""
    known = {(it.case, it.way, it.gpus): it for it in found}

    def written(title: str, cell: Any) -> str:
        head = f"| {title} | | {' | '.join(f'{size} GPUs' for size in SIZES)} |\n"
        lines = [head, f"|---|---|{'---:|' * len(SIZES)}\n"]
        for case in dict.fromkeys(it.case for it in found):
            for way in WAYS:
                row = [known.get((case, way, size)) for size in SIZES]
                own = next((it for it in row if it), None)
                if own is None:
                    continue
                name = f"{case}, {own.parameters / 1e6:.1f} M" if way == WAYS[0] else ""
                cells = " | ".join(cell(it) if it else "-" for it in row)
                lines.append(f"| {name} | {NAMES[way]} | {cells} |\n")
        return "".join(lines)

    parts = [
        written(
            "GiB for each GPU: weights and optimizer + activations",
            lambda it: f"{_gib(it.state_bytes)} + {_gib(it.activation_bytes)}",
        ),
        written(
            "MiB that each GPU sends in a step, and collectives",
            lambda it: f"{sum(it.sent.values()) / 2**20:,.0f} ({sum(it.calls.values())})",
        ),
    ]
    if links:
        parts.append(
            written(
                "time of these collectives, if nothing hides them",
                lambda it: "-" if (time := seconds(it, links)) is None else duration(time),
            )
        )
    return "\n".join(["", *parts, ""])


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}"


def _row(cost: Cost, links: Sequence[Link]) -> tuple[str, ...]:
    time = seconds(cost, links)
    return (
        cost.case,
        cost.way,
        str(cost.gpus),
        f"{_gib(cost.state_bytes)} GiB",
        f"{_gib(cost.activation_bytes)} GiB",
        f"{sum(cost.sent.values()) / 2**20:,.1f} MiB",
        str(sum(cost.calls.values())),
        "" if time is None else duration(time),
        "",
    )


def _exchange(it: Exchange) -> tuple[str, ...]:
    return (
        it.way,
        str(it.gpus),
        f"{it.operations / 1e12:.3g}",
        f"{sum(it.sent.values()) / 2**20:,.1f}",
        str(sum(it.calls.values())),
        f"{max(it.largest.values(), default=0) / 2**20:,.1f}",
        "",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench.communication", description=__doc__
    )
    actions = parser.add_subparsers(required=True)
    action = actions.add_parser("measure", help="time collectives, under torchrun")
    action.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    action.add_argument("--largest", type=int, default=512, help="size of messages, in MiB")
    action.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    action.set_defaults(run=measured)
    action = actions.add_parser("predict", help="count what steps send and hold")
    names = [case.name for case in CASES]
    action.add_argument("--case", nargs="+", choices=names, default=names)
    action.add_argument("--way", nargs="+", choices=WAYS, default=list(WAYS))
    action.add_argument("--gpus", nargs="+", type=int, default=list(SIZES))
    action.add_argument("--links", nargs="+", type=Path, metavar="FILE", help="by default, all")
    action.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    action.set_defaults(run=predicted)
    action = actions.add_parser("scaling", help="count the steps of tools.bench.scaling")
    names = [problem.name for problem in problems(small=True)]
    action.add_argument("--case", nargs="+", choices=names, default=names)
    action.add_argument("--gpus", nargs="+", type=int, default=[2, 4, 8])
    action.add_argument("--size", choices=("full", "small"), default="full")
    action.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    action.set_defaults(run=counted)
    action = actions.add_parser("table", help="write the tables of the documentation")
    action.add_argument("--guide", type=Path, default=GUIDE)
    action.set_defaults(run=table)
    return parser


if __name__ == "__main__":
    main()
