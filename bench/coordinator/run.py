#!/usr/bin/env python3
"""What the coordinator can carry. Everything is real: gRPC over sockets, SQLite with its syncs.

    script/bench coordinator [--quick] [SECTION ...]

trials    no-op trials a second through 32 workers with guards and trainer processes, beside HyperQueue, Optuna and Ray Tune
latency   submission to start, on an idle cluster and under 50,000 points a second
points    durable points a second over 2,048 series
schedule  what the scheduler costs a placed trial: 100,000 queued, 10,000 workers (CPU time; instructions by callgrind)
backup    the longest stall that an online backup makes, and its length
large     list and status at 100,000 trials, restart with 1,000,000 finished ones
cluster   10,000 workers over sockets: heartbeats, 100,000 points a second, deaths, a killed server

The times of trials are read from the database: a trial's start is the trainer's own clock at the moment it took the row, its end
the commit of its outcome. Simulated workers (points, cluster) are bench/coordinator/load.cc.
"""
import argparse
import json
import pathlib
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import peers  # noqa: E402
from cluster import BIN, Cluster, lost_points, percentile, read_load, report  # noqa: E402

WORKERS = 32


def trials(folder, quick):
    n, rounds = (1000, 3) if quick else (4000, 5)
    names = [name for name in peers.SCRIPTS if not quick or "Ray" not in name]
    with Cluster(folder) as cluster:
        cluster.swarm(WORKERS)
        cluster.run_sweep("warmup", 200)
        ours, theirs = [], {name: [] for name in names}
        for i in range(rounds):  # in turn: what the machine does besides hits all
            ours.append(cluster.run_sweep(f"r{i}", n))
            for name in names:
                theirs[name].append(peers.rate(name, folder))
        again, = cluster.query("SELECT count(*) FROM attempt WHERE number > 1 OR outcome != 'succeeded'")[0]
        ended, = cluster.query("SELECT count(*) FROM stage WHERE state = 'succeeded'")[0]
        if again or ended != 200 + n * rounds:
            sys.exit(f"{again} attempts were repeated or failed; {ended} trials ended")
    case = f"trials a second, {WORKERS} workers, {n} trials, "
    report(case + f"median of {rounds}", statistics.median(ours), "trials/s", rounds)
    report(case + f"worst of {rounds}", min(ours), "trials/s", rounds)
    for name, rates in theirs.items():
        pairs = [(a, b) for a, b in zip(ours, rates) if b]
        if pairs:
            report(f"trials a second, beside {name}", statistics.median(ours), "trials/s", len(pairs), statistics.median(b for _, b in pairs),
                   [a / b for a, b in pairs])


def latency(folder, quick):
    n = 100 if quick else 300
    (folder / "idle").mkdir()
    with Cluster(folder / "idle") as cluster:
        cluster.swarm(2)
        starts, ends = cluster.singles(n, "idle")
        for what, values in (("start", starts), ("result committed", ends)):
            for p in (0.5, 0.99):
                report(f"submission to {what}, idle cluster, p{p * 100:.0f}", percentile(values, p), "ms", n)
    (folder / "busy").mkdir()
    with Cluster(folder / "busy") as cluster:
        cluster.submit("ballast", 2048)
        load = cluster.load("--workers", 32, "--slots", 64, "--seconds", 600, "--rate", 50_000)
        cluster.wait_for(lambda: cluster.query("SELECT count(*) FROM stage WHERE state = 'running'")[0][0] == 2048, "the ballast")
        cluster.swarm(2)
        time.sleep(3)
        before, begin = cluster.query("SELECT count(*) FROM measurement")[0][0], time.monotonic()
        starts, ends = cluster.singles(n, "busy")
        points = (cluster.query("SELECT count(*) FROM measurement")[0][0] - before) / (time.monotonic() - begin)
        load.kill()
        for p in (0.5, 0.99):
            report(f"submission to start under {points:.0f} points/s, p{p * 100:.0f}", percentile(starts, p), "ms", n)


def points(folder, quick):
    for size in (20, 100):
        work = folder / str(size)
        work.mkdir()
        with Cluster(work) as cluster:
            cluster.submit("s", 2048)
            events, acked = read_load(cluster.load("--workers", 32, "--slots", 64, "--seconds", 10 if quick else 60, "--points", size))
            done = events["done"]
            held, lost = lost_points(cluster, acked)
            report(f"durable points a second, 2,048 series, {size} points a series and commit, {done['seconds']:.0f} s", done["points_per_s"],
                   "points/s")
            report(f"acknowledged points lost, of {held}", lost, "points")
            report("bytes a point", cluster.db.stat().st_size / max(1, held), "B")
        shutil.rmtree(work)


