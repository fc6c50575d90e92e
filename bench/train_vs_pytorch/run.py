#!/usr/bin/env python3
"""Tokens per second of the trainer against eager PyTorch: same shapes, tokens, torch, one thread each, interleaved.

  script/bench train_vs_pytorch [--quick] [--case SUBSTRING] [--repeats N]

One JSON line a case. `ratio` is the median over paired repeats (ours, peer, ours, peer, …) of peer seconds ÷ our seconds:
above 1, ours is faster. `*_cpu` are tokens per second of processor time, which others on the machine disturb less.
"""
import argparse
import array
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SMALL = {"d": 64, "layers": 2, "heads": 4, "seq_len": 64, "batch": 16, "vocab": 256, "steps": 40}
LARGE = {"d": 256, "layers": 4, "heads": 4, "seq_len": 256, "batch": 8, "vocab": 4096, "steps": 2}
FFN = {("llama", 64): 176, ("llama", 256): 688, ("gpt2", 64): 256, ("gpt2", 256): 1024}


def cases():
    for size, shape in (("small", SMALL), ("large", LARGE)):
        for preset in ("llama", "gpt2"):
            yield f"{preset}-{size}", preset, shape, 1
    for preset in ("llama", "gpt2"):
        yield f"{preset}-small-K8", preset, {**SMALL, "steps": 5}, 8
    yield "llama-large-K8", "llama", {**LARGE, "steps": 1}, 8


class Side:
    """A process that trains on command."""

    def __init__(self, command):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=environment)

    def steps(self, n):
        self.process.stdin.write(f"steps {n}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args[0]} ended with status {self.process.wait()}")
        return [float(x) for x in line.split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure(name, preset, shape, rows, repeats, ours_program, tokens):
    arguments = [preset, shape["d"], shape["layers"], shape["heads"], FFN[preset, shape["d"]], shape["seq_len"],
                 shape["batch"], shape["vocab"], rows, tokens]
    arguments = [str(a) for a in arguments]
    ours = Side([ours_program] + arguments)
    peer = Side([sys.executable, os.path.join(HERE, "peer.py")] + arguments)
    n = shape["steps"]
    for side in (ours, peer):
        side.steps(max(1, n // 4))  # warm up
    pairs = [(ours.steps(n), peer.steps(n)) for _ in range(repeats)]
    ours.close()
    peer.close()
    work = n * rows * shape["batch"] * shape["seq_len"]
    wall = [p[0] / o[0] for o, p in pairs]
    cpu = [p[1] / o[1] for o, p in pairs]
    median = statistics.median
    print(json.dumps({
        "bench": "train_vs_pytorch", "case": name, "ours": round(median(work / o[0] for o, _ in pairs)),
        "peer": round(median(work / p[0] for _, p in pairs)), "unit": "tokens/s", "ratio": round(median(wall), 3),
        "ratio_min": round(min(wall), 3), "ratio_max": round(max(wall), 3), "n": repeats,
        "ours_cpu": round(median(work / o[1] for o, _ in pairs)),
        "peer_cpu": round(median(work / p[1] for _, p in pairs)), "ratio_cpu": round(median(cpu), 3),
        "ours_loss": pairs[-1][0][2], "peer_loss": pairs[-1][1][2]}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the four cases of K = 1, shorter")
    parser.add_argument("--case", default="", help="only cases whose name contains this")
    parser.add_argument("--repeats", type=int, default=0)
    arguments = parser.parse_args()
    build = os.environ.get("PLUMB_BUILD", os.path.join(HERE, "..", "..", "build", "release"))
    program = os.path.join(build, "bin", "bench_train_vs_pytorch")
    if not os.path.exists(program):
        raise SystemExit(f"{program} is missing; build with the trainer and -DPLUMB_BENCH=ON")
    with tempfile.TemporaryDirectory() as folder:
        for name, preset, shape, rows in cases():
            if arguments.case not in name or (arguments.quick and rows > 1):
                continue
            if arguments.quick:
                shape = {**shape, "steps": max(1, shape["steps"] // 2)}
            tokens = os.path.join(folder, "tokens")
            steps = random.Random(3).choices([1, 3, 7, 11], k=64 * shape["batch"] * (shape["seq_len"] + 1))
            with open(tokens, "wb") as file:
                array.array("q", (at % shape["vocab"] for at in itertools.accumulate(steps))).tofile(file)
            measure(name, preset, shape, rows, arguments.repeats or (5 if arguments.quick else 7), program, tokens)


if __name__ == "__main__":
    main()
