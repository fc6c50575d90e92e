#!/usr/bin/env python3
"""ASHA of Plumb, Ray Tune and Optuna on the same curves (curves.py): epochs spent and regret of what is picked.

  script/bench asha            # 120 seeds, 10 to 400 candidates, 4 workers; 200 of them also on 16; some minutes
  script/bench asha --quick    # 20 seeds, 50 to 400 candidates, 4 workers
  script/bench asha --real 5   # and five real runs of Ray Tune, with actors, of 50 candidates: does virtual time tell the truth?

Every system gets the same candidates in the same order, as many workers, rungs at 1, 3, 9, 27 of 81 epochs, and keeps a third.
Regret: the picked candidate's loss without noise at the end, minus that of the best candidate. Intervals are 95 % by bootstrap over
seeds, of differences paired by seed.

Epochs at equal regret: along the numbers of candidates each system has a frontier of epochs and regret, here against the best of all
400. At each point of Plumb's frontier from 50 candidates on, a peer's epochs for the same regret are read off its own frontier, by
straight lines. Shown is the ratio, peer over ours, with an interval by bootstrap over seeds (whole frontiers at once); the claim holds
where it begins at 1 or above, for both peers. A peer that does not come to that regret even with 400 candidates counts as infinite.

Beside it, with the same number of candidates, paired by seed, and a MARGIN that was fixed before the first run (the noise of one
evaluation):
  not_worse      the interval of the difference of regret, ours minus the peer's, ends below MARGIN
  no_more_epochs the interval of the difference of epochs ends at 0 or below
  equal_regret   the interval of the difference of regret lies within +-MARGIN
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import venv

import curves

MARGIN = curves.NOISE
PACKAGES = ["optuna==5.0.0", "ray[tune]==2.60.0"]
ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("PLUMB_BUILD", ROOT / "build/release"))


def peers_python():
    """An interpreter that has both peers: PLUMB_PEERS's, or one of an environment of their own in .deps."""
    home = pathlib.Path(os.environ.get("PLUMB_PEERS", ROOT / ".deps/bench-venv/bin/python"))
    have = home.exists() and subprocess.run([home, "-c", "import optuna, ray.tune"], capture_output=True, check=False).returncode == 0
    if not have:
        venv.create(home.parents[1], with_pip=True)
        subprocess.run([home.parent / "pip", "install", "-q", *PACKAGES], check=True, stdout=sys.stderr)
    return home


