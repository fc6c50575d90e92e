#!/usr/bin/env python3
"""A search by Optuna under fire: kill -9 of its suggester --kills times and of the server once, at random moments.

Trials are no-ops whose result is a smooth function of two fields. No suggestion may be repeated and none that was acknowledged lost:
the sweep ends with as many trials as it asked for, all different, and the suggestions in the database are those that the suggesters
were told had been taken. And it must be a search: what it found is better than the points drawn at random.

    search.py --bin BUILD/bin [--sampler tpe|gp|cmaes|nsga2] [--trials N] [--kills N] [--suggesters N] [--seed N] [--keep]

script/test runs 60 trials; the full form is --trials 300.
"""
import argparse
import json
import math
import pathlib
import random
import re
import subprocess
import tempfile
import time

from cluster import SweepCluster, check

STARTUP = 10
SWEEP = """sweep: bowl
stages: {{run: {{noop: {{seconds: 0.05, bowl: "train.lr = 0.003, train.beta2 = 0.95"}}}}}}
axes:
  train.lr: {{log: [1e-5, 1e-1]}}
  train.beta2: {{linear: [0.5, 0.999]}}
objective: {objective}
search: {{{sampler}: {{trials: {trials}, seed: {seed}, parallel: 4, startup: 10}}}}
"""


class Searched(SweepCluster):
    """A cluster with suggesters."""

    def __init__(self, *args, suggesters):
        super().__init__(*args, slots=2)
        self.suggesters = [None] * suggesters

    def suggest_log(self, i):
        return self.folder / f"suggest{i}.log"

    def start_suggester(self, i):
        with open(self.suggest_log(i), "ab") as log:
            self.suggesters[i] = subprocess.Popen([str(self.bin / "plumb-suggest"), "--db", str(self.db), "--name", f"s{i}"], stdout=log,
                                                  stderr=log)

    def trials(self):
        return self.query("SELECT count(*) FROM sweep_trial")[0][0]

    def stop(self):
        for process in self.suggesters:
            if process is not None:
                process.kill()
                process.wait()
        super().stop()

    def fail(self, why):
        for i in range(len(self.suggesters)):
            print(f"--- suggester {i}\n" + self.suggest_log(i).read_text(errors="replace")[-2000:])
        super().fail(why)


def run_under_fire(cluster, rng, victims, trials, deadline):
    """Kills at random moments, spread over the search."""
    cluster.start_server()
    for i in range(len(cluster.suggesters)):
        cluster.start_suggester(i)
    cluster.submit()
    cluster.start_workers()
    for n, victim in enumerate(victims):
        goal = STARTUP + (trials - STARTUP) * (n + rng.random()) / (len(victims) + 0.5)
        while cluster.trials() < goal:
            check(time.monotonic() < deadline, cluster, f"too slow: {cluster.trials()} trials before kill {n + 1}")
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.05))
        if victim == "server":
            cluster.server.kill()
            cluster.server.wait()
            cluster.start_server()
        else:
            i = rng.randrange(len(cluster.suggesters))
            cluster.suggesters[i].kill()
            cluster.suggesters[i].wait()
            cluster.start_suggester(i)
    while cluster.state() != "completed":
        check(time.monotonic() < deadline, cluster, f"too slow: {cluster.trials()} of {trials} trials, {cluster.state()}")
        time.sleep(0.05)


