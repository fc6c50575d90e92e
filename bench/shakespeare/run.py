#!/usr/bin/env python3
"""Character-level Shakespeare in nanoGPT's CPU configuration, on a plain PyTorch GPT and on the trainer's operations.

  script/bench shakespeare --text input.txt [--seeds 5] [--quick]

4 layers, 4 heads, width 128, context 64, batch 12, 2,000 iterations, no dropout; lr 1e-3 → 1e-4 cosine after 100 steps of
warm-up, beta2 0.99, decay 0.1, clip 1, no biases; the first 90 % train, the rest is the validation part, read whole at
context 64. Differences between the two sides: the trainer's LayerNorms keep a bias (from zero), its GELU is the tanh
form, and random numbers. The 90 % interval of the difference of means (Welch) has to lie within ±0.02.
"""
import argparse
import array
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def t_quantile(p, df):
    """Student's t by bisection on its distribution function, integrated by Simpson's rule."""
    scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)

    def cdf(x, n=2000):
        values = [(1 + (x * i / n) ** 2 / df) ** (-(df + 1) / 2) for i in range(n + 1)]
        return 0.5 + scale * x / n / 3 * (values[0] + values[-1] + 4 * sum(values[1:-1:2]) + 2 * sum(values[2:-1:2]))

    low, high = 0.0, 1000.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if cdf(middle) < p else (low, middle)
    return low


def welch(a, b, level):
    """Mean difference a − b and its two-sided interval."""
    va, vb = statistics.variance(a) / len(a), statistics.variance(b) / len(b)
    df = (va + vb) ** 2 / (va ** 2 / (len(a) - 1) + vb ** 2 / (len(b) - 1))
    difference = statistics.mean(a) - statistics.mean(b)
    half = t_quantile(0.5 + level / 2, df) * math.sqrt(va + vb)
    return difference, difference - half, difference + half


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True, help="the text file (tiny Shakespeare for the published figure)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="200 iterations and 2 seeds: shows that it runs, no more")
    arguments = parser.parse_args()
    seeds, steps = (2, 200) if arguments.quick else (arguments.seeds, 2000)
    if seeds < 2:
        raise SystemExit("--seeds: an interval needs at least 2")
    build = os.environ.get("PLUMB_BUILD", os.path.join(HERE, "..", "..", "build", "release"))
    program = os.path.join(build, "bin", "bench_shakespeare")
    if not os.path.exists(program):
        raise SystemExit(f"{program} is missing; build with the trainer and -DPLUMB_BENCH=ON")
    text = open(arguments.text, encoding="utf-8").read()
    ids = {c: i for i, c in enumerate(sorted(set(text)))}
    tokens = array.array("q", [ids[c] for c in text])
    cut = int(0.9 * len(tokens))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryDirectory() as folder:
        train, val = os.path.join(folder, "train"), os.path.join(folder, "val")
        for path, part in ((train, tokens[:cut]), (val, tokens[cut:])):
            with open(path, "wb") as file:
                part.tofile(file)
        common = [train, val, str(len(ids)), str(steps), "1", str(seeds)]
        commands = {"ours": [program], "peer": [sys.executable, os.path.join(HERE, "peer.py")]}
        running = {side: subprocess.Popen(c + common, stdout=subprocess.PIPE, text=True, env=environment)
                   for side, c in commands.items()}
        losses = {}
        for side, process in running.items():
            out, _ = process.communicate()
            if process.returncode:
                raise SystemExit(f"{side} ended with status {process.returncode}")
            losses[side] = [float(line.split()[1]) for line in out.splitlines()]
    ours, peer = losses["ours"], losses["peer"]
    difference, low, high = welch(ours, peer, 0.90)
    ratios = [p / o for p in peer for o in ours]
    print(json.dumps({
        "bench": "shakespeare", "case": f"nanogpt-cpu-{steps}-iterations", "ours": round(statistics.mean(ours), 4),
        "peer": round(statistics.mean(peer), 4), "unit": "nats/character",
        "ratio": round(statistics.mean(peer) / statistics.mean(ours), 4), "ratio_min": round(min(ratios), 4),
        "ratio_max": round(max(ratios), 4), "n": seeds, "difference": round(difference, 4),
        "interval90": [round(low, 4), round(high, 4)], "within_0.02": -0.02 <= low and high <= 0.02,
        "ours_each": ours, "peer_each": peer}))


if __name__ == "__main__":
    main()
