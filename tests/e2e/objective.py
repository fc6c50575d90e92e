#!/usr/bin/env python3
"""A sweep that is judged by what a later stage measures, more of it being better: its winners, who is stopped, views, figures, reuse.

Trainings and scores are commands, so that all values are known: the training itself likes a rate of 0.1, the score one of 0.3; beta2 0.9
scores worse than 0.95, whatever the seed. The server is killed with SIGKILL once meanwhile. Then two sweeps ask for the same trials: one calls
the same stage otherwise, one means another by the same name.

    objective.py --bin BUILD/bin [--python PYTHON] [--keep]
"""
import argparse
import json
import pathlib
import random
import subprocess
import tempfile
import time

from cluster import CommandLineCluster

SCRIPT = """
import json, math, os, sys, time
job = json.load(sys.stdin)
train, seed = job["config"]["train"], job["seed"]["init"]
if job["with"]["do"] == "train":
    lr = train.get("lr", 0.1)
    time.sleep(0.1)
    print(json.dumps({"step": job["steps"], "values": {s + "/loss": 2 + math.log10(lr / 0.1) ** 2 for s in ("tune", "val")}}))
    os.makedirs("keep")
    json.dump({"lr": lr, "beta2": train.get("beta2", 0.95)}, open("keep/state.json", "w"))
    print(json.dumps({"checkpoint": "keep", "step": job["steps"]}))
else:
    time.sleep(0.1)
    at = json.load(open(job["checkpoint"]["path"] + "/state.json"))
    right = 0.9 - 0.2 * abs(math.log10(at["lr"] / 0.3)) - (0.3 if at["beta2"] == 0.9 else 0) + 0.001 * (seed % 7)
    print(json.dumps({"values": {"score/right": right + job["with"].get("more", 0)}}))
"""

HEAD = "sweep: NAME\ntrial: {train: {steps: 10}}\naxes: {train.beta2: [0.9, 0.95]}\nreplicates: 6\n"
COMMAND = 'external: {command: ["PYTHON", "{script}"], script: "script.py", with: '
TUNED = HEAD + """tune: {train.lr: [0.03, 0.1, 0.3, 1]}
stop: {racing: {alpha: 20%, min_replicates: 2}}
stages:
  run: {COMMAND{do: train}}}
  score: {from: run, COMMAND{do: score}}}
  after: {from: score, COMMAND{do: score, more: 5}}}
objective: {stage: score, metric: score/right, goal: maximize}
"""
FIXED = HEAD.replace("steps: 10", "steps: 10, lr: 0.3") + """stages:
  FIRST: {COMMAND{do: train}}}
  SCORE: {from: FIRST, COMMAND{do: scoreMORE}}}
objective: {stage: SCORE, metric: score/right, goal: maximize}
"""


EDITED = TUNED.replace("stop: {racing: {alpha: 20%, min_replicates: 2}}\n", "").replace("[0.9, 0.95]", "[0.95]").replace("replicates: 6", "replicates: 2")


class Cluster(CommandLineCluster):
    def __init__(self, folder, plumb, python):
        super().__init__(folder, plumb, ("--slots", 2, "--allow-commands", "--trainer", "/bin/false", "--shared-checkpoints"))
        (folder / "script.py").write_text(SCRIPT)
        for name, text in (("tuned", TUNED), ("edited", EDITED.replace("steps: 10", "steps: 12")),
                           ("same", FIXED.replace("FIRST", "fit").replace("SCORE", "mark").replace("MORE", "")),
                           ("other", FIXED.replace("FIRST", "run").replace("SCORE", "score").replace("MORE", ", more: 1"))):
            (folder / f"{name}.yaml").write_text(text.replace("COMMAND", COMMAND).replace("PYTHON", python).replace("NAME", name))

    def values(self, sweep):
        """{(cell, replicate): objective} of replicates."""
        return {(c, r): v for c, r, v in self.query(f"SELECT cell, replicate, objective FROM v_trial WHERE sweep_id = {sweep} AND tune = 0")}


def right(beta2, seed, lr=0.3):
    import math
    return 0.9 - 0.2 * abs(math.log10(lr / 0.3)) - (0.3 if beta2 == 0.9 else 0) + 0.001 * (seed % 7)


