#!/usr/bin/env python3
"""A sweep under fire: kill -9 of trainer, its other ranks, worker and coordinator at random moments, at least --kills times in all.

With --mode tune each cell chooses its learning rate and then runs its replicates, the same ones under fire.
With --mode asha most of a cell's trials end at a rung; which ones depends on the order in which they came there, so that a trial is
compared as far as it went in both.
With --mode cooled the same under wsd, where each rung is a run of its own that begins in the trunk of the one before; the undisturbed sweep
shares no trunk, so each of its runs begins at step 0.
With --mode edit the sweep under fire begins with a sixth of its trials and gains the others by two edits, each asked for until it is
answered; undisturbed it has them all from the start.
With --mode gangs every trial runs under fire on two workers of one slot each, undisturbed on one worker of two.

The sweep must complete, its measurements must be as many as the closed form says, none twice, and every value (times and
memory apart) equal to the last bit to that of the same sweep run undisturbed. The random moments follow from --seed.

    kill_everything.py --bin BUILD/bin --mode noop|edit|train|tune|asha|cooled|ranks|gangs [--seed N] [--kills N] [--keep]
"""
import argparse
import pathlib
import random
import subprocess
import tempfile
import time

from cluster import SweepCluster, check, results, run_under_fire, run_undisturbed
from corpus import write_corpus

LIMIT_SECONDS = 150

NOOP_SWEEP = """sweep: under-fire
stages:
  run: {noop: {seconds: 0.3, records: 2}}
  after: {noop: {after: run, seconds: 0.1, records: 3}}
replicates: 60
"""
EDIT_SWEEP = NOOP_SWEEP.replace("replicates: 60", "axes: {train.lr: [0.1, 0.2]}\nreplicates: 30")
EDITS = [EDIT_SWEEP.replace(", 0.2", "").replace("replicates: 30", "replicates: 10"), EDIT_SWEEP.replace(", 0.2", ""), EDIT_SWEEP]
TRAIN_SWEEP = """sweep: under-fire
trial:
  model: {preset: llama, d_model: 32, head_dim: 16}
  data: {corpus: source, tokenizer: bytes, seq_len: 32}
  train: {steps: 2500, batch_tokens: 256, lr: 3e-3, log_every: 10}
  eval: {points: 4, tokens: 2048, train_tokens: 1024, final_tokens: 4096}
  execution: {threads: 1, checkpoint_steps: 40}
axes: {model.n_layers: [1, 2, 3]}
replicates: 2
allow: [more_than_one_epoch]
"""
# Which trials there are follows from the results of the first ones.
TUNE_SWEEP = TRAIN_SWEEP.replace("steps: 2500", "steps: 900").replace(", lr: 3e-3", "").replace("[1, 2, 3]", "[1, 2]") + """
tune: {train.lr: [1e-3, 3e-3], seeds: 2, extend: 1}
"""
ASHA_SWEEP = TUNE_SWEEP.replace("[1e-3, 3e-3], seeds: 2, extend: 1",
                                "{log: [1e-4, 3e-2], points: 7}, stop: {asha: {rungs: [10%, 40%], keep: 1/3, mode: promote}}")
