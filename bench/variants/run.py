#!/usr/bin/env python3
"""Tokens per second of every preset relative to preln at one shape: whole training steps without I/O, interleaved.

  script/bench variants [--quick] [--presets preln,sas_p] [--repeats N] [--shape d,L,H,T,B,V] [--steps N]

A process each, one thread each, all alive at once; every repeat runs each preset once, in an order that turns, so that what else
the machine does falls on all of them. One JSON line a preset: `ratio` is the median over repeats of preln's seconds ÷ the
preset's in the same repeat (above 1: faster than preln), `ratio_cpu` the same by processor time, `ratio_best` of each one's
fastest repeat. `peak_mib` is the process's high-water mark. `attention` says which way a step's attention went: the fused
kernel (counted as it ran), or the scores in full.
"""
import argparse
import json
import os
import statistics
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
FULL = (256, 4, 4, 256, 8, 4096)  # d_model, n_layers, n_heads, seq_len, batch, vocab
QUICK = (128, 4, 4, 128, 8, 1024)


class Side:
    """A process that trains one preset on command."""

    def __init__(self, program, preset, shape):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.process = subprocess.Popen([program, preset, *map(str, shape)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=environment)
        self.about = json.loads(self.line())

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args} ended with status {self.process.wait()}")
        return line

    def steps(self, n):
        self.process.stdin.write(f"steps {n}\n")
        self.process.stdin.flush()
        return [float(x) for x in self.line().split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def way(about):
    fused, blocks = about["attention_fused"], about["n_layers"]
    return "full scores" if not fused else "fused" if fused >= blocks else f"fused in {fused} of {blocks} blocks"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller shape")
    parser.add_argument("--presets", default="", help="only these (and preln), comma-separated")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="training steps of one repeat")
    parser.add_argument("--shape", default="", help="d_model,n_layers,n_heads,seq_len,batch,vocab")
    arguments = parser.parse_args()
    build = os.environ.get("PLUMB_BUILD", os.path.join(HERE, "..", "..", "build", "release"))
    program = os.path.join(build, "bin", "bench_variants")
    if not os.path.exists(program):
        raise SystemExit(f"{program} is missing; build with the trainer and -DPLUMB_BENCH=ON")
    shape = tuple(int(x) for x in arguments.shape.split(",")) if arguments.shape else QUICK if arguments.quick else FULL
    names = arguments.presets.split(",") if arguments.presets else subprocess.run(
        [program, "--presets"], capture_output=True, text=True, check=True).stdout.split()
    names = ["preln"] + [n for n in names if n != "preln"]
    sides = {name: Side(program, name, shape) for name in names}
    for side in sides.values():
        side.steps(1)  # warm up
    runs = {name: [] for name in names}
    for i in range(arguments.repeats):
        turn = i % len(names)
        for name in names[turn:] + names[:turn]:
            runs[name].append(sides[name].steps(arguments.steps))
    for side in sides.values():
        side.close()
    work = arguments.steps * shape[3] * shape[4]
    median = statistics.median
    base = runs["preln"]
    for name in names:
        mine, about = runs[name], sides[name].about
        wall = [b[0] / m[0] for b, m in zip(base, mine)]
        cpu = [b[1] / m[1] for b, m in zip(base, mine)]
        print(json.dumps({
            "bench": "variants", "case": name, "ours": round(median(work / m[0] for m in mine)),
            "peer": round(median(work / b[0] for b in base)), "unit": "tokens/s", "ratio": round(median(wall), 3),
            "ratio_min": round(min(wall), 3), "ratio_max": round(max(wall), 3), "n": arguments.repeats,
            "ratio_cpu": round(median(cpu), 3), "ratio_cpu_min": round(min(cpu), 3), "ratio_cpu_max": round(max(cpu), 3),
            "ratio_best": round(min(b[1] for b in base) / min(m[1] for m in mine), 3),
            "peak_mib": round(mine[-1][2] / 2**20, 1), "parameters": about["parameters"],
            "flops_ratio": round(about["flops_per_token"] / sides["preln"].about["flops_per_token"], 3),
            "attention": way(about)}), flush=True)


if __name__ == "__main__":
    main()
