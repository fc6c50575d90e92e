"""The clusters of the end-to-end tests: real server, workers and trainers in a folder of their own, and what their database says.

SweepCluster runs one sweep on plumb-e2e (cluster_main.cc) and is what is killed at random moments; CommandLineCluster is driven as users
drive theirs, by plumb.
"""
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 150
# What depends on the run and not on the trial.
UNSTABLE = ("time/", "memory/", "timing/")  # and every rate, "…_per_s"


class Cluster:
    """A folder that it makes, with the database, a log, a server and workers."""

    def __init__(self, folder):
        folder.mkdir()
        self.folder, self.db = folder, folder / "plumb.db"
        self.log = open(folder / "log", "ab")
        self.server, self.workers = None, []

    def start(self, command, environment=None):
        return subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=environment)

    def query(self, sql):
        """The rows; asked again for ten seconds while the database is not there, or its WAL is being recovered."""
        for tries in range(200, 0, -1):
            try:
                db = sqlite3.connect(f"file:{self.db}?mode=ro", uri=True, timeout=30)
                try:
                    return db.execute(sql).fetchall()
                finally:
                    db.close()
            except sqlite3.OperationalError:
                if tries == 1:
                    raise
                time.sleep(0.05)

    def wait_for(self, what, condition, seconds=PATIENCE_SECONDS):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                self.fail(f"not in time: {what}")
            time.sleep(0.05)

    def processes(self):
        """{pid: the words of its command line} of those that name the folder."""
        found = {}
        for entry in pathlib.Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0") if entry.name.isdigit() else []
            except OSError:
                continue
            if any(str(self.folder) in w for w in words):
                found[int(entry.name)] = words
        return found

    def fail(self, why):
        print((self.folder / "log").read_text(errors="replace")[-4000:])
        raise AssertionError(f"{why}; {self.folder}")

    def stop(self):
        for process in (*self.workers, self.server):
            if process is None or process.poll() is not None:
                continue
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in self.processes():  # trainers outlive workers that were killed
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.log.close()


class CommandLineCluster(Cluster):
    """By `plumb`, with one worker. `worker`: the words of its start."""

    def __init__(self, folder, plumb, worker, environment=None):
        super().__init__(folder)
        self.plumb, self.worker_words, self.environment = str(plumb), worker, environment
        self.workers = [None]

    def spawn(self, *words, environment=None):
        return self.start([self.plumb, *words, "--db", self.db], environment or self.environment)

    def start_server(self):
        self.server = self.spawn("server", "--lease", 5)
        self.wait_for("the server", lambda: self.ask("server", "status", expect=None)[0] == 0)

    def start_worker(self):
        self.workers[0] = self.spawn("worker", "start", "--dir", self.folder / "worker", *self.worker_words)

    def ask(self, *words, expect=0):
        """(exit code, standard output, standard error) of a command in the folder; expect None: any code will do."""
        out = subprocess.run([self.plumb, *map(str, words), "--db", str(self.db)], capture_output=True, text=True, cwd=self.folder, env=self.environment)
        assert expect is None or out.returncode == expect, f"plumb {words}: {out.returncode}\n{out.stdout}\n{out.stderr}"
        return out.returncode, out.stdout, out.stderr

    def states(self):
        return [s for (s,) in self.query("SELECT state FROM sweep")]

    def fail(self, why):
        for trial in (1, 2, 3, 4):
            print(self.ask("trial", "explain", trial, expect=None)[1])
        super().fail(why)