def tuned(cluster, rng):
    cluster.ask("sweep", "submit", "tuned.yaml")
    time.sleep(rng.uniform(0.5, 3))
    cluster.server.kill()
    cluster.server.wait()
    cluster.start_server()
    cluster.wait_for("the end", lambda: cluster.states() == ["completed"])
    winners = dict(cluster.query("SELECT name, tuned_json FROM cell"))
    assert winners == {"beta2=0.9": '{"train.lr":0.3}', "beta2=0.95": '{"train.lr":0.3}'}, winners
    why = [d for (d,) in cluster.query("SELECT detail FROM event WHERE kind = 'sweep_extended' ORDER BY id")]
    assert len(why) == 2 and all("by the greatest mean score: score/right, 0." in d for d in why), why
    # Those that tuned have the way to the score, and nothing behind it.
    names = cluster.query("SELECT DISTINCT g.name FROM sweep_trial t JOIN stage g ON g.trial_id = t.trial_id WHERE t.tune = 1 ORDER BY 1")
    assert names == [("run",), ("score",)], names
    # The worse cell was stopped by what its first replicates scored; what had been given up does not follow.
    states = dict(cluster.query("SELECT cell || ' ' || state, count(*) FROM v_trial WHERE tune = 0 GROUP BY 1"))
    assert states.get("beta2=0.95 succeeded") == 6 and states.get("beta2=0.9 stopped", 0) >= 1, states
    reasons = [d for (d,) in cluster.query("SELECT detail FROM event WHERE kind = 'stopped'")]
    assert reasons and all("its cell is worse than cell 1 by 0.3 over" in d for d in reasons), reasons
    for (cell, replicate), value in cluster.values(1).items():
        beta2 = float(cell.split("=")[1])
        assert value is None and beta2 == 0.9 or abs(value - right(beta2, replicate)) < 1e-12, (cell, replicate, value)
    looks = cluster.query("SELECT value FROM look ORDER BY seq")
    assert all(v is None or 0.5 < v < 1 for (v,) in looks), looks
    # Trained elsewhere, a trial has its metrics all the same.
    assert cluster.query("SELECT count(*) FROM v_trial WHERE val_loss IS NULL AND train_state = 'succeeded'") == [(0,)]
    cells = {c: (n, mean) for c, n, mean in cluster.query("SELECT cell, n_objective, mean_objective FROM v_cell")}
    assert cells["beta2=0.95"][0] == 6 and abs(cells["beta2=0.95"][1] - sum(right(0.95, r) for r in range(6)) / 6) < 1e-12, cells
    assert cells["beta2=0.9"][1] is None, cells


def figures(cluster):
    shown = json.loads(cluster.ask("sweep", "show", 1, "-o", "json")[1])
    assert shown["objective"] == {"stage": "score", "metric": "score/right", "at": "last", "goal": "maximize"}, shown["objective"]
    assert "score: score/right, last, more is better" in cluster.ask("sweep", "show", 1)[1]
    plan = json.loads(cluster.ask("sweep", "plan", "tuned.yaml", "-o", "json")[1])
    assert plan["objective"] == {"stage": "score", "metric": "score/right", "at": "last", "goal": "maximize"}, plan["objective"]
    # The same trials once more, all of them to the end: sweep 2.
    compared = json.loads(cluster.ask("compare", 2, "--by", "train.beta2", "--baseline", "0.95", "-o", "json")[1])
    assert (compared["stage"], compared["metric"], compared["goal"]) == ("mark", "score/right", "maximize"), compared
    row, = [r for r in compared["comparisons"] if r["value"] == "beta2=0.9"]
    assert abs(row["difference"] + 0.3) < 1e-9 and row["n_value"] == 6, row
    text = cluster.ask("plot", "grid", "--sweep", 2)[1]
    assert "Highest mark: score right" in text and "beta2=0.95" in text and "higher is better" in text, text
    text = cluster.ask("plot", "curves", "--sweep", 2, "--series", "mark:score/right", "-o", "csv")[1]
    assert len(text.splitlines()) == 13, text
    text = cluster.ask("compare", 3, "--by", "train.beta2", "--metric", "run:val/loss")[1]
    assert "run: val loss" in text, text
    code, _, err = cluster.ask("compare", 3, "--by", "train.beta2", "--metric", "scor:score/right", expect=None)
    assert code != 0 and "in a stage scor" in err, err
    front = json.loads(cluster.ask("plot", "front", "--sweep", 3, "--of", "score:score/right,val/loss", "-o", "json")[1])
    assert [o["name"] for o in front["objectives"]] == ["score: score right", "val loss"], front


