"""Processes and databases that the coordinator's benchmarks share."""
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("PLUMB_BUILD", ROOT / "build" / "release")) / "bin"


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(p * len(values)))]


def report(case, value, unit, n=1, peer=None, ratios=None):
    """One line. A ratio above 1 means that ours is better."""
    ratios = sorted(ratios or [])
    print(json.dumps({"bench": "coordinator", "case": case, "ours": round(value, 3), "peer": peer and round(peer, 3), "unit": unit,
                      "ratio": round(ratios[len(ratios) // 2], 3) if ratios else None,
                      "ratio_min": round(ratios[0], 3) if ratios else None,
                      "ratio_max": round(ratios[-1], 3) if ratios else None, "n": n}), flush=True)


class Cluster:
    """A coordinator in `folder`, and what is started against it; leaves no process behind."""

    def __init__(self, folder):
        self.folder = folder
        self.db = folder / "plumb.db"
        self.address = f"file:{self.db}.address"
        self.log = open(folder / "log", "ab")
        self.processes = []
        self.server = None
        self.start_server()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.log.close()

    def start_server(self):
        address = pathlib.Path(f"{self.db}.address")
        address.unlink(missing_ok=True)
        begin = time.monotonic()
        self.server = self.start("plumb-coordinator-bench", "server", self.db)
        self.wait_for(address.exists, "the coordinator", pause=0.001)
        return time.monotonic() - begin

    def start(self, program, *args, stdout=None):
        process = subprocess.Popen([BIN / program, *map(str, args)], stdout=stdout or self.log, stderr=self.log, text=True)
        self.processes.append(process)
        return process

    def swarm(self, workers):
        """`workers` real workers of one slot, each with a guard and a no-op trainer."""
        before = self.query("SELECT count(*) FROM worker")[0][0]
        self.start("plumb-coordinator-bench", "swarm", self.address, self.folder / "workers", workers, BIN / "plumb-noop-trainer")
        self.wait_for(lambda: self.query("SELECT count(*) FROM worker")[0][0] == before + workers, "the workers")

    def load(self, *args):
        """Simulated workers over real sockets; `read_load` gives what they say."""
        return self.start("plumb-load-bench", self.address, *args, stdout=subprocess.PIPE)

    def wait_for(self, done, what, pause=0.05, seconds=120):
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline or (self.server is not None and self.server.poll() is not None):
                sys.exit(f"{what} did not come; see {self.log.name}: {open(self.log.name).read()[-2000:]}")
            time.sleep(pause)

    def query(self, sql, *args):
        db = sqlite3.connect(f"file:{self.db}?mode=ro", uri=True, timeout=30)
        try:
            return db.execute(sql, args).fetchall()
        finally:
            db.close()

    def client(self, mode, *args):
        out = subprocess.run([BIN / "plumb-coordinator-bench", mode, self.address, *map(str, args)], stdout=subprocess.PIPE, check=True,
                             text=True).stdout
        return [json.loads(line) for line in out.splitlines()]

    def plumb(self, *args):
        address = pathlib.Path(f"{self.db}.address").read_text().strip()
        return subprocess.run([BIN / "plumb", *map(str, args), "--server", address], stdout=subprocess.PIPE, check=True, text=True).stdout

    def submit(self, name, trials):
        """A sweep of no-ops, not waited for."""
        path = self.folder / f"{name}.yaml"
        path.write_text(f"sweep: {name}\nstages: {{run: {{noop: {{}}}}}}\nreplicates: {trials}\n")
        self.plumb("sweep", "submit", path)
        self.wait_for(lambda: self.query("SELECT count(*) FROM sweep WHERE name = ? AND state != 'materializing'", name)[0][0],
                      "the sweep's trials")

    def run_sweep(self, name, trials):
        """Trials a second, from the submission to the commit of the last end."""
        path = self.folder / f"{name}.yaml"
        path.write_text(f"sweep: {name}\nstages: {{run: {{noop: {{}}}}}}\nreplicates: {trials}\n")
        done = self.client("submit", path, name)[0]
        (ended,), = self.query(
            "SELECT max(a.end_time_us) FROM attempt a JOIN stage g ON g.id = a.stage_id JOIN sweep_trial t ON "
            "t.trial_id = g.trial_id WHERE t.sweep_id = ? AND a.outcome = 'succeeded'", done["sweep"])
        return trials / ((ended - done["wall_us"]) / 1e6)

    def singles(self, count, name):
        """Milliseconds from submission to start, and to the commit of the end, of one trial after another."""
        starts, ends = [], []
        for single in self.client("singles", count, name):
            for summary, end in self.query(
                    "SELECT a.summary_json, a.end_time_us FROM attempt a JOIN stage g ON g.id = a.stage_id "
                    "JOIN sweep_trial t ON t.trial_id = g.trial_id WHERE t.sweep_id = ?", single["sweep"]):
                starts.append((json.loads(summary)["start_time_us"] - single["wall_us"]) / 1e3)
                ends.append((end - single["wall_us"]) / 1e3)
        assert len(starts) == count, f"{len(starts)} attempts of {count} trials"
        return starts, ends

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.server.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self):
        for line in pathlib.Path(f"/proc/{self.server.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        return 0

    def kill_server(self):
        self.server.kill()
        self.server.wait()


def read_load(process):
    """Events by name, and what was acknowledged by (stage, attempt)."""
    events, points = {}, {}
    for line in process.stdout:
        said = json.loads(line)
        if "stage" in said:
            points[said["stage"], said["attempt"]] = said["points"]
        else:
            events[said["event"]] = said
    process.wait()
    return events, points


def lost_points(cluster, points):
    """Acknowledged points of attempts that still are their stage's last ones, and how many of those the database lacks."""
    rows = dict(cluster.query("SELECT s.stage_id, count(*) FROM measurement m JOIN series s ON s.id = m.series_id GROUP BY 1"))
    current = dict(cluster.query("SELECT id, attempts FROM stage"))
    ours = {stage: n for (stage, attempt), n in points.items() if current.get(stage) == attempt}
    return sum(ours.values()), sum(max(0, n - rows.get(stage, 0)) for stage, n in ours.items())
