#!/usr/bin/env python3
"""What it costs to measure the linearity of every layer every 50 steps, at the default batch and tokens.

  script/bench linearity [--quick] [--repeats N] [--shape d,L] [--threads N]

One process trains 50 steps and measures once, again and again; a line says the seconds of both. `ratio` is the training's share of the two
together (0.95: the measurement adds 5.3 %), `added` what it adds in percent, `n` the repeats; the bound is 10 %. A second case fits on eight
times as many tokens and must not hold more memory: moments are of the width, not of the tokens.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def run(program, shape, tokens, steps, repeats, threads):
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as folder:
        words = [program, folder, *map(str, shape), "128", "4096", str(tokens), str(threads)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
            def once(n):
                process.stdin.write(f"{n}\n")
                process.stdin.flush()
                line = process.stdout.readline()
                if not line:
                    raise SystemExit(f"{program} ended with status {process.wait()}")
                return [float(x) for x in line.split()]
            once(1)  # warm up
            out = [once(steps) for _ in range(repeats)]
            process.stdin.close()
            return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two repeats of ten steps, counted as fifty")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--shape", default="256,4", help="d_model,n_layers")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    build = os.environ.get("PLUMB_BUILD", os.path.join(HERE, "..", "..", "build", "release"))
    program = os.path.join(build, "bin", "bench_linearity")
    if not os.path.exists(program):
        raise SystemExit(f"{program} is missing; build with the trainer and -DPLUMB_BENCH=ON")
    shape = [int(x) for x in arguments.shape.split(",")]
    steps, repeats = (10, 2) if arguments.quick else (50, arguments.repeats)
    peaks = {}
    for case, tokens in (("every-50-steps", 0), ("eight-times-the-tokens", 8 * 50 * shape[0])):
        runs = run(program, shape, tokens, steps, repeats if tokens == 0 else 1, arguments.threads)
        added = [100 * measure / (train * 50 / steps) for train, measure, _ in runs]
        peaks[case] = max(peak for _, _, peak in runs)
        print(json.dumps({
            "bench": "linearity", "case": case, "ours": round(statistics.median(m for _, m, _ in runs), 3),
            "peer": round(statistics.median(t for t, _, _ in runs) * 50 / steps, 3), "unit": "s",
            "ratio": round(statistics.median(1 / (1 + a / 100) for a in added), 4),
            "ratio_min": round(min(1 / (1 + a / 100) for a in added), 4), "ratio_max": round(max(1 / (1 + a / 100) for a in added), 4),
            "added": round(statistics.median(added), 2), "peak_mib": round(peaks[case] / 2**20, 1), "n": len(runs)}), flush=True)


if __name__ == "__main__":
    main()