def reused(cluster):
    attempts = cluster.query("SELECT count(*) FROM attempt")[0][0]
    stopped = cluster.query("SELECT count(*) FROM stage WHERE state NOT IN ('succeeded') AND name IN ('run', 'score') AND trial_id NOT IN "
                            "(SELECT trial_id FROM sweep_trial WHERE tune = 1)")[0][0]
    cluster.ask("sweep", "submit", "same.yaml")
    cluster.wait_for("the end", lambda: cluster.states() == ["completed"] * 2)
    assert cluster.query("SELECT sum(shared) FROM sweep_trial WHERE sweep_id = 2") == [(12,)]
    after = cluster.query("SELECT count(*) FROM attempt")[0][0]
    assert after - attempts == stopped, f"{after - attempts} attempts for {stopped} stages that had been stopped"
    assert not cluster.query("SELECT 1 FROM stage WHERE name IN ('fit', 'mark')"), "it does the same, so it is the same"
    for (cell, replicate), value in cluster.values(2).items():
        assert abs(value - right(float(cell.split("=")[1]), replicate)) < 1e-12, (cell, replicate, value)

    cluster.ask("sweep", "submit", "other.yaml")
    cluster.wait_for("the end", lambda: cluster.states() == ["completed"] * 3)
    assert cluster.query("SELECT DISTINCT stages_json FROM sweep_trial WHERE sweep_id = 3") == [('{"score":"score-2"}',)]
    for (cell, replicate), value in cluster.values(3).items():
        assert abs(value - 1 - right(float(cell.split("=")[1]), replicate)) < 1e-12, (cell, replicate, value)
    for trial in json.loads(cluster.ask("trial", "list", "--sweep", 3, "-o", "json")[1]):
        assert trial["objective"] > 1.5, trial
    # A copy in another file means the same stages.
    cluster.ask("export", "sqlite", "copy.db", "--sweep", 3)
    with_copy = subprocess.run([cluster.plumb, "query", "--db", "copy.db", "SELECT min(objective) FROM v_trial", "-o", "csv"], capture_output=True,
                               text=True, cwd=cluster.folder, check=True).stdout
    assert float(with_copy.split()[-1]) > 1.5, with_copy


def edited(cluster, rng):
    """A tuned sweep gains a replicate and a cell: its winner stays, the new cell tunes first. The server is killed meanwhile."""
    cluster.ask("sweep", "submit", "edited.yaml")
    cluster.wait_for("the end", lambda: cluster.states() == ["completed"] * 4)
    before = cluster.query("SELECT trial_id, idx FROM sweep_trial WHERE sweep_id = 4 ORDER BY idx")
    assert len(before) == 6, before
    _, _, err = cluster.ask("sweep", "extend", 4, "--set", "tune.seeds=2", expect=None)
    assert "tune: stays as it is" in err, err
    _, _, err = cluster.ask("sweep", "extend", 4, "--set", "objective=val/loss", expect=None)
    assert "objective: stays score: score/right, last, more is better" in err, err
    cluster.ask("sweep", "extend", 4, "--replicates", 3, "--axis", "train.beta2=0.9")
    time.sleep(rng.uniform(0, 1.5))
    cluster.server.kill()
    cluster.server.wait()
    cluster.start_server()
    cluster.wait_for("the end", lambda: cluster.states() == ["completed"] * 4)
    assert cluster.query("SELECT trial_id, idx FROM sweep_trial WHERE sweep_id = 4 ORDER BY idx")[:6] == before
    counts = cluster.query("SELECT c.idx, c.name, t.tune, count(*), c.tuned_json FROM sweep_trial t JOIN cell c ON c.id = t.cell_id WHERE t.sweep_id = 4 "
                           "GROUP BY 1, 3 ORDER BY 1, 3")
    winner = '{"train.lr":0.3}'
    assert counts == [(0, "beta2=0.95", 0, 3, winner), (0, "beta2=0.95", 1, 4, winner), (1, "beta2=0.9", 0, 3, winner),
                      (1, "beta2=0.9", 1, 4, winner)], counts
    for (cell, replicate), value in cluster.values(4).items():
        assert abs(value - right(float(cell.split("=")[1]), replicate)) < 1e-12, (cell, replicate, value)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=lambda p: pathlib.Path(p).resolve(), required=True)
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.randrange(1 << 30)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="plumb-e2e-objective-"))
    cluster = Cluster(folder / "c", str(args.bin / "plumb"), args.python)
    begin = time.monotonic()
    try:
        cluster.start_server()
        cluster.start_worker()
        tuned(cluster, random.Random(seed))
        reused(cluster)
        figures(cluster)
        edited(cluster, random.Random(seed + 1))
        counts = cluster.query("SELECT state, count(*) FROM v_trial WHERE sweep_id = 1 AND tune = 0 GROUP BY 1")
        print(f"seed {seed}: winners, stops ({dict(counts)}), views, figures, reuse and an edit by the score; {time.monotonic() - begin:.0f} s")
    finally:
        cluster.stop()
        if not args.keep:
            subprocess.run(["rm", "-rf", str(folder)], check=False)


if __name__ == "__main__":
    main()
