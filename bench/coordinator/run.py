#!/usr/bin/env python3
"""Trials a second through the coordinator, and how long a trial waits to start on an idle cluster.

    script/bench coordinator [--quick] [--workers N]

Everything is real: gRPC on loopback, SQLite with its syncs, one session and connection a worker, and for each worker a guard
and a trainer process (plumb-noop-trainer) that takes one trial a grant. The times are read from the database: a trial's start
is the trainer's own clock at the moment it took the row, its end the commit of its outcome.
No peer is run: `peer` and the ratios are null.
"""
import argparse
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(p * len(values)))]


def report(case, value, unit, n):
    line = {"bench": "coordinator", "case": case, "ours": round(value, 3), "peer": None, "unit": unit, "ratio": None,
            "ratio_min": None, "ratio_max": None, "n": n}
    print(json.dumps(line), flush=True)


class Cluster:
    """A coordinator and its workers in `folder`; leaves no process behind."""

    def __init__(self, folder, binary, trainer, workers):
        self.db = folder / "plumb.db"
        self.address = f"file:{self.db}.address"
        self.log = open(folder / "log", "wb")
        self.binary = binary
        self.processes = []
        self.start("server", str(self.db))
        self.wait_for(lambda: pathlib.Path(f"{self.db}.address").exists(), "the coordinator")
        self.start("swarm", self.address, str(folder / "workers"), str(workers), str(trainer))
        self.wait_for(lambda: self.query("SELECT count(*) FROM worker")[0][0] == workers, "the workers")

    def start(self, *args):
        self.processes.append(subprocess.Popen([self.binary, *args], stdout=self.log, stderr=self.log))

    def wait_for(self, done, what):
        deadline = time.monotonic() + 60
        while not done():
            if time.monotonic() > deadline or any(p.poll() is not None for p in self.processes):
                sys.exit(f"{what} did not start; see {self.log.name}")
            time.sleep(0.05)

    def query(self, sql, *args):
        db = sqlite3.connect(f"file:{self.db}?mode=ro", uri=True, timeout=30)
        try:
            return db.execute(sql, args).fetchall()
        finally:
            db.close()

    def client(self, mode, *args):
        out = subprocess.run([self.binary, mode, self.address, *args], stdout=subprocess.PIPE, check=True, text=True).stdout
        return [json.loads(line) for line in out.splitlines()]

    def stop(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        self.log.close()


ATTEMPTS = """SELECT a.summary_json, a.start_time_us, a.end_time_us FROM attempt a JOIN stage g ON g.id = a.stage_id
              JOIN sweep_trial t ON t.trial_id = g.trial_id WHERE t.sweep_id = ?"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer trials")
    parser.add_argument("--workers", type=int, default=32, help="workers of one slot (default 32)")
    args = parser.parse_args()
    build = pathlib.Path(os.environ.get("PLUMB_BUILD", ROOT / "build" / "release"))
    binary, trainer = build / "bin" / "plumb-coordinator-bench", build / "bin" / "plumb-noop-trainer"
    trials, rounds, singles = (1000, 3, 100) if args.quick else (4000, 5, 300)
    with tempfile.TemporaryDirectory(prefix="plumb-bench-") as temporary:
        folder = pathlib.Path(temporary)
        cluster = Cluster(folder, binary, trainer, args.workers)
        try:
            def sweep(name, count):
                path = folder / f"{name}.yaml"
                path.write_text(f"sweep: {name}\nstages: {{run: {{noop: {{}}}}}}\nreplicates: {count}\n")
                done = cluster.client("submit", str(path), name)[0]
                ended, = cluster.query(
                    "SELECT max(a.end_time_us) FROM attempt a JOIN stage g ON g.id = a.stage_id JOIN sweep_trial t ON "
                    "t.trial_id = g.trial_id WHERE t.sweep_id = ? AND a.outcome = 'succeeded'", done["sweep"])[0]
                return count / ((ended - done["wall_us"]) / 1e6)

            sweep("warmup", 200)
            rates = [sweep(f"r{i}", trials) for i in range(rounds)]
            case = f"{args.workers} workers, {trials} trials"
            report(f"trials a second, {case}, median of {rounds}", percentile(rates, 0.5), "trials/s", rounds)
            report(f"trials a second, {case}, worst of {rounds}", min(rates), "trials/s", rounds)
            starts, ends = [], []
            for single in cluster.client("singles", str(singles), "s"):
                for summary, _, end in cluster.query(ATTEMPTS, single["sweep"]):
                    starts.append((json.loads(summary)["start_time_us"] - single["wall_us"]) / 1e3)
                    ends.append((end - single["wall_us"]) / 1e3)
            assert len(starts) == singles, f"{len(starts)} attempts of {singles} trials"
            for p in (0.5, 0.99):
                report(f"submit to start, idle cluster, p{p * 100:.0f}", percentile(starts, p), "ms", singles)
            for p in (0.5, 0.99):
                report(f"submit to result committed, idle cluster, p{p * 100:.0f}", percentile(ends, p), "ms", singles)
            again = cluster.query("SELECT count(*) FROM attempt WHERE number > 1 OR outcome != 'succeeded'")[0][0]
            points = cluster.query("SELECT count(*) FROM measurement")[0][0]
            expected = 200 + trials * rounds + singles
            if again or points != expected:
                sys.exit(f"{again} attempts were repeated or failed; {points} points of {expected}")
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()