COOLED_SWEEP = ASHA_SWEEP.replace("steps: 900", "steps: 900, schedule: wsd, decay_fraction: 20%")
# Every trial on two processes, of which either may be the victim.
RANKS_SWEEP = TRAIN_SWEEP.replace("steps: 2500", "steps: 700, ranks: 2").replace("replicates: 2", "replicates: 1")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--mode", choices=("noop", "edit", "train", "tune", "asha", "cooled", "ranks", "gangs"), required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=21)
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    args = parser.parse_args()
    trainer = args.bin / ("plumb-noop-trainer" if args.mode in ("noop", "edit") else "plumb-trainer")
    sweep = {"noop": NOOP_SWEEP, "edit": EDIT_SWEEP, "train": TRAIN_SWEEP, "tune": TUNE_SWEEP, "asha": ASHA_SWEEP, "cooled": COOLED_SWEEP, "ranks": RANKS_SWEEP, "gangs": RANKS_SWEEP}[args.mode]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="plumb-e2e-"))
    deadline = time.monotonic() + LIMIT_SECONDS
    rng = random.Random(args.seed)
    write_corpus(folder / "data")
    apart = sweep.replace("execution: {", "execution: {share_trunk: false, ") if args.mode == "cooled" else sweep
    calm = SweepCluster(folder / "calm", args.bin, trainer, folder / "data", apart, slots=2)
    gangs = args.mode == "gangs"
    edits = EDITS if args.mode == "edit" else [sweep]
    fire = SweepCluster(folder / "fire", args.bin, trainer, folder / "data", edits[0], slots=1 if gangs else 2, workers=2 if gangs else 1)
    try:
        begin = time.monotonic()
        run_undisturbed(calm, deadline)
        calm_seconds = time.monotonic() - begin
        begin = time.monotonic()
        # On a fast machine the sweep is short: the kills have to fit into about half of it.
        pause = (0.05, min(0.35, calm_seconds / args.kills))
        kills = run_under_fire(fire, rng, args.kills, pause, deadline, edits[1:])
        fire_seconds = time.monotonic() - begin

        trials, = fire.query("SELECT count(*), sum(state = 'succeeded') FROM trial")
        asha = args.mode in ("asha", "cooled")
        check((trials[0] == trials[1] or asha) and trials[0] > 0, fire, f"{trials[1]} of {trials[0]} trials succeeded")
        check(sum(kills.values()) >= args.kills and min(kills.values()) >= args.kills // (len(kills) + 1), fire,
              f"too few kills: {kills}; the sweep was over too soon")
        measured, = fire.query("SELECT count(*), count(DISTINCT series_id * 1000000000 + step) FROM measurement")
        check(measured[0] == measured[1], fire, "a (series, step) is there twice")
        # One point and its records for each of a no-op trial's two stages.
        noop = args.mode in ("noop", "edit")
        expected = 2 * trials[0] if noop else closed_form(args.bin, fire)
        recorded, = fire.query("SELECT count(*) FROM record")[0]
        check(recorded == (5 * trials[0] if noop else 0), fire, f"{recorded} records")
        check(measured[0] == expected or asha, fire, f"{measured[0]} measurements, the closed form says {expected}")
        if gangs:
            alone = fire.query("SELECT count(*) FROM attempt a WHERE NOT EXISTS (SELECT 1 FROM attempt_member m "
                               "WHERE m.stage_id = a.stage_id AND m.number = a.number)")
            check(alone == [(0,)], fire, "an attempt was no gang")
        if args.mode == "edit":
            check(trials[0] == 60 and fire.query("SELECT trials, cursor FROM sweep") == [(60, 60)], fire, f"{trials[0]} trials, not 60")
            check(fire.query("SELECT trials FROM sweep_addition ORDER BY idx") == [(20,), (30,)], fire, "an edit was lost or held twice")
            check(fire.query("SELECT count(*) FROM cell") == [(2,)], fire, "not two cells")
        if args.mode == "tune":
            chosen = "SELECT c.name, c.flags_json, c.tuned_json FROM cell c ORDER BY c.idx"
            check(fire.query(chosen) == calm.query(chosen) and '"train.lr"' in fire.query(chosen)[0][2], fire,
                  f"chosen under fire: {fire.query(chosen)}, undisturbed: {calm.query(chosen)}")
            parts = "SELECT c.idx, st.replicate, st.tune, t.key FROM sweep_trial st JOIN cell c ON c.id = st.cell_id JOIN trial t ON t.id = st.trial_id ORDER BY 1, 3, 2, 4"
            check(fire.query(parts) == calm.query(parts), fire, "its trials differ")
            check(all(fire.query(f"SELECT count(*) FROM sweep_trial st JOIN cell c ON c.id = st.cell_id WHERE tune = 0 AND c.idx = {i}")
                      == [(2,)] for i in range(2)), fire, "a cell has not two replicates")
        check(fire.query("PRAGMA integrity_check") == [("ok",)], fire, "the database is damaged")
        if args.mode == "asha":
            check_asha(fire)
        if args.mode == "cooled":
            check_cooled(fire)
            check(calm.query("SELECT count(*) FROM stage WHERE branch_step > 0") == [(0,)], fire, "the undisturbed runs shared a trunk")
            first = "SELECT t.key FROM trial t WHERE t.steps = 90 ORDER BY 1"
            check(fire.query(first) == calm.query(first), fire, "the runs to the first rung differ")
        calm_points, calm_documents, calm_records = results(calm)
        fire_points, fire_documents, fire_records = results(fire)
        for series in sorted(set(calm_points) | set(fire_points)):
            if asha and (series not in calm_points or series not in fire_points):
                continue
            far = min(points[series][-1][0] for points in (calm_points, fire_points)) if asha else None
            if asha:  # beside the scheduled evaluations there are those at the rungs where it paused
                for points in (calm_points, fire_points):
                    points[series] = [(step, value) for step, value in points[series] if step <= far]
                common = {step for step, _ in calm_points[series]} & {step for step, _ in fire_points[series]}
                for points in (calm_points, fire_points):
                    points[series] = [(step, value) for step, value in points[series] if step in common]
            differ = set(calm_points.get(series, [])) ^ set(fire_points.get(series, []))
            check(not differ, fire, f"{series} differs: {sorted(differ, key=str)[:6]}")
        if asha:
            calm_documents = fire_documents = []
        check(calm_documents == fire_documents, fire, "document scores differ")
        check(calm_records == fire_records, fire, "records differ")
        attempts = fire.query("SELECT outcome, count(*) FROM attempt GROUP BY outcome ORDER BY 1")
        print(f"{sum(kills.values())} kills {kills}, seed {args.seed}: {trials[0]} trials completed, {measured[0]} measurements "
              f"as the closed form says, {len(calm_documents)} document scores, all values bit-equal; attempts {dict(attempts)}; "
              f"undisturbed {calm_seconds:.1f} s, under fire {fire_seconds:.1f} s")
    finally:
        for cluster in (calm, fire):
            cluster.stop()
        if not args.keep:
            subprocess.run(["rm", "-rf", str(folder)])


