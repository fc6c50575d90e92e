#!/usr/bin/env python3
"""What the orchestrator adds to a sweep: no-op trials of one second on two slots, beside the time that they take by themselves.

    script/bench overhead [--quick] [--trials N] [--slots N] [--seconds S]

A real server, a real worker, its guard and its trainers. The time is from the submission to the commit of the sweep's end; ideal is trials
times seconds by slots. Every trial must have succeeded in its first attempt, and never more at once than there are slots. 1,000 trials
take 500 s; --quick runs 60 of 0.2 s.
"""
import argparse
import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

BIN = pathlib.Path(os.environ.get("PLUMB_BUILD", "build/release")) / "bin"


def query(db, sql):
    connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=30)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def most_at_once(spans):
    """The largest number of spans that overlap; one that ends when another begins is over."""
    edges = sorted([(end, -1) for _, end in spans] + [(begin, 1) for begin, _ in spans])
    most = now = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most


def run(folder, args):
    db = folder / "plumb.db"
    sweep = folder / "sweep.yaml"
    sweep.write_text(f"sweep: overhead\nstages: {{run: {{noop: {{seconds: {args.seconds}}}}}}}\nreplicates: {args.trials}\n")
    log = open(folder / "log", "wb")
    start = lambda *words: subprocess.Popen([BIN / "plumb", *words], stdout=log, stderr=log)
    processes = [start("server", "--db", db)]
    try:
        end = time.monotonic() + 30
        while not pathlib.Path(f"{db}.address").exists():
            if time.monotonic() > end:
                sys.exit(f"the server does not come up: {folder}/log")
            time.sleep(0.05)
        processes.append(start("worker", "start", "--db", db, "--dir", folder / "worker", "--slots", str(args.slots), "--trainer",
                               BIN / "plumb-noop-trainer"))
        while not query(db, "SELECT count(*) FROM worker")[0][0]:
            time.sleep(0.05)
        begin = time.time()
        submitted = subprocess.run([BIN / "plumb", "sweep", "submit", sweep, "--db", db], capture_output=True, text=True)
        if submitted.returncode:
            sys.exit(submitted.stderr)
        ideal = args.trials * args.seconds / args.slots
        while query(db, "SELECT state FROM sweep")[0][0] != "completed":
            if time.time() > begin + 3 * ideal + 60:
                sys.exit(f"too slow: {query(db, 'SELECT state, count(*) FROM trial GROUP BY state')}; {folder}/log")
            time.sleep(0.1)
        (ended,), = query(db, "SELECT end_time_us FROM sweep")
        attempts = query(db, "SELECT outcome, start_time_us, end_time_us, summary_json FROM attempt")
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait()
    outcomes = {outcome for outcome, *_ in attempts}
    if len(attempts) != args.trials or outcomes != {"succeeded"}:
        sys.exit(f"{len(attempts)} attempts for {args.trials} trials: {outcomes}")
    # By the trainers' own clock: from the moment they took a row, for as long as it lasts.
    begins = [json.loads(summary)["start_time_us"] for *_, summary in attempts]
    at_once = most_at_once([(b, b + args.seconds * 1e6 * 0.999) for b in begins])
    if at_once > args.slots:
        sys.exit(f"{at_once} trials ran at once on {args.slots} slots")
    return ended / 1e6 - begin, ideal


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--quick", action="store_true", help="60 trials of 0.2 s")
    args = parser.parse_args()
    if args.quick:
        args.trials, args.seconds = 60, 0.2
    folder = pathlib.Path(tempfile.mkdtemp(prefix="plumb-overhead-"))
    seconds, ideal = run(folder, args)
    shutil.rmtree(folder)
    load = os.getloadavg()[0]
    print(json.dumps({"bench": "overhead", "case": f"{args.trials} trials of {args.seconds} s on {args.slots} slots, submission to end", "ours":
                      round(seconds, 2), "peer": ideal, "peer_name": "ideal", "unit": "s", "ratio": round(ideal / seconds, 4),
                      "over_percent": round(100 * (seconds / ideal - 1), 2), "load": round(load, 1), "n": 1}))


if __name__ == "__main__":
    main()
