#!/usr/bin/env python3
"""Machines that come and go, with nothing but the coordinator between them.

One trial with a stage after it. Its worker is ended once a checkpoint is committed (by SIGKILL with its trainers, or by SIGTERM, which
writes one more), its folder is removed, and a worker of another name and folder takes over; so again and again. Every attempt
must begin where the last committed checkpoint was, the last worker must go on with the training's result, and every value must be
bit-equal to an undisturbed run on one machine. The corpus lies beside the coordinator alone: each machine fetches it. In the end the coordinator keeps what the final checkpoint consists of and nothing else.

    blobs.py --bin BUILD/bin [--keep]
"""
import argparse
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

from cluster import SweepCluster, check, results, run_undisturbed
from corpus import write_corpus

LIMIT_SECONDS = 120
SWEEP = """sweep: moving
trial:
  model: {preset: llama, d_model: 32, head_dim: 16, n_layers: 2}
  data: {corpus: source, tokenizer: bytes, seq_len: 32}
  train: {steps: STEPS, batch_tokens: 256, lr: 3e-3, log_every: 10}
  eval: {points: 4, tokens: 2048, train_tokens: 1024, final_tokens: 4096}
  execution: {threads: 1, checkpoint_steps: 40}
allow: [more_than_one_epoch]
stages:
  again: {evaluate: {splits: [val]}}
"""


class Moving(SweepCluster):
    """Workers one after the other, each on a machine of its own: name and folder are new, the folder is removed at its end."""
    machine = 0

    def start_worker(self, _=0):
        self.machine += 1
        self.dir = self.folder / f"machine{self.machine}"
        self.workers[0] = self.worker = self.spawn("worker", self.address, self.dir, self.slots, self.trainer, self.folder / "nothing", f"machine{self.machine}")

    def pids(self):
        """Everything that stands for this machine: its worker, guards and trainers."""
        return [pid for pid, words in self.processes().items() if any(str(self.dir) in w for w in words)]

    def lose_machine(self, how):
        if how == signal.SIGTERM:
            self.worker.terminate()
            check(self.worker.wait(60) == 0, self, "the worker did not leave well")
        while pids := self.pids():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.worker.wait()
        shutil.rmtree(self.dir)


def committed(cluster):
    rows = cluster.query("SELECT checkpoint_step FROM stage WHERE parent_id IS NULL")
    return rows[0][0] if rows else -1


def blobs_of(cluster):
    return {p.name: p for p in pathlib.Path(f"{cluster.db}.blobs").rglob("*") if p.is_file()}


def needed_in_the_end(cluster):
    """The manifest of each stage's last checkpoint and what it names, read from the blobs."""
    needed, blobs = set(), blobs_of(cluster)
    for (digest,) in cluster.query("SELECT checkpoint_digest FROM stage WHERE checkpoint_step >= 0"):
        check(digest in blobs, cluster, f"the manifest {digest} of a final checkpoint is not at the coordinator")
        needed |= {digest} | {f["sha256"] for f in json.loads(blobs[digest].read_text())["files"].values()}
    return needed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="plumb-e2e-blobs-"))
    deadline = time.monotonic() + LIMIT_SECONDS
    left = lambda: deadline - time.monotonic()
    write_corpus(folder / "data")
    sweep = SWEEP.replace("STEPS", str(args.steps))
    trainer = args.bin / "plumb-trainer"
    calm = SweepCluster(folder / "calm", args.bin, trainer, folder / "data", sweep, slots=1)
    moving = Moving(folder / "moving", args.bin, trainer, folder / "data", sweep, slots=1)
    try:
        run_undisturbed(calm, deadline)
        moving.start_server()
        moving.start_worker()
        moving.submit()
        begins = []  # the least that the next attempt may begin at
        for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            least = committed(moving)
            moving.wait_for("a further checkpoint", lambda: committed(moving) > max(least, 0), left())
            least = committed(moving)
            moving.lose_machine(how)
            begins.append((least, committed(moving)))
            moving.start_worker()
            attempts = len(begins) + 1
            moving.wait_for(f"attempt {attempts}", lambda: len(moving.query(
                "SELECT 1 FROM attempt a JOIN stage g ON g.id = a.stage_id WHERE g.parent_id IS NULL")) >= attempts, left())
        moving.wait_for("the trained weights", lambda: moving.query(
            "SELECT 1 FROM stage WHERE parent_id IS NULL AND state = 'succeeded'"), left())
        moving.wait_for("the end", lambda: moving.state() == "completed", left())
        starts = [s for (s,) in moving.query("SELECT a.start_step FROM attempt a JOIN stage g ON g.id = a.stage_id "
                                             "WHERE g.parent_id IS NULL ORDER BY a.number")]
        check(len(starts) == len(begins) + 1 and starts[0] == 0, moving, f"attempts began at {starts}")
        for start, (least, at_most) in zip(starts[1:], begins):
            check(0 < least <= start == at_most, moving, f"attempts began at {starts}, checkpoints before them {begins}")
        check(not moving.query("SELECT 1 FROM event WHERE kind = 'checkpoint_gone'"), moving, "a checkpoint was given up")
        check(results(calm) == results(moving), moving, "values differ from the undisturbed run")
        corpora = [p.name for p in (moving.dir / "corpora").iterdir()]
        check(corpora == [json.loads((folder / "data" / "source" / "bytes" / "manifest.json").read_text())["digest"]], moving, f"corpora {corpora}")
        # What nobody needs goes, what is needed stays and is what its name says.
        needed = needed_in_the_end(moving)
        moving.wait_for("the collection", lambda: set(blobs_of(moving)) <= needed, left())
        check(set(blobs_of(moving)) == needed, moving, "something needed was collected")
        for name, path in blobs_of(moving).items():
            check(hashlib.sha256(path.read_bytes()).hexdigest() == name, moving, f"blob {name} is damaged")
        print(f"{len(begins)} machines lost, attempts began at steps {starts}, values bit-equal to the undisturbed run; "
              f"{len(needed)} blobs left at the coordinator, all needed")
    finally:
        for cluster in (calm, moving):
            cluster.stop()
        if not args.keep:
            subprocess.run(["rm", "-rf", str(folder)], check=False)


if __name__ == "__main__":
    main()
