#!/usr/bin/env python3
"""A population under fire: kill -9 of trainers, workers and coordinator at random moments, on two workers with folders of their own.

At the end of each generation the worst member gives way to a fork of the best. Undisturbed on one machine and under fire on two, the same
members must be forked with the same values, and everything measured must be equal to the last bit: a fork has all of its parent's state, from
whichever machine, and nothing is decided twice or otherwise.

    population.py --bin BUILD/bin [--kills N] [--seed N] [--keep]
"""
import argparse
import json
import pathlib
import random
import subprocess
import tempfile
import time

from cluster import UNSTABLE, SweepCluster, check, run_under_fire, run_undisturbed
from corpus import write_corpus

LIMIT_SECONDS = 200
MEMBERS, STEPS, ENDS = 4, 600, (150, 300, 450)
SWEEP = f"""sweep: population
trial:
  model: {{preset: llama, d_model: 32, head_dim: 16, n_layers: 1}}
  data: {{corpus: source, tokenizer: bytes, seq_len: 32}}
  train: {{steps: {STEPS}, batch_tokens: 256, schedule: constant, warmup_steps: 10, log_every: 10}}
  eval: {{points: 2, tokens: 2048, train_tokens: 1024, final_tokens: 4096}}
  execution: {{threads: 1, checkpoint_steps: 40}}
axes: {{train.lr: {{log: [1e-4, 2e-2]}}, train.weight_decay: [0, 0.1, 0.2]}}
search: {{population: {{members: {MEMBERS}, seed: 2, every: 25%}}}}
allow: [more_than_one_epoch]
"""


def results(cluster):
    """Everything measured that is of the trial alone, by the name of its cell."""
    points = cluster.query(
        "SELECT c.name, s.name, s.layer, m.step, m.value FROM measurement m JOIN series s ON s.id = m.series_id JOIN stage g ON "
        "g.id = s.stage_id JOIN sweep_trial st ON st.trial_id = g.trial_id JOIN cell c ON c.id = st.cell_id ORDER BY 1, 2, 3, 4")
    stable = [p for p in points if not p[1].startswith(UNSTABLE) and not p[1].endswith("_per_s")]
    check(len(points) == len({p[:4] for p in points}), cluster, "a point is there twice")
    return stable, cluster.query(
        "SELECT c.name, d.split, d.document, d.nll FROM document_score d JOIN stage g ON g.id = d.stage_id JOIN sweep_trial st ON "
        "st.trial_id = g.trial_id JOIN cell c ON c.id = st.cell_id ORDER BY 1, 2, 3")


def forks(cluster):
    """What was decided at each end, without what a run has of its own (paths, digests)."""
    out = []
    for name, payload in cluster.query("SELECT name, payload_json FROM sweep_addition ORDER BY idx"):
        decided = json.loads(payload)
        out.append((name, [(f["member"], f["from"], f["step"], f["values"]) for f in decided["forks"]]))
    return out


