#!/usr/bin/env python3
"""The planner against reality: seconds and peak memory of shapes that the calibration never ran.

  script/bench planner [--shapes 20] [--calibrate 16] [--flops 2e11] [--seed 1] [--keep FOLDER]

Draws shapes (depth, width, batch, context, MLP), calibrates on the extreme ones of them, and predicts and then trains
others with `plumb`, two at a time on two cores. Every shape is printed with both figures. Processor seconds are those of
steps and evaluations as the trainer counts them, and steady on a machine that others use; wall seconds are of the whole
attempt, and mean something where `wall by processor` is near 1. Needs a prepared corpus: plumb data prepare python-docs-en.
"""
import argparse
import json
import os
import pathlib
import sqlite3
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLUMB = pathlib.Path(os.environ.get("PLUMB_BUILD", ROOT / "build" / "release")) / "bin" / "plumb"
FIELDS = ["model.n_layers", "model.d_model", "model.d_ff", "data.seq_len", "train.batch_tokens"]
DRAWN = """sweep: drawn
trial:
  model: {{head_dim: 16}}
  data: {{corpus: {corpus}, tokenizer: bytes}}
  train: {{flops: {flops}, lr: 2e-3, warmup_fraction: 5%}}
  eval: {{points: 4, tokens: 8192, final_tokens: 65536, train_tokens: 8192}}
axes:
  model.n_layers: [1, 2, 3, 4, 6, 8, 12]
  model.d_model: [32, 48, 64, 96, 128, 192, 256]
  model.d_ff: [128, 192, 256, 384, 512, 768]
  data.seq_len: [32, 64, 128]
  train.batch_tokens: [512, 1024, 2048]
where: [d_ff <= 4 * d_model, d_ff >= 2 * d_model]
search: {{random: {{trials: {n}, seed: {seed}}}}}
allow: [more_than_one_epoch]
"""


def plumb(*args, **kwargs):
    done = subprocess.run([PLUMB, *map(str, args)], text=True, stdout=subprocess.PIPE, **kwargs)
    if done.returncode:
        sys.exit(f"plumb {' '.join(map(str, args))} ended with status {done.returncode}\n{done.stdout}")
    return done.stdout


def quantile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(p * len(values)))]


def shape_of(config):
    """Of a canonical config, which leaves out what is at its default."""
    default = {"n_layers": 4, "d_model": 128, "seq_len": 128, "batch_tokens": 4096}
    parts = [f.split(".") for f in FIELDS]
    return tuple(config.get(section, {}).get(name, default.get(name)) for section, name in parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=int, default=20)
    parser.add_argument("--calibrate", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=1, help="of each calibrated shape")
    parser.add_argument("--flops", default="2e11", help="of each trial")
    parser.add_argument("--corpus", default="python-docs-en")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", help="leave the files in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(arguments.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        run(arguments, folder)


def run(arguments, folder):
    db = folder / "plumb.db"
    drawn = folder / "drawn.yaml"
    drawn.write_text(DRAWN.format(n=3 * (arguments.shapes + arguments.calibrate), **vars(arguments)))
    load = os.getloadavg()[0]
    plumb("sweep", "plan", drawn, "--db", db, "--calibrate", "--calibrate-shapes", arguments.calibrate,
          "--calibrate-seconds", arguments.seconds, "-o", "json")
    cells = json.loads(plumb("sweep", "plan", drawn, "--db", db, "-o", "json"))["cells"]
    calibrated = {shape_of(r["config"]) for r in json.loads((folder / "plumb.db.calibration.json").read_text())["runs"]}
    fresh = [tuple(c["axes"][f] for f in FIELDS) for c in cells]
    fresh = [s for s in fresh if s not in calibrated][:arguments.shapes]
    assert len(fresh) == arguments.shapes and not set(fresh) & calibrated

    text = drawn.read_text()
    points = ", ".join("{" + ", ".join(f"{f}: {v}" for f, v in zip(FIELDS, s)) + "}" for s in fresh)
    held_out = folder / "held-out.yaml"
    held_out.write_text(text[:text.index("axes:")].replace("drawn", "held-out") +
                        f"axes:\n  shape: {{points: [{points}]}}\nallow: [more_than_one_epoch]\n")
    planned = {c["name"]: c for c in json.loads(plumb("sweep", "plan", held_out, "--db", db, "-o", "json"))["cells"]}
    assert all(c["seconds"]["basis"] == "calibrated" for c in planned.values())
    plumb("demo", "--sweep", held_out, "--dir", folder / "run", "--slots", 2)

    found = sqlite3.connect(next((folder / "run").glob("*.db")))
    rows = found.execute(
        "SELECT c.name, a.summary_json, (a.end_time_us - a.start_time_us) / 1e6 FROM attempt a JOIN stage g ON g.id = a.stage_id "
        "JOIN sweep_trial s ON s.trial_id = g.trial_id JOIN cell c ON c.id = s.cell_id "
        "WHERE g.kind = 'pretrain' AND a.outcome = 'succeeded' ORDER BY s.idx").fetchall()
    assert len(rows) == arguments.shapes, f"{len(rows)} of {arguments.shapes} trials succeeded"
    print(f"{'depth x width, d_ff, context, batch':38}{'predicted s':>12}{'cpu s':>8}{'error':>8}{'whole s':>9}{'wall s':>8}{'error':>8}"
          f"{'wall/cpu':>9}{'predicted MiB':>15}{'MiB':>7}{'error':>8}")
    seconds, walls, memory, busy = [], [], [], []
    for name, summary, attempt in rows:
        cell, spent = planned[name], json.loads(summary)
        axes = [cell["axes"][f] for f in FIELDS]
        seconds.append(cell["training_seconds"] / spent["cpu_seconds"] - 1)
        walls.append(cell["seconds"]["value"] / attempt - 1)
        memory.append(cell["memory_bytes"]["value"] / spent["peak_bytes"] - 1)
        busy.append(spent["wall_seconds"] / spent["cpu_seconds"])
        what = f"{axes[0]} x {axes[1]}, {axes[2]}, {axes[3]}, {axes[4]}"
        print(f"{what:38}{cell['training_seconds']:12.2f}{spent['cpu_seconds']:8.2f}{seconds[-1]:+8.1%}{cell['seconds']['value']:9.2f}"
              f"{attempt:8.2f}{walls[-1]:+8.1%}{busy[-1]:9.2f}{cell['memory_bytes']['value'] / 2**20:15.0f}"
              f"{spent['peak_bytes'] / 2**20:7.0f}{memory[-1]:+8.1%}")
    case = f"{arguments.shapes} shapes after {arguments.calibrate}"
    for what, errors in (("processor seconds", seconds), ("wall seconds", walls), ("peak memory", memory)):
        size = [abs(e) for e in errors]
        print(json.dumps({"bench": "planner", "case": f"{case}: error of {what}", "ours": round(quantile(size, 0.5), 4), "peer": None,
                          "unit": "fraction, median", "p95": round(quantile(size, 0.95), 4), "max": round(max(size), 4), "ratio": None,
                          "ratio_min": None, "ratio_max": None, "n": len(size), "wall_by_processor": round(quantile(busy, 0.5), 2),
                          "load": round(load, 1)}))


if __name__ == "__main__":
    main()