def schedule(folder, quick):
    program = [BIN / "plumb-schedule-bench"] + (["--events", "4000"] if quick else [])
    rounds = [json.loads(subprocess.run(program + ["--seed", str(i + 1)], stdout=subprocess.PIPE, check=True, text=True).stdout)
              for i in range(2 if quick else 5)]
    case = f"report to placed trial, {rounds[0]['queued_at_least']} queued, 10,000 workers, CPU time, "
    for p in ("p50", "p99"):
        report(case + p, statistics.median(r[f"us_{p}"] for r in rounds), "us", sum(r["placed"] for r in rounds))
    if shutil.which("valgrind") is None:
        print("no valgrind: instructions are not counted (apt install valgrind)", file=sys.stderr)
        return
    out = folder / "callgrind.out"
    said = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--toggle-collect=*Bench::Measured*",
                           BIN / "plumb-schedule-bench", "--events", "2000"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
                          text=True).stdout
    placed = json.loads(said)["placed"]
    counts = subprocess.run(["callgrind_annotate", "--inclusive=yes", out], stdout=subprocess.PIPE, check=True, text=True).stdout
    total, decision = 0, 0
    for line in counts.splitlines():
        words = line.split()
        if "PROGRAM TOTALS" in line:
            total = int(words[0].replace(",", ""))
        if "Core::Schedule()" in line and not decision:
            decision = int(words[0].replace(",", ""))
    report("instructions a placed trial, report to placed", total / placed, "instructions", placed)
    report("instructions a placed trial, the decision alone", decision / placed, "instructions", placed)


def backup(folder, quick):
    with Cluster(folder) as cluster:
        cluster.submit("s", 2048)
        read_load(cluster.load("--workers", 32, "--slots", 64, "--seconds", 5 if quick else 30, "--points", 100))
        size = cluster.db.stat().st_size
        # The new attempts first roll back what the first ones measured: millions of points, one commit of seconds.
        load = cluster.load("--workers", 32, "--slots", 64, "--settle", 20, "--seconds", 20 if quick else 60, "--rate", 20_000)
        time.sleep(25)
        begin = time.monotonic()
        copy = subprocess.Popen([BIN / "plumb", "server", "backup", "--db", cluster.db, folder / "copy.db"], stdout=subprocess.DEVNULL)
        stalls = []
        while copy.poll() is None:
            at = time.monotonic()
            cluster.plumb("server", "status")
            stalls.append(time.monotonic() - at)
        seconds = time.monotonic() - begin
        events, _ = read_load(load)
        report(f"online backup of {size >> 20} MiB under 20,000 points/s", seconds, "s")
        report("slowest answer of the server meanwhile (a whole `plumb server status`)", 1e3 * max(stalls), "ms", len(stalls))
        report("slowest report to its commit, p99, with the backup in it", events["done"]["report_ms_p99"], "ms")


def fill(db, trials):
    """Finished trials, written as the server would leave them."""
    db.execute("PRAGMA synchronous = OFF")
    template = {t: dict(zip([c[1] for c in db.execute(f"PRAGMA table_info({t})")], db.execute(f"SELECT * FROM {t} LIMIT 1").fetchone()))
                for t in ("trial", "stage", "attempt", "sweep_trial", "sweep")}
    first = {t: db.execute(f"SELECT max(id) FROM {t}").fetchone()[0] for t in ("trial", "stage", "sweep")}

    def copy(table, n, **changed):
        columns = list(template[table])
        values = ", ".join(changed.get(c, f'"{c}"') for c in columns)
        where = {"trial": f"id = {template['trial']['id']}", "stage": f"id = {template['stage']['id']}",
                 "attempt": f"stage_id = {template['attempt']['stage_id']} AND number = {template['attempt']['number']}",
                 "sweep_trial": f"sweep_id = {template['sweep_trial']['sweep_id']} AND idx = {template['sweep_trial']['idx']}",
                 "sweep": f"id = {template['sweep']['id']}"}[table]
        names = ", ".join(f'"{c}"' for c in columns)
        db.execute(f"WITH RECURSIVE k(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < {n}) INSERT INTO {table} ({names}) "
                   f"SELECT {values} FROM k, (SELECT * FROM {table} WHERE {where})")

    sweep = first["sweep"] + 1
    copy("sweep", 1, id=str(sweep), name="'filled'", request_id="'filled'", trials=str(trials), cursor=str(trials), state="'completed'")
    copy("trial", trials, id=f"{first['trial']} + i", key="'filled' || i", state="'succeeded'")
    copy("stage", trials, id=f"{first['stage']} + i", trial_id=f"{first['trial']} + i", state="'succeeded'", attempts="1")
    copy("attempt", trials, stage_id=f"{first['stage']} + i", number="1", outcome="'succeeded'")
    copy("sweep_trial", trials, sweep_id=str(sweep), idx="i", trial_id=f"{first['trial']} + i")
    db.commit()