def ours(mode, seeds, candidates, workers):
    with tempfile.NamedTemporaryFile(suffix=".curves") as file:
        curves.write(file.name, range(seeds), candidates)
        done = subprocess.run([BUILD / "bin/plumb-asha-bench", file.name, str(seeds), str(candidates), str(curves.EPOCHS), str(workers), mode, "1/3",
                               "1,3,9,27"], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    return [(int(e), int(pick), float(end)) for e, pick, end in rows]


def peer(python, system, seeds, candidates, workers):
    done = subprocess.run([python, HERE / "peers.py", system, "--seeds", str(seeds), "--workers", str(workers), "--candidates",
                           *map(str, candidates)], stdout=subprocess.PIPE, text=True, check=True, cwd=HERE)
    return {int(n): [tuple(r) for r in rows] for n, rows in json.loads(done.stdout.splitlines()[-1]).items()}


def mean(values):
    return sum(values) / len(values)


def interval(values, draws=4000):
    """95 % by bootstrap of the mean, with a generator of its own: the same values give the same interval."""
    random_ = random.Random(20)
    means = sorted(mean(random_.choices(values, k=len(values))) for _ in range(draws))
    return means[int(0.025 * draws)], means[int(0.975 * draws) - 1]


def at_regret(frontier, regret):
    """Epochs at which a frontier [(epochs, regret), …] comes to the regret; None where it never does."""
    points = sorted(frontier)
    if points[0][1] <= regret:
        return points[0][0]
    for (e0, r0), (e1, r1) in zip(points, points[1:]):
        if r1 <= regret < r0:
            return e0 + (e1 - e0) * (r0 - regret) / (r0 - r1)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=curves.SEEDS)
    parser.add_argument("--real", type=int, default=0, metavar="N", help="seeds of real Ray Tune runs")
    args = parser.parse_args()
    seeds = 20 if args.quick else args.seeds
    many = [50, 100, 200, 400] if args.quick else [10, 25, 50, 100, 200, 400]
    python = peers_python()
    last = [[line[-1] for line in curves.seed_curves(seed)[1]] for seed in range(seeds)]
    print(json.dumps({"bench": "asha", "case": "curves", "seeds": seeds, **curves.describe(range(min(seeds, 20)))}))
    ok = True
    for workers, counts in [(4, many)] + ([] if args.quick else [(16, [200])]):
        runs = {name: peer(python, system, seeds, counts, workers) for name, system in (("Ray Tune", "ray"), ("Optuna", "optuna"))}
        for mode in ("promote", "stop"):
            runs[f"Plumb {mode}"] = {n: ours(mode, seeds, n, workers) for n in counts}
        regret = {name: {n: [last[s][pick] - min(last[s][:n]) for s, (_, pick, _) in enumerate(rows)] for n, rows in by_n.items()}
                  for name, by_n in runs.items()}
        epochs = {name: {n: [e for e, _, _ in rows] for n, rows in by_n.items()} for name, by_n in runs.items()}
        for name, by_n in runs.items():
            for n, rows in by_n.items():
                print(json.dumps({"bench": "asha", "case": f"{name}, {n} candidates, {workers} workers", "epochs": round(mean(epochs[name][n]), 1),
                                  "epochs_interval": [round(v, 1) for v in interval(epochs[name][n])], "regret": round(mean(regret[name][n]), 5),
                                  "regret_interval": [round(v, 5) for v in interval(regret[name][n])], "end": round(mean([t for _, _, t in rows]), 1),
                                  "n": seeds}))
        for name in ("Ray Tune", "Optuna"):
            for mode in ("promote", "stop"):
                for n in counts:
                    mine, other = f"Plumb {mode}", name
                    worse = [a - b for a, b in zip(regret[mine][n], regret[other][n])]
                    more = [a - b for a, b in zip(epochs[mine][n], epochs[other][n])]
                    ratios = [b / a for a, b in zip(epochs[mine][n], epochs[other][n])]
                    low, high = interval(worse)
                    fewer = interval(more)
                    print(json.dumps({"bench": "asha", "case": f"{mine} / {name}, {n} candidates, {workers} workers",
                                      "ours": round(mean(epochs[mine][n]), 1), "peer": round(mean(epochs[other][n]), 1), "unit": "epochs",
                                      "ratio": round(mean(epochs[other][n]) / mean(epochs[mine][n]), 3), "ratio_min": round(min(ratios), 3),
                                      "ratio_max": round(max(ratios), 3), "n": seeds, "epochs_difference": [round(v, 1) for v in fewer],
                                      "regret_difference": round(mean(worse), 5), "regret_difference_interval": [round(low, 5), round(high, 5)],
                                      "not_worse": high < MARGIN, "no_more_epochs": fewer[1] <= 0, "equal_regret": -MARGIN < low and high < MARGIN}))
        if len(counts) > 1:
            of_all = {name: {n: [last[s][pick] - min(last[s]) for s, (_, pick, _) in enumerate(rows)] for n, rows in by_n.items()} for name, by_n in runs.items()}

            def frontier(name, sample):
                return [(mean([epochs[name][n][s] for s in sample]), mean([of_all[name][n][s] for s in sample])) for n in counts]

            def ratio(name, point, sample):
                own = frontier("Plumb promote", sample)[point]
                other = at_regret(frontier(name, sample), own[1])
                return float("inf") if other is None else other / own[0]
            random_ = random.Random(21)
            samples = [random_.choices(range(seeds), k=seeds) for _ in range(400)]
            for point, n in enumerate(counts):
                if n < 50:
                    continue
                e, r = frontier("Plumb promote", range(seeds))[point]
                line = {"bench": "asha", "case": f"epochs at equal regret, {n} candidates of Plumb's, {workers} workers", "regret_of_400": round(r, 5), "Plumb promote": round(e, 1)}
                for name in ("Plumb stop", "Ray Tune", "Optuna"):
                    other = at_regret(frontier(name, range(seeds)), r)
                    ratios = sorted(ratio(name, point, sample) for sample in samples)
                    low, high = ratios[int(0.025 * len(ratios))], ratios[int(0.975 * len(ratios)) - 1]
                    line[name] = other and round(other, 1)
                    line[f"{name} / ours"] = [v if v == float("inf") else round(v, 3) for v in (ratio(name, point, range(seeds)), low, high)]
                    if name != "Plumb stop":
                        ok = ok and low >= 1
                print(json.dumps(line).replace("Infinity", '"inf"'))
    if args.real:
        n = 50
        real = peer(python, "ray-real", args.real, [n], 4)[n]
        virtual = peer(python, "ray", args.real, [n], 4)[n]
        print(json.dumps({"bench": "asha", "case": f"Ray Tune for real, {n} candidates, 4 workers", "epochs": [e for e, _, _ in real],
                          "epochs_in_virtual_time": [e for e, _, _ in virtual], "same_pick": sum(a[1] == b[1] for a, b in zip(real, virtual)),
                          "n": args.real}))
    print(json.dumps({"bench": "asha", "case": "with promotion no more epochs than either peer at equal regret, from 50 candidates on", "holds": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
