# SPDX-License-Identifier: Apache-2.0
"""The script of the page on forecasts: it beats persistence, and resumes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CHECKS = """
(now, true) = test[:, 0], test[:, 1]
error, persistence = (rmse(it, true, weights, dim=(0, 2, 3)) for it in (model(now), now))
assert (error < 0.3 * persistence).all(), (error, persistence)
assert (error < torch.tensor([1.8, 0.9])).all(), error

for step, state in enumerate(rollout(model, now, steps=5), start=1):
    error, persistence = (
        rmse(it, test[:, step], weights, dim=(0, 2, 3)) for it in (state, now)
    )
    assert (error < 0.5 * persistence).all(), (step, error, persistence)

# The data are as the page tells: a wave of order 1 moves by 0.2 at the equator, 0.35 at 45 degrees.
first, second = (torch.fft.rfft(it - mean.cpu())[..., 1] for it in (test[:, 0], test[:, 1]))
angle = -torch.angle(second / first)
torch.testing.assert_close(angle[..., 8], torch.full((20, 2), 0.2), atol=2e-3, rtol=0)
torch.testing.assert_close(angle[..., 4], torch.full((20, 2), 0.35), atol=2e-3, rtol=0)

program = torch.export.load("forecast.pt2").module()
torch.testing.assert_close(program(now[:3]), model(now[:3]))
assert load_checkpoint("run", network) == 10
"""


def run(text: str, folder: Path) -> str:
    """Return what a script prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore:invalid escape", "-c", text],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # threads would wait for those of other tests
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_runs_as_it_is_written_and_goes_on_where_it_was_stopped(
    script_on: Callable[[str], str], tmp_path: Path
) -> None:
    script = script_on("forecasting")
    stop = "    if epoch == 4:\n        raise SystemExit\n"
    part = script.replace("    schedule.step()\n", f"{stop}    schedule.step()\n")
    assert run(part, tmp_path) == ""
    assert "checkpoint.0.4.pt" in os.listdir(tmp_path / "run")
    run(script + CHECKS, tmp_path)
