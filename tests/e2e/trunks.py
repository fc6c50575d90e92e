#!/usr/bin/env python3
"""Six token budgets of one cell, each twice the last, with a cooldown of a tenth: computed with a trunk in common they cost at most
1.15 times the longest, and give what each gives from scratch, to the last bit. A later, longer budget goes on from them, on another machine;
where their checkpoints are gone everywhere it begins by itself.

With --kills N the sweep that shares is under fire (kill -9 of trainer, worker and coordinator), and only the cost may be more.

    trunks.py --bin BUILD/bin [--kills N] [--seed N] [--keep]
"""
import argparse
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time

from cluster import SweepCluster, check, results, run_under_fire, run_undisturbed
from corpus import write_corpus

LIMIT_SECONDS = 280
FIRST, BUDGETS = 20, 6
SWEEP = """sweep: budgets
trial:
  model: {preset: llama, d_model: 32, head_dim: 16, n_layers: 2}
  data: {corpus: source, tokenizer: bytes, seq_len: 32}
  train: {batch_tokens: 256, lr: 3e-3, schedule: wsd, decay_fraction: 0.1, warmup_steps: 10, log_every: 10}
  eval: {points: 4, tokens: 2048, train_tokens: 1024, final_tokens: 4096}
  execution: {threads: 1, checkpoint_steps: 25, share_trunk: SHARE}
axes: {train.tokens: [TOKENS]}
replicates: REPLICATES
allow: [more_than_one_epoch]
"""


def sweep(budgets, share, replicates=1):
    tokens = ", ".join(str(256 * steps) for steps in budgets)
    return SWEEP.replace("TOKENS", tokens).replace("SHARE", share).replace("REPLICATES", str(replicates))


def again(cluster, text, request, deadline):
    """A further sweep on the same cluster, until it has completed."""
    file = cluster.folder / f"{request}.yaml"
    file.write_text(text)
    cluster.submit(file, request)
    cluster.wait_for(f"sweep {request}", lambda: cluster.query(f"SELECT state FROM sweep WHERE request_id = '{request}'") == [("completed",)],
                     deadline - time.monotonic())


def compare(shared, scratch):
    """What the trials measured themselves, against the same trials from scratch. Returns (points, trials) that were compared."""
    ours, our_documents, _ = results(shared)
    theirs, their_documents, _ = results(scratch)
    compared = 0
    keys = {key for key, _, _ in ours}
    check(keys == {key for key, _, _ in theirs}, shared, "not the same trials")
    for series, points in ours.items():
        whole = dict(theirs[series])
        for step, value in points:
            check(step in whole and whole[step] == value, shared, f"{series} at {step}: {value}, from scratch {whole.get(step)}")
        check(points[-1] == theirs[series][-1], shared, f"{series} does not end as from scratch")
        compared += len(points)
    check(our_documents == their_documents and our_documents, shared, "document scores differ")
    # With those of the trunk the curve is whole: at each step where both have a point they are equal.
    curve = ("SELECT t.key || v.series, v.layer, v.step, v.value FROM v_curve v JOIN trial t ON t.id = v.trial_id WHERE "
             "v.series IN ('train/loss', 'val/loss', 'train/grad_norm') ORDER BY 1, 2, 3")
    mine, whole = shared.query(curve), scratch.query(curve)
    at = [row[:3] for row in mine]
    check(len(at) == len(set(at)), shared, "a point of a curve is there twice")
    mine, whole = {row[:3]: row[3] for row in mine}, {row[:3]: row[3] for row in whole}
    check(all(mine[p] == whole[p] for p in set(mine) & set(whole)), shared, "a curve differs")
    logged = [p for p in whole if p[0].endswith("train/loss") and p[2] % 10 == 0]
    check(all(p in mine for p in logged), shared, "a curve has a gap")
    return compared, len(keys)


def lose_machine(cluster, name):
    """The worker and all that lies in its folder; one of another name takes over."""
    worker = cluster.workers.pop()
    worker.terminate()
    worker.wait(30)
    for pid in cluster.trainers():
        os.kill(pid, signal.SIGKILL)
    for folder in cluster.folder.glob("w*"):
        shutil.rmtree(folder)
    cluster.workers.append(cluster.spawn("worker", cluster.address, cluster.folder / name, cluster.slots, cluster.trainer, cluster.data, name))