def check_population(cluster):
    """What must hold by the rows of the database alone."""
    cells = cluster.query("SELECT c.idx, c.name, c.axes_json, c.flags_json, v.trial_id, v.state, v.step, v.branch_trial_id, v.branch_step FROM cell c "
                          "JOIN v_trial v ON v.cell_id = c.id ORDER BY c.idx")
    states = [c[5] for c in cells]
    check(states.count("succeeded") == MEMBERS and states.count("stopped") == len(ENDS) == len(cells) - MEMBERS, cluster, f"states {states}")
    by_trial = {c[4]: c for c in cells}
    looks = cluster.query("SELECT step, trial_idx, value FROM look ORDER BY seq")
    check([look[0] for look in looks] == sorted(list(ENDS) * MEMBERS), cluster, f"looks {looks}")
    for idx, name, axes_json, flags, trial, state, step, source, branch in cells:
        axes = json.loads(axes_json)
        check("search" in json.loads(flags), cluster, f"{name} is not flagged")
        check((axes["generation"] == 0) == (branch is None) and axes["generation"] <= len(ENDS), cluster, f"{name} began at {branch}")
        first = cluster.query(f"SELECT min(m.step) FROM measurement m JOIN series s ON s.id = m.series_id JOIN stage g ON g.id = s.stage_id WHERE g.trial_id = {trial}")
        check(first == [((branch or 0) + 10,)], cluster, f"{name} measured from {first}, began at {branch}")
        if branch is not None:
            check(branch == ENDS[axes["generation"] - 1], cluster, f"{name} began at {branch}")
            values = {at: value for s, at, value in looks if s == branch}
            check(values[by_trial[source][0]] == min(values.values()), cluster, f"{name} is a fork of {by_trial[source][1]}, not of the best: {values}")
        if state == "stopped":
            values = {at: value for s, at, value in looks if s == step}
            check(values[idx] == max(values.values()), cluster, f"{name} was stopped at {step}: {values}")
        # Its own rate from where it began, and a curve without a gap or a point twice.
        rates = cluster.query(f"SELECT DISTINCT m.value FROM measurement m JOIN series s ON s.id = m.series_id JOIN stage g ON g.id = s.stage_id "
                              f"WHERE g.trial_id = {trial} AND s.name = 'train/lr' AND m.step >= 10")
        check(rates == [(axes["train.lr"],)], cluster, f"{name} trained at {rates}")
        curve = [row[0] for row in cluster.query(f"SELECT step FROM v_curve WHERE trial_id = {trial} AND series = 'train/loss' ORDER BY step")]
        check(curve == list(range(10, step + 1, 10)), cluster, f"the curve of {name}: {curve}")
    check(cluster.query("SELECT count(*) FROM stage WHERE state = 'paused'") == [(0,)], cluster, "a stage is still paused")
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="plumb-e2e-"))
    deadline = time.monotonic() + LIMIT_SECONDS
    write_corpus(folder / "data")
    trainer = args.bin / "plumb-trainer"
    calm = SweepCluster(folder / "calm", args.bin, trainer, folder / "data", SWEEP, slots=2)
    fire = SweepCluster(folder / "fire", args.bin, trainer, folder / "data", SWEEP, slots=1, workers=2)
    try:
        begin = time.monotonic()
        run_undisturbed(calm, deadline)
        calm_seconds = time.monotonic() - begin
        kills = run_under_fire(fire, random.Random(args.seed), args.kills, (0.05, min(0.35, calm_seconds / args.kills)), deadline)
        check(sum(kills.values()) >= args.kills, fire, f"too few kills: {kills}; the sweep was over too soon")
        cells = check_population(calm)
        check_population(fire)
        check(forks(fire) == forks(calm), fire, f"decided under fire: {forks(fire)}, undisturbed: {forks(calm)}")
        ours, our_documents = results(fire)
        theirs, their_documents = results(calm)
        check(ours == theirs, fire, f"values differ: {sorted(set(ours) ^ set(theirs))[:6]}")
        check(our_documents == their_documents and our_documents, fire, "document scores differ")
        check(fire.query("PRAGMA integrity_check") == [("ok",)], fire, "the database is damaged")
        moved = fire.query("SELECT count(*) FROM (SELECT g.trial_id FROM attempt a JOIN stage g ON g.id = a.stage_id JOIN stage b ON b.id = g.branch_stage_id "
                           "JOIN attempt p ON p.stage_id = b.id WHERE a.number = 1 AND p.worker_id <> a.worker_id GROUP BY 1)")[0][0]
        # Who began from whom is shown.
        fork = next(c for c in cells if c[7] is not None)
        drawn = subprocess.run([str(args.bin / "plumb"), "trial", "lineage", str(fork[4]), "--db", str(calm.db)], capture_output=True, text=True)
        check(drawn.returncode == 0 and f"from step {fork[8]}: trial {fork[4]} *" in drawn.stdout, calm, f"lineage: {drawn.stdout}{drawn.stderr}")
        events = calm.query("SELECT count(*) FROM event WHERE kind = 'forked'")
        check(events == [(len(ENDS),)], calm, f"{events} forks told")
        print(f"{sum(kills.values())} kills {kills}, seed {args.seed}: {len(cells)} trials, {len(ours)} points and {len(our_documents)} document scores "
              f"bit-equal; {len(ENDS)} forks, {moved} of them of a parent that ran on the other machine too; undisturbed {calm_seconds:.1f} s\n{drawn.stdout}")
    finally:
        for cluster in (calm, fire):
            cluster.stop()
        if not args.keep:
            subprocess.run(["rm", "-rf", str(folder)])


if __name__ == "__main__":
    main()
