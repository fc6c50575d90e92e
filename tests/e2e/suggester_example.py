#!/usr/bin/env python3
"""The suggester of docs/how-to/suggester.md, as it stands there, against a real server: it climbs, and has at most 40 lines.

    suggester_example.py --bin BUILD/bin --python PYTHON_WITH_GRPC
"""
import argparse
import os
import pathlib
import re
import subprocess
import tempfile
import time

from cluster import ROOT, SweepCluster, check

STARTUP, TRIALS = 10, 50
SWEEP = f"""sweep: climb
stages: {{run: {{noop: {{bowl: "train.lr = 0.003, train.beta2 = 0.95, model.n_layers = 3"}}}}}}
axes:
  train.lr: {{log: [1e-5, 1e-1]}}
  train.beta2: [0.5, 0.9, 0.95, 0.99]
  model.n_layers: {{range: [1, 8]}}
objective: noop/value
search: {{external: {{name: hill, trials: {TRIALS}, seed: 1, parallel: 2, startup: {STARTUP}}}}}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--python", required=True)
    args = parser.parse_args()
    page = (ROOT / "docs/how-to/suggester.md").read_text()
    code, = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="plumb-suggester-"))
    cluster = SweepCluster(folder / "c", args.bin, args.bin / "plumb-noop-trainer", folder / "data", SWEEP, slots=2)
    program, suggester = folder / "hill.py", None
    program.write_text(code)
    try:
        lines = len(code.splitlines())
        check(lines <= 40, cluster, f"the example has {lines} lines")
        cluster.start_server()
        cluster.start_worker(0)
        cluster.submit()
        address = pathlib.Path(f"{cluster.db}.address").read_text().strip()
        environment = dict(os.environ, PYTHONPATH=str(args.bin.parent / "python"))
        with open(folder / "c/hill.log", "wb") as log:
            suggester = subprocess.Popen([args.python, str(program), address], env=environment, stdout=log, stderr=log)
        end = time.monotonic() + 100
        while cluster.state() != "completed":
            if suggester.poll() is not None or time.monotonic() > end:
                cluster.fail(f"the example ended or is too slow: {(folder / 'c/hill.log').read_text()[-2000:]}")
            time.sleep(0.05)
        values = [v for v, in cluster.query(
            "SELECT m.value FROM sweep_trial t JOIN stage g ON g.trial_id = t.trial_id JOIN series s ON s.stage_id = g.id "
            "JOIN measurement m ON m.series_id = s.id WHERE s.name = 'noop/value' ORDER BY t.idx")]
        check(len(values) == TRIALS, cluster, f"{len(values)} results")
        check(min(values) < min(values[:STARTUP]), cluster, f"it found nothing better than {min(values[:STARTUP])}")
        print(f"{lines} lines, {TRIALS} trials: best {min(values):.2g}, of the {STARTUP} drawn at random {min(values[:STARTUP]):.2g}")
    finally:
        if suggester is not None:
            suggester.kill()
            suggester.wait()
        cluster.stop()
        subprocess.run(["rm", "-rf", str(folder)])


if __name__ == "__main__":
    main()
