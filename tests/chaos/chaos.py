#!/usr/bin/env python3
"""Chaos on real processes: a sweep of real trials under faults of every kind, compared with the same sweep undisturbed.

kill -9 and SIGSTOP of server, worker, guard and trainer, storms of restarts, full and broken disks, torn journals, networks that delay,
stall and reset, and at the end an older copy of the database put back. At least --faults faults are injected while at least --trials
trials run; then every trial must have succeeded, every row be there once and bit-equal, every row that was acknowledged while the
faults went on be unchanged, and no process or stray file be left. The faults follow from --seed; their moments are the machine's.

    chaos.py --bin BUILD/bin --trials 200 --faults 100 --seed 7
"""
import argparse
import collections
import heapq
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

from cluster import Cluster, Gone, processes_of, stray_files
from faults import FAULTS
from ledger import Ledger, differences, results
from corpus import write_corpus

CHUNK = 20  # trials of a sweep
SWEEP = """sweep: chaos-{k}
trial:
  model: {{preset: llama, d_model: 32, head_dim: 16}}
  data: {{corpus: source, tokenizer: bytes, seq_len: 32}}
  train: {{steps: {steps}, batch_tokens: 128, log_every: 10}}
  eval: {{points: 4, tokens: 512, train_tokens: 256, final_tokens: 1024}}
  execution: {{threads: 1, checkpoint_steps: 40}}
axes:
  model.n_layers: [1, 2]
  train.lr: [{low}, {high}]
replicates: 5
allow: [more_than_one_epoch]
resources: {{bundle: {bundle}}}
stages:
  probes: {{probe: {{prompts: ["The "], top_k: 3, generate: {{tokens: 8}}}}}}
"""


class Failed(Exception):
    pass