def check_cooled(cluster):
    """Of 7 values in each of two cells: runs of 90 steps; of those that are among the best a third, of 360; the last ones whole."""
    runs = {}
    for cell, tune, state, steps, branch in cluster.query(
            "SELECT c.idx, st.tune, t.state, t.steps, g.branch_step FROM sweep_trial st JOIN cell c ON c.id = st.cell_id "
            "JOIN trial t ON t.id = st.trial_id JOIN stage g ON g.trial_id = t.id"):
        check(state == "succeeded", cluster, f"a run of cell {cell} is {state}")
        runs.setdefault((cell, tune, steps), []).append(branch)
    for cell in (0, 1):
        rungs = [runs.get((cell, 1, steps), []) for steps in (90, 360, 900)]
        n = [len(r) for r in rungs]
        check(n[0] == 7 and 2 <= n[1] < 7 and 1 <= n[2] <= n[1], cluster, f"runs of cell {cell}: {n}")
        check([set(r) for r in rungs] == [{0}, {72}, {288}], cluster, f"its runs begin at {rungs}")
        check(len(runs.get((cell, 0, 900), [])) == 2, cluster, f"cell {cell} has not two replicates")
    looks = cluster.query("SELECT step, count(*) FROM look WHERE step > 0 GROUP BY step ORDER BY step")
    check(looks == [(steps, sum(len(runs[cell, 1, steps]) for cell in (0, 1))) for steps in (90, 360, 900)], cluster, f"looks {looks}")


def check_asha(cluster):
    """What must hold of successive halving however the trials came: by the rows of the database alone."""
    cells = {}
    for cell, tune, state, step, until, key in cluster.query(
            "SELECT c.idx, st.tune, t.state, g.step, g.until_step, t.key FROM sweep_trial st JOIN cell c ON c.id = st.cell_id "
            "JOIN trial t ON t.id = st.trial_id JOIN stage g ON g.trial_id = t.id"):
        cells.setdefault(cell, {0: [], 1: []})[tune].append((state, step, until, key))
    looks = {}
    for cell, step, value in cluster.query(
            "SELECT c.idx, l.step, l.value FROM look l JOIN sweep_trial st ON st.sweep_id = l.sweep_id AND st.idx = l.trial_idx "
            "JOIN cell c ON c.id = st.cell_id"):
        looks.setdefault((cell, step), []).append(value)
    check(len(cells) == 2, cluster, f"{len(cells)} cells")
    for cell, parts in cells.items():
        check(len(parts[1]) == 7 and len(parts[0]) == 2, cluster, f"cell {cell} has {len(parts[1])} tune trials, {len(parts[0])} replicates")
        check(all(state == "succeeded" for state, *_ in parts[0]), cluster, f"a replicate of cell {cell} did not succeed")
        check({state for state, *_ in parts[1]} <= {"succeeded", "stopped"}, cluster, f"tune trials of cell {cell}: {parts[1]}")
        check(all(step == until for state, step, until, _ in parts[1] if state == "stopped"), cluster, "a trial stopped off its rung")
        check(len(looks[cell, 90]) == 7, cluster, f"rung 1 of cell {cell} saw {len(looks[cell, 90])} trials")
        # Of the 7 at rung 1 the best 2 of the moment go on: between 2 and, when each is better than all before it, more.
        went_on = len(looks.get((cell, 360), []))
        check(2 <= went_on < 7, cluster, f"{went_on} of 7 went on from rung 1 of cell {cell}")
        ends = sum(state == "succeeded" for state, *_ in parts[1])
        check(1 <= ends <= went_on, cluster, f"{ends} tune trials of cell {cell} came to their end")
    orphan = cluster.query("SELECT count(*) FROM stage WHERE state = 'paused'")
    check(orphan == [(0,)], cluster, "a stage is still paused")


def closed_form(bin_dir, cluster):
    """Measurements of all trials as trainer/measure_plan.h counts them."""
    total = 0
    for config, kind in cluster.query("SELECT t.config_json, g.kind FROM stage g JOIN trial t ON t.id = g.trial_id"):
        out = subprocess.run([str(bin_dir / "plumb-e2e"), "count", kind], input=config, stdout=subprocess.PIPE, text=True,
                             check=True).stdout
        total += int(out)
    return total


if __name__ == "__main__":
    main()