def large(folder, quick):
    with Cluster(folder) as cluster:
        cluster.swarm(1)
        cluster.run_sweep("one", 1)
    for count in (100_000, 1_000_000) if not quick else (20_000, 100_000):
        db = sqlite3.connect(folder / "plumb.db")
        there, = db.execute("SELECT count(*) FROM trial").fetchone()
        fill_count = count - there
        # Keys must differ between the two fillings.
        db.execute("UPDATE trial SET key = 'old' || id WHERE key LIKE 'filled%'")
        db.execute("UPDATE sweep SET request_id = 'old' || id WHERE request_id = 'filled'")
        db.commit()
        fill(db, fill_count)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
        # On a cold start SQLite maps what it needs; three starts, the worst is told.
        starts = []
        for _ in range(3):
            with Cluster(folder) as cluster:
                cluster.kill_server()
                began = time.monotonic()
                cluster.start_server()
                cluster.plumb("server", "status")
                starts.append(time.monotonic() - began)
        report(f"restart after kill -9 with {count} finished trials, to the first answer, worst of 3", max(starts), "s", 3)
        with Cluster(folder) as cluster:
            floor = min(timed(lambda: subprocess.run([BIN / "plumb", "--version"], stdout=subprocess.DEVNULL, check=True)) for _ in range(10))
            for args in (("server", "status"), ("sweep", "list"), ("trial", "list", "-o", "json"), ("worker", "list"),
                         ("trial", "explain", "7")):
                times = [timed(lambda a=args: cluster.plumb(*a)) for _ in range(7)]
                report(f"`plumb {' '.join(args)}` at {count} trials, whole process (of which {floor * 1e3:.0f} ms is its start), worst of 7",
                       1e3 * max(times), "ms", 7)


def timed(what):
    begin = time.monotonic()
    what()
    return time.monotonic() - begin


def cluster(folder, quick):
    n, seconds = (1000, 60) if quick else (10_000, 240)
    with Cluster(folder) as c:
        for name in ("a", "b"):
            c.submit(name, n * 49 // 100)  # some workers stay idle: they take what the dead leave
        load = c.load("--workers", n, "--slots", 1, "--seconds", seconds, "--rate", 100_000, "--die", 0.01)
        c.wait_for(lambda: c.query("SELECT count(*) FROM stage WHERE state = 'running'")[0][0] >= n * 49 // 100 * 2, f"{n} workers",
                   pause=0.5, seconds=300)
        time.sleep(15)
        cpu, begin = c.cpu_seconds(), time.monotonic()
        time.sleep(20)
        report(f"cores of the coordinator, {n} workers over sockets, 100,000 points/s", (c.cpu_seconds() - cpu) / (time.monotonic() - begin), "cores")
        time.sleep(max(0, seconds * 0.75 - 35))
        peak = c.peak_mib()
        losses, = c.query("SELECT count(*) FROM attempt WHERE outcome = 'lost'")[0]
        # Killed, and started again, under all of them.
        c.kill_server()
        attempts, = c.query("SELECT count(*) FROM attempt")[0]
        time.sleep(2)
        c.start_server()
        events, acked = read_load(load)
        back = events.get("all are back", {}).get("seconds", -1)
        held, lost = lost_points(c, acked)
        again, = c.query("SELECT count(*) FROM attempt")[0]
        done = events["done"]
        report(f"{n} workers: registered after", events["registered"]["seconds"], "s")
        report(f"{n} workers: points a second, the time without a server included", done["points_per_s"], "points/s")
        report(f"{n} workers: report to commit, p50", done["report_ms_p50"], "ms")
        report(f"{n} workers: report to commit, p99", done["report_ms_p99"], "ms")
        report(f"{n} workers: peak memory of the coordinator", max(peak, c.peak_mib()), "MiB")
        report(f"{n} workers: attempts lost, of {n // 100} workers that fell silent", losses, "attempts")
        report(f"{n} workers: acknowledged points lost, of {held}", lost, "points")
        report(f"{n} workers: all back after a kill -9 of the server and 2 s without one, from the first failure", back, "s")
        report(f"{n} workers: attempts made after the restart", again - attempts, "attempts")


SECTIONS = {"trials": trials, "latency": latency, "points": points, "schedule": schedule, "backup": backup, "large": large, "cluster": cluster}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller and shorter")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="these only")
    args = parser.parse_args()
    for name in args.sections:
        if name not in SECTIONS:
            parser.error(f"no section {name}; there are: {' '.join(SECTIONS)}")
    for name in args.sections or SECTIONS:
        with tempfile.TemporaryDirectory(prefix=f"plumb-bench-{name}-") as folder:
            SECTIONS[name](pathlib.Path(folder), args.quick)


if __name__ == "__main__":
    main()