def suggestions(cluster):
    """Of the database: {number: (values, refused)}."""
    out = {}
    for name, payload, trials in cluster.query("SELECT name, payload_json, trials FROM sweep_addition ORDER BY idx"):
        payload = json.loads(payload)
        check(payload["kind"] == "suggest", cluster, f"an addition is {payload['kind']}")
        check(payload["first"] == STARTUP + len(out), cluster, f"{name} comes after number {STARTUP + len(out) - 1}")
        taken = [p for p in payload["points"] if "refused" not in p]
        check(len(taken) == trials, cluster, f"{name}: {len(taken)} points, {trials} trials")
        for i, point in enumerate(payload["points"]):
            out[payload["first"] + i] = (tuple(point["values"]), point.get("refused"))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--sampler", default="tpe", choices=("tpe", "gp", "cmaes", "nsga2"))
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--kills", type=int, default=3, help="of suggesters; the server is killed once beside")
    parser.add_argument("--suggesters", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=150, help="seconds")
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="plumb-search-"))
    objective = "[noop/value, noop/size]" if args.sampler == "nsga2" else "noop/value"
    sweep = SWEEP.format(sampler=args.sampler, trials=args.trials, seed=args.seed, objective=objective)
    cluster = Searched(folder / "fire", args.bin, args.bin / "plumb-noop-trainer", folder / "data", sweep, suggesters=args.suggesters)
    victims = ["suggester"] * args.kills + ["server"]
    rng.shuffle(victims)
    begin = time.monotonic()
    try:
        run_under_fire(cluster, rng, victims, args.trials, begin + args.limit)
        seconds = time.monotonic() - begin
        counts, = cluster.query("SELECT count(*), count(DISTINCT trial_id), count(DISTINCT cell_id), sum(shared) FROM sweep_trial")
        check(counts == (args.trials, args.trials, args.trials, 0), cluster, f"trials, different ones, cells, shared: {counts}")
        states = cluster.query("SELECT state, count(*) FROM trial GROUP BY state")
        check(states == [("succeeded", args.trials)], cluster, f"trials are {states}")
        said = suggestions(cluster)
        taken = [values for values, refused in said.values() if refused is None]
        check(len(taken) == len(set(taken)) == args.trials - STARTUP, cluster, f"{len(taken)} suggestions were taken, {len(set(taken))} differ")
        acknowledged = 0
        for i in range(args.suggesters):
            for n, first, ok in re.findall(r"(\d+) points from (\d+) on .*: (\d+) taken", cluster.suggest_log(i).read_text()):
                here = [number for number in range(int(first), int(first) + int(n)) if number in said and said[number][1] is None]
                check(len(here) == int(ok), cluster, f"{ok} of {n} points from {first} on were acknowledged, {len(here)} are there")
                acknowledged += int(ok)
        values = [v for v, in cluster.query("SELECT m.value FROM sweep_trial t JOIN stage g ON g.trial_id = t.trial_id JOIN series s ON s.stage_id = g.id "
                                            "JOIN measurement m ON m.series_id = s.id WHERE s.name = 'noop/value' ORDER BY t.idx")]
        check(len(values) == args.trials, cluster, f"{len(values)} results")
        for axes, value in cluster.query("SELECT c.axes_json, m.value FROM sweep_trial t JOIN cell c ON c.id = t.cell_id JOIN stage g ON g.trial_id = "
                                         "t.trial_id JOIN series s ON s.stage_id = g.id JOIN measurement m ON m.series_id = s.id WHERE s.name = 'noop/value'"):
            axes = json.loads(axes)
            bowl = math.log(axes["train.lr"] / 0.003) ** 2 + math.log(axes["train.beta2"] / 0.95) ** 2
            check(math.isclose(value, bowl, rel_tol=1e-12), cluster, f"{axes}: measured {value}, the bowl is {bowl}")
        random_best, best = min(values[:STARTUP]), min(values)
        check(best < random_best, cluster, f"the best, {best}, is among the {STARTUP} drawn at random")
        check(cluster.query("PRAGMA integrity_check") == [("ok",)], cluster, "the database is damaged")
        print(f"{args.trials} trials by {args.sampler}, {args.suggesters} suggester{'s' * (args.suggesters > 1)}, {args.kills} kills of suggesters and 1 of "
              f"the server, seed {args.seed}: none repeated, none lost ({acknowledged} of {len(taken)} were acknowledged before a kill), "
              f"{len(said) - len(taken)} refused; best {best:.2g}, of the {STARTUP} drawn at random {random_best:.2g}; {seconds:.1f} s")
    finally:
        cluster.stop()
        if not args.keep:
            subprocess.run(["rm", "-rf", str(folder)])


if __name__ == "__main__":
    main()
