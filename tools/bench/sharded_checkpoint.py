# SPDX-License-Identifier: Apache-2.0
"""Memory of saving a sharded model by two processes, beyond the shards that each of them has.

``python -m tools.bench.sharded_checkpoint --megabytes 1000`` prints, for each process, by how much
the peak of resident memory grows, and the size of the largest tensor, which one has whole.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.bench.checkpoint import LAYER_BYTES, model
from tools.bench.own_process import peak_bytes

PROCESSES = 2


def measure(rank: int, folder: Path, megabytes: int) -> dict[str, float]:
    """Save in this process, together with the others; return sizes in megabytes."""
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    from physicsnemo.distributed import shard

    torch.set_num_threads(1)
    meeting = (folder / "store").absolute().as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=PROCESSES)
    with torch.device("meta"):
        built = model(megabytes)
    shard(built, init_device_mesh("cpu", (PROCESSES,)))
    built.to_empty(device="cpu")
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter.to_local())
    dist.barrier()
    before = peak_bytes()
    built.save(folder / "model.mdlus")
    grown = peak_bytes() - before
    dist.destroy_process_group()
    return {"rank": rank, "shards": before / 1e6, "grows by": grown / 1e6}


def main() -> None:
    """Start the processes, and print what they find."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank is not None:
        print(json.dumps(measure(options.rank, options.folder, options.megabytes)))
        return
    with TemporaryDirectory(dir=Path.cwd()) as folder:
        command = [sys.executable, "-m", "tools.bench.sharded_checkpoint", "--folder", folder]
        command += ["--megabytes", str(options.megabytes), "--rank"]
        running = [
            subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True)
            for rank in range(PROCESSES)
        ]
        found = [json.loads(process.communicate()[0]) for process in running]
        size = Path(folder, "model.mdlus").stat().st_size
    for result in found:
        print(
            f"process {result['rank']}: peak {result['shards']:.0f} MB before saving, grows by "
            f"{result['grows by']:.0f} MB; the file has {size / 1e6:.0f} MB, its largest tensor "
            f"{LAYER_BYTES / 1e6:.0f} MB"
        )


if __name__ == "__main__":
    main()