class SweepCluster(Cluster):
    """By plumb-e2e, with one sweep. Each worker has a folder of its own."""

    def __init__(self, folder, bin_dir, trainer, data_root, sweep, slots, workers=1):
        super().__init__(folder)
        self.bin, self.trainer, self.data, self.slots = bin_dir, trainer, data_root, slots
        self.address = f"file:{self.db}.address"
        self.sweep_file = folder / "sweep.yaml"
        self.sweep_file.write_text(sweep)
        self.workers = [None] * workers

    def spawn(self, *words):
        return self.start([self.bin / "plumb-e2e", *words])

    def start_server(self):
        self.server = self.spawn("server", self.db, self.data)

    def start_worker(self, i):
        gang = ["127.0.0.1"] if len(self.workers) > 1 else []
        self.workers[i] = self.spawn("worker", self.address, self.folder / f"w{i}", self.slots, self.trainer, self.data, f"w{i}", *gang)

    def start_workers(self):
        for i in range(len(self.workers)):
            self.start_worker(i)

    def submit(self, file=None, request="r1"):
        command = [str(self.bin / "plumb-e2e"), "submit", self.address, str(file or self.sweep_file), request]
        for _ in range(100):  # the coordinator may not be up yet; the request id makes a repeat harmless
            if subprocess.run(command, stdout=self.log, stderr=self.log).returncode == 0:
                return
            time.sleep(0.1)
        self.fail(f"sweep {request} was not accepted")

    def edit(self, text, request):
        """True once the sweep has it; a server that is not there, or dies meanwhile, is asked again."""
        (self.folder / "edit.yaml").write_text(text)
        try:
            address = pathlib.Path(f"{self.db}.address").read_text().strip()
        except OSError:
            return False
        command = [str(self.bin / "plumb"), "--server", address, "sweep", "extend", "1", "--file", str(self.folder / "edit.yaml"),
                   "--request-id", request]
        done = subprocess.run(command, stdout=self.log, stderr=self.log).returncode
        if done not in (0, 5, 8):
            self.fail(f"edit {request} was refused with {done}")
        return done == 0

    def state(self):
        rows = self.query("SELECT state FROM sweep WHERE id = 1")
        return rows[0][0] if rows else "none"

    def trainers(self):
        """Pids of live trainers: the last hello of each journal, if it is still that program."""
        pids = []
        for journal in sorted(self.folder.glob("w*/trainers/*/journal")):
            pid = 0
            for segment in sorted(journal.glob("*.jsonl")):
                try:
                    for line in segment.read_text(errors="replace").splitlines():
                        if '"event":"hello"' in line:
                            pid = json.loads(line)["pid"]
                except (OSError, ValueError):
                    pass
            try:
                if pid and str(journal.parent) in pathlib.Path(f"/proc/{pid}/cmdline").read_text():
                    pids.append(pid)
            except OSError:
                pass
        return pids

    def ranks(self):
        """Pids of the other ranks that live trainers have started."""
        pids = []
        for pid in self.trainers():
            try:
                pids += [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            except OSError:
                pass
        return pids

    def fail(self, why):
        for log in self.folder.glob("w*/trainers/*/trainer.log"):
            print(f"--- {log}\n" + log.read_text(errors="replace")[-2000:])
        try:
            for row in self.query("SELECT kind, stage_id, attempt, detail FROM event ORDER BY id DESC LIMIT 40"):
                print(row)
        except sqlite3.Error as e:
            print(f"its database: {e}")
        super().fail(why)


def check(condition, cluster, why):
    if not condition:
        cluster.fail(why)


def run_undisturbed(cluster, deadline):
    cluster.start_server()
    cluster.start_workers()
    cluster.submit()
    cluster.wait_for("the end of the undisturbed sweep", lambda: cluster.state() == "completed", deadline - time.monotonic())


def run_under_fire(cluster, rng, kills_wanted, pause, deadline, edits=()):
    """kill -9 of trainers, other ranks, workers and the coordinator, each as often as the others; returns how often."""
    cluster.start_server()
    cluster.start_workers()
    cluster.submit()
    kills = {"trainer": 0, "worker": 0, "coordinator": 0} | ({"rank": 0} if "ranks:" in cluster.sweep_file.read_text() else {})
    victims, edits = [], list(edits)
    while cluster.state() != "completed" or edits:
        # Each edit is asked for twice: it holds once.
        if edits and sum(kills.values()) >= 4 * (3 - len(edits)) and cluster.edit(edits[0], f"e{len(edits)}"):
            cluster.edit(edits.pop(0), f"e{len(edits) + 1}")
        if time.monotonic() > deadline:
            cluster.fail(f"the sweep did not complete in time; kills so far: {kills}")
        time.sleep(rng.uniform(*pause))
        if sum(kills.values()) >= kills_wanted:
            continue
        if not victims:
            victims = list(kills)
            rng.shuffle(victims)
        victim = victims[-1]
        if victim in ("trainer", "rank"):
            pids = cluster.trainers() if victim == "trainer" else cluster.ranks()
            if not pids:
                continue
            try:
                os.kill(rng.choice(pids), signal.SIGKILL)
            except ProcessLookupError:
                continue
        else:
            which = rng.randrange(len(cluster.workers))
            process = cluster.workers[which] if victim == "worker" else cluster.server
            if process.poll() is not None:
                cluster.fail(f"the {victim} ended by itself with {process.returncode}")
            process.kill()
            process.wait()
            time.sleep(rng.choice([0, 0, rng.uniform(0, 0.5)]))
            if victim == "worker":
                cluster.start_worker(which)
            else:
                cluster.start_server()
        kills[victim] += 1
        victims.pop()
    return kills


def results(cluster):
    """Everything measured, by the trial's key; values by their bits."""
    def stable(name):
        return not name.startswith(UNSTABLE) and not name.endswith("_per_s")
    points = {}
    for key, name, layer, step, value in cluster.query(
            "SELECT t.key || g.name, s.name, s.layer, m.step, m.value FROM measurement m JOIN series s ON s.id = m.series_id "
            "JOIN stage g ON g.id = s.stage_id JOIN trial t ON t.id = g.trial_id ORDER BY 1, 2, 3, 4"):
        points.setdefault((key, name, layer), []).append((step, value if stable(name) else None))
    documents = cluster.query("SELECT t.key, d.split, d.document, d.nll, d.tokens, d.bytes FROM document_score d JOIN stage g "
                              "ON g.id = d.stage_id JOIN trial t ON t.id = g.trial_id ORDER BY 1, 2, 3")
    return points, documents, cluster.query(
        "SELECT t.key, g.name, r.kind, r.name, r.idx, r.step, r.data_json FROM record r JOIN stage g ON g.id = r.stage_id "
        "JOIN trial t ON t.id = g.trial_id ORDER BY 1, 2, 3, 4, 5")