def steps_computed(cluster):
    return cluster.query("SELECT sum(g.step - a.start_step) FROM stage g JOIN attempt a ON a.stage_id = g.id")[0][0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="plumb-e2e-"))
    deadline = time.monotonic() + LIMIT_SECONDS
    write_corpus(folder / "data")
    budgets = [FIRST << i for i in range(BUDGETS)]
    replicates = 2 if args.kills else 1
    trainer = args.bin / "plumb-trainer"
    scratch = SweepCluster(folder / "scratch", args.bin, trainer, folder / "data", sweep(budgets, "false", replicates), slots=2)
    shared = SweepCluster(folder / "shared", args.bin, trainer, folder / "data", sweep(budgets, "true", replicates), slots=2)
    try:
        run_undisturbed(scratch, deadline)
        if args.kills:
            kills = run_under_fire(shared, random.Random(args.seed), args.kills, (0.05, 0.3), deadline)
        else:
            run_undisturbed(shared, deadline)
        points, trials = compare(shared, scratch)
        check(trials == BUDGETS * replicates, shared, f"{trials} trials")
        branches = shared.query("SELECT t.steps, v.branch_step, v.trunk_trial_id, v.replicate FROM v_trial v JOIN trial t ON t.id = v.trial_id "
                                "ORDER BY v.replicate, t.steps")
        expected = [(s, None if s == FIRST else round(0.9 * s / 2)) for s in budgets] * replicates
        check([b[:2] for b in branches] == expected, shared, f"branches {branches}")
        check(len({b[2] for b in branches}) == replicates and len({b[2:] for b in branches}) == replicates, shared,
              f"each replicate has a trunk of its own: {branches}")
        if args.kills:
            print(f"{sum(kills.values())} kills {kills}, seed {args.seed}: {trials} trials on {replicates} trunks, {points} points, all bit-equal "
                  f"to those from scratch; {steps_computed(shared)} steps")
            return
        cost, alone = steps_computed(shared), steps_computed(scratch)
        check(alone == sum(budgets), scratch, f"from scratch {alone} steps")
        check(cost <= 1.15 * budgets[-1], shared, f"{cost} steps are {cost / budgets[-1]:.3f} times the longest")
        # A later sweep: longer, and one in between whose trunk is longer than what the shorter ones left.
        longer, between = 2 * budgets[-1], budgets[-1] - FIRST
        lose_machine(shared, "w-second")  # what it left is at the server
        for cluster, share in ((shared, "true"), (scratch, "false")):
            again(cluster, sweep([longer, between], share), "r2", deadline)
        compare(shared, scratch)
        starts = dict(shared.query("SELECT t.steps, a.start_step FROM attempt a JOIN stage g ON g.id = a.stage_id JOIN trial t ON t.id = g.trial_id"))
        check(starts[longer] == round(0.9 * budgets[-1]) and starts[between] == round(0.9 * budgets[-2]), shared, f"starts {starts}")
        # A warm start that changes nothing scores as what it began with does, and is another trial.
        source, loss = shared.query(f"SELECT v.trial_id, v.test_loss FROM v_trial v WHERE v.steps = {budgets[0]}")[0]
        warm = sweep([2], "true").replace("lr: 3e-3", "lr: 0").replace("warmup_steps: 10", "warmup_steps: 0")
        again(shared, warm, "r3", deadline)
        again(shared, warm.replace("  eval:", f"  init: {{trial: {source}}}\n  eval:"), "r4", deadline)
        fresh, began = shared.query("SELECT v.test_loss FROM v_trial v WHERE v.steps = 2 ORDER BY v.sweep_id")
        check(began == (loss,) and fresh != began, shared, f"a warm start has {began}, what it began with {loss}, fresh weights {fresh}")
        # Checkpoints that are nowhere any more cost work, and nothing else.
        lose_machine(shared, "w-third")
        shared.server.terminate()
        shared.server.wait(30)
        shutil.rmtree(f"{shared.db}.blobs")
        shared.start_server()
        for cluster, share in ((shared, "true"), (scratch, "false")):
            again(cluster, sweep([3 * FIRST], share), "r5", deadline)
        gone = shared.query("SELECT a.start_step, a.outcome FROM attempt a JOIN stage g ON g.id = a.stage_id JOIN trial t ON t.id = g.trial_id "
                            f"WHERE t.steps = {3 * FIRST} ORDER BY a.number")
        check(gone == [(36, "preempted"), (18, "preempted"), (0, "succeeded")], shared, f"attempts {gone}")
        ends = [cluster.query(f"SELECT test_loss, val_loss, branch_step FROM v_trial WHERE steps = {3 * FIRST}") for cluster in (shared, scratch)]
        check(ends[0] == ends[1] and ends[0][0][2] is None, shared, f"ends {ends}")
        print(f"{BUDGETS} budgets of {budgets[0]} to {budgets[-1]} steps: {cost} steps, {cost / budgets[-1]:.3f} times the longest "
              f"(from scratch {alone / budgets[-1]:.3f}); {points} points and all document scores bit-equal; a budget of {longer} began at step "
              f"{starts[longer]}")
    finally:
        for cluster in (scratch, shared):
            cluster.stop()
        if not args.keep:
            subprocess.run(["rm", "-rf", str(folder)])


if __name__ == "__main__":
    main()