class Chaos:
    def __init__(self, cluster, rng, args, deadline, say):
        self.cluster, self.rng, self.args, self.deadline, self.say = cluster, rng, args, deadline, say
        self.ledger = Ledger(cluster)
        self.ends, self.order, self.busy = [], itertools.count(), set()
        self.bag, self.counts, self.done = [], collections.Counter(), 0
        self.excused, self.by_itself = {}, []
        self.sweeps, self.submitter = 0, None
        self.lost_submit = None

    # ---- what faults use ----

    def later(self, seconds, end, lock):
        """Calls `end` after so long; `lock` is taken until then."""
        self.busy.add(lock)
        heapq.heappush(self.ends, (time.monotonic() + seconds, next(self.order), end, lock))

    def excuse(self, what):
        """It may end by itself from now on, for a while: its disk is broken."""
        self.excused[what] = time.monotonic() + 30

    # ---- the run ----

    def file_of(self, k, bundle=4):
        path = self.cluster.folder / f"sweep-{k}.yaml"
        path.write_text(SWEEP.format(k=k, bundle=bundle, steps=self.args.steps, low=1e-3 * (1 + k / 1000), high=3e-3 * (1 + k / 1000)))
        return path

    def submit_next(self):
        if self.submitter and self.submitter.is_alive():
            return
        k = self.sweeps
        self.sweeps += 1
        self.submit([k])

    def submit(self, which):
        def work():
            for k in which:
                if not self.cluster.submit(self.file_of(k), f"request-{k}", seconds=60):
                    self.lost_submit = k
        self.submitter = threading.Thread(target=work)
        self.submitter.start()

    def unfinished(self):
        try:
            return self.cluster.query("SELECT count(DISTINCT trial_id) FROM stage WHERE state IN ('pending', 'running', 'paused')")[0][0]
        except (RuntimeError, sqlite3.Error):
            return None

    def turn(self):
        """What is due: ends of faults, restarts of what left by itself, a look at the database."""
        now = time.monotonic()
        while self.ends and self.ends[0][0] <= now:
            _, _, end, lock = heapq.heappop(self.ends)
            end()
            if not any(lock == other for _, _, _, other in self.ends):
                self.busy.discard(lock)
        for name, process, start in [("server", self.cluster.server, self.cluster.start_server)] + [
                (w.name, w.process, lambda w=w: self.cluster.start_worker(w)) for w in self.cluster.workers]:
            if name in self.busy or process.poll() is None:
                continue
            if self.excused.get(name, 0) < now:
                raise Failed(f"{name} ended by itself with {process.returncode}")
            self.by_itself.append(name)
            self.later(0.5, start, name)  # as a supervisor would
        if now >= self.next_sample:
            self.ledger.sample()
            self.next_sample = time.monotonic() + 0.5
            if self.ledger.wrong:
                raise Failed("; ".join(self.ledger.wrong[:5]))
        if self.lost_submit is not None:
            raise Failed(f"sweep {self.lost_submit} was not accepted within a minute")
        if now > self.deadline:
            raise Failed(f"not done in time: {self.done} faults, {self.unfinished()} trials unfinished of {self.sweeps * CHUNK}")
        time.sleep(0.03)

    def inject(self):
        """One fault of the bag that can be had now."""
        if not self.bag:
            self.bag = [name for name, (_, times) in FAULTS.items() for _ in range(times)]
            self.rng.shuffle(self.bag)
        for name in list(self.bag[:6]):
            try:
                what = FAULTS[name][0](self, self.rng)
            except Gone:
                continue
            self.bag.remove(name)
            self.count(name, what)
            return
        self.bag.append(self.bag.pop(0))  # its victim does not come: later

    def count(self, name, what):
        self.done += 1
        self.counts[name] += 1
        self.say(f"{time.monotonic() - self.begin:7.1f} s  fault {self.done:3}  {name}: {what}")

    def settle(self):
        while self.ends:
            self.turn()

    def run(self):
        self.begin = self.next_sample = time.monotonic()
        self.cluster.start()
        self.submit_next()
        next_fault, copy, copied_at = time.monotonic() + 1, None, 0
        back_at = [self.args.faults * (i + 1) // (self.args.put_backs + 1) for i in range(self.args.put_backs)]
        left = None
        looked = 0
        while True:
            self.turn()
            now = time.monotonic()
            if now - looked > 0.3:
                left, looked = self.unfinished(), now
            enough = self.done >= self.args.faults
            submitting = self.submitter and self.submitter.is_alive()
            if not submitting and left is not None and left <= 8:
                if not enough or self.sweeps * CHUNK < self.args.trials:
                    self.submit_next()
                elif left == 0 and not self.ends:
                    break
            # As many as the trials that have ended allow: faults without a pause would only show that nothing gets on.
            ended = max(0, self.sweeps * CHUNK - (CHUNK if left is None else left))
            allowed = self.args.faults * ended / self.args.trials + max(4, self.args.faults / 10)
            if now < next_fault or self.done >= allowed or enough:
                continue
            if copy is None and back_at and self.done >= back_at[0]:
                copy = self.take_copy()
                copied_at = self.done
            elif copy is not None and self.done >= copied_at + 4 and not submitting:
                self.put_back(copy, len(back_at) % 2 == 0)
                copy, left = None, None
                back_at.pop(0)
            elif len(self.ends) < 4 and self.done < self.args.faults - len(back_at):
                self.inject()
            next_fault = now + self.rng.uniform(*self.args.pause)
        self.settle()
        self.ledger.sample(everything=True)
        if self.ledger.wrong:
            raise Failed("; ".join(self.ledger.wrong[:5]))

    def take_copy(self):
        self.ledger.sample()  # what it has seen is in the copy
        rows = self.ledger.copy()
        path = self.cluster.folder / "copy.db"
        path.unlink(missing_ok=True)
        source, target = self.cluster.connect(), sqlite3.connect(path)
        try:
            source.backup(target)
        finally:
            source.close()
            target.close()
        return path, rows, self.sweeps

    def put_back(self, copy, alone):
        """`alone`: without the files beside the database, so that only the workers can tell that it is older."""
        self.settle()
        path, rows, _ = copy
        self.ledger.sample(everything=True)  # up to here nothing may be missing
        if self.ledger.wrong:
            raise Failed("; ".join(self.ledger.wrong[:5]))
        kill(self.cluster.server, self.rng)
        for suffix in ("", "-wal", "-shm") + ((".mark", ".incarnation") if alone else ()):
            pathlib.Path(f"{self.cluster.db}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(path, self.cluster.db)
        seen = self.ledger.count()
        self.ledger.go_back(rows)
        self.cluster.start_server()
        which = list(range(self.sweeps))  # those it has forgotten are asked for again, in another order
        self.rng.shuffle(which)
        self.submit(which)
        self.count("put_back", f"a copy with {self.ledger.count()} of {seen} acknowledged rows, "
                               f"{'alone' if alone else 'with the files beside it'}")


def kill(process, rng):
    process.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM]))
    process.wait(30)


def run_calm(cluster, chaos, deadline):
    """The same sweeps undisturbed."""
    cluster.start()
    for k in range(chaos.sweeps):
        if not cluster.submit(chaos.file_of(k, bundle=1), f"request-{k}"):  # and each trial alone
            raise Failed("the undisturbed run does not take a sweep")
    while cluster.query("SELECT count(*) FROM sweep WHERE state = 'completed'")[0][0] < chaos.sweeps:
        if time.monotonic() > deadline:
            raise Failed("the undisturbed run does not end in time")
        time.sleep(0.2)


def check_left(cluster):
    """Ends a cluster; returns what is left of it that should not be."""
    wrong = cluster.stop()
    end = time.monotonic() + 20
    while (left := processes_of(cluster.folder)) and time.monotonic() < end:
        time.sleep(0.2)
    wrong += [f"left behind: process {pid}: {' '.join(args)[:200]}" for pid, args in left.items()]
    return wrong + [f"left behind: {path}" for path in stray_files(cluster)]


def check_results(calm, fire):
    wrong = []
    calm_rows, calm_states = results(calm)
    fire_rows, fire_states = results(fire)
    wrong += [f"{which} is {state} under fire" for which, state in fire_states.items() if state != "succeeded"]
    wrong += [f"{which} is {state} undisturbed" for which, state in calm_states.items() if state != "succeeded"]
    if set(calm_states) != set(fire_states):
        wrong.append(f"{len(calm_states)} stages undisturbed, {len(fire_states)} under fire")
    wrong += differences(calm_rows, fire_rows)
    total, distinct = fire.query("SELECT count(*), count(DISTINCT s.stage_id || ' ' || s.name || ' ' || s.layer || ' ' || m.step) "
                                 "FROM measurement m JOIN series s ON s.id = m.series_id")[0]
    if total != distinct:
        wrong.append(f"{total - distinct} rows are there twice")
    if fire.query("PRAGMA integrity_check") != [("ok",)] or fire.query("PRAGMA foreign_key_check"):
        wrong.append("the database is damaged")
    return wrong, sum(map(len, fire_rows.values()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="where plumb, plumb-e2e and plumb-trainer are")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--put-backs", type=int, default=2, help="among the faults: an older copy of the database")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--steps", type=int, default=800, help="of each training")
    parser.add_argument("--pause", type=float, nargs=2, default=(0.3, 3.0), help="seconds between two faults, from and to")
    parser.add_argument("--limit", type=float, default=1800, help="seconds for each of the two runs")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    args = parser.parse_args()
    args.bin = args.bin.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # cleans up on its way out
    say = lambda text: print(text, file=sys.stderr if args.output == "json" else sys.stdout, flush=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="plumb-chaos-"))
    write_corpus(folder / "data")
    tmpfs = os.geteuid() == 0 and can_mount(folder)
    if not tmpfs:
        say("no file system can be mounted here: the faults server_disk_full and worker_disk_full are left out")
        del FAULTS["server_disk_full"], FAULTS["worker_disk_full"]
    fire = Cluster(folder / "fire", args.bin, folder / "data", args.workers, 1, tmpfs)
    calm = Cluster(folder / "calm", args.bin, folder / "data", 2, 1, False)
    chaos = Chaos(fire, random.Random(args.seed), args, time.monotonic() + args.limit, say)
    wrong, rows, seconds = [], 0, {}
    try:
        try:
            chaos.run()
            seconds["under_fire"] = time.monotonic() - chaos.begin
            wrong += check_left(fire)
            begin = time.monotonic()
            run_calm(calm, chaos, begin + args.limit)
            seconds["undisturbed"] = time.monotonic() - begin
            wrong += check_left(calm)
            more, rows = check_results(calm, fire)
            wrong += more
        except Failed as failure:
            wrong.append(str(failure))
        summary = {
            "ok": not wrong, "seed": args.seed, "faults": chaos.done, "faults_by_kind": dict(sorted(chaos.counts.items())),
            "trials": chaos.sweeps * CHUNK, "rows_compared": rows, "rows_acknowledged_and_seen": chaos.ledger.count(),
            "looks_at_the_database": chaos.ledger.samples,
            "stages_begun_again_after_a_put_back": chaos.ledger.restarted, "left_by_itself_on_a_broken_disk": chaos.by_itself,
            "seconds": {k: round(v, 1) for k, v in seconds.items()}, "wrong": wrong[:50]}
        try:
            summary["attempts"] = dict(fire.query("SELECT coalesce(outcome, 'running'), count(*) FROM attempt GROUP BY 1"))
        except (RuntimeError, sqlite3.Error):
            pass
        report(summary, args.output)
        if wrong:
            args.keep = True
            tail = (fire.folder / "log").read_text(errors="replace")[-3000:]
            print(f"{tail}\nFAILED: {wrong[0]}\nseed {args.seed}; databases, logs and workers' folders: {folder}", file=sys.stderr)
    finally:
        for _, _, end, _ in chaos.ends:
            end()  # nobody is left stopped, no disk full
        if chaos.submitter:
            chaos.submitter.join(70)
        for cluster in (fire, calm):
            cluster.destroy(args.keep)
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
        elif not wrong:
            say(f"kept: {folder}")
    sys.exit(1 if wrong else 0)


def can_mount(folder):
    probe = folder / "probe"
    probe.mkdir()
    ok = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(probe)], stderr=subprocess.DEVNULL).returncode == 0
    if ok:
        subprocess.run(["umount", str(probe)], check=False)
    probe.rmdir()
    return ok


def report(summary, output):
    if output == "json":
        print(json.dumps(summary, indent=1))
        return
    for key, value in summary.items():
        print(f"{key:34} {value}")


if __name__ == "__main__":
    main()
