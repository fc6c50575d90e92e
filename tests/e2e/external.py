#!/usr/bin/env python3
"""Programs of others as trials and stages, through a real server and real workers, killed at random moments.

A sweep whose first stage is a script that speaks the protocol by python/plumb_adapter.py, followed by commands: one that writes a
checkpoint, stages fanned out over both, one that fails until its cause is mended and is retried alone. A worker, a trainer and the server are
killed with SIGKILL meanwhile; what was measured is bit-equal to a run that nobody disturbed. Then finished trials gain a stage.

    external.py --bin BUILD/bin [--python PYTHON] [--nano]
"""
import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import time

from cluster import ROOT, CommandLineCluster

# A model in one line: what matters is that each step follows from the one before, and takes its time.
TINY = """#!PYTHON
import json, os, sys, time
sys.path.insert(0, "ROOT/python")
import plumb_adapter

def train(job, restore):
    x, lr = 1.0, job["config"].get("train", {}).get("lr", 0.1)
    if restore:
        x = json.load(open(restore + "/state.json"))
    def save(folder):
        with open(folder + "/state.json", "w") as f:
            json.dump(x, f)
    for step in range(job["start"] + 1, job["steps"] + 1):
        x -= lr * (x - 1 / (1 + step % 7))
        time.sleep(job["with"].get("pause", 0))
        yield step, {"train/loss": x * x, **({"val/loss": x} if step % 10 == 0 else {})}, save

plumb_adapter.serve(train)
"""

SCRIPT = """
import json, os, sys, time
job = json.load(sys.stdin)
assert json.load(open(os.environ["PLUMB_JOB"])) == job and os.getcwd() == job["workspace"], "the job is told twice"
print("a line for the log, not a fact", job["row"])
what = job["with"].get("do")
at = job["checkpoint"]
if what == "cut":
    x = json.load(open(at["path"] + "/state.json"))
    start = at["step"] if at["resume"] else 0
    for step in range(start + 1, job["steps"] + 1):
        x = x * 0.9
        time.sleep(0.02)
        print(json.dumps({"step": step, "values": {"cut/x": x}}))
        if step % 10 == 0:
            os.makedirs("keep")
            json.dump(x, open("keep/state.json", "w"))
            print(json.dumps({"checkpoint": "keep", "step": step}), flush=True)
elif what == "fail":
    print("the reason stands here", file=sys.stderr)
    sys.exit(0 if os.path.exists(job["with"]["mended"]) else 3)
elif what == "slow":
    time.sleep(1000)
elif what == "nan":
    print('{"values": {"score/loss": NaN}}')
    print('{"outcome": "diverged", "cause": "as it was told"}')
else:
    x = json.load(open(at["path"] + "/state.json"))
    print(json.dumps({"values": {"score/x": x, "score/seed": job["seed"]["init"]}}))
    print(json.dumps({"record": {"x": x, "from": at["step"]}, "kind": "score", "name": "all"}))
"""

SWEEP = """sweep: others
trial: {train: {steps: STEPS}}
axes: {train.lr: [0.1, 0.3]}
replicates: 2
objective: val/loss
stages:
  run: {external: {trainer: tiny, with: {pause: 0.005, checkpoint_every: 20}}}
  cut: {from: run, external: {command: ["PYTHON", "{script}"], script: "script.py", steps: 40, with: {do: cut}}}
  score: {from: [run, cut], external: {command: ["PYTHON", "{script}"], script: "script.py"}}
  fails: {from: cut, external: {command: ["PYTHON", "{script}"], script: "script.py", with: {do: fail, mended: "FOLDER/mended"}}}
  after: {from: fails, external: {command: ["PYTHON", "{script}"], script: "script.py"}}
"""


class Others(CommandLineCluster):
    """With a trainer named tiny, and a worker that runs commands."""

    def __init__(self, folder, plumb, python, steps):
        tiny = folder / "tiny.py"
        super().__init__(folder, plumb, ("--slots", 2, "--allow-commands", "--trainer", f"tiny={tiny}", "--trainer", "/bin/false", "--shared-checkpoints"))
        self.python = python
        tiny.write_text(TINY.replace("PYTHON", python).replace("ROOT", str(ROOT)))
        tiny.chmod(0o755)
        (folder / "script.py").write_text(SCRIPT)
        (folder / "sweep.yaml").write_text(SWEEP.replace("PYTHON", python).replace("STEPS", str(steps)).replace("FOLDER", str(folder)))

    def stages(self):
        return {(t, n): s for t, n, s in self.query("SELECT trial_id, name, state FROM stage")}

    def results(self):
        return self.query("SELECT g.trial_id, g.name, s.name, m.step, m.value FROM measurement m JOIN series s ON s.id = m.series_id "
                          "JOIN stage g ON g.id = s.stage_id ORDER BY 1, 2, 3, 4")

    def pids(self, word):
        """Processes with `word` in their command line; not guards, and not the worker, whose options name the trainer."""
        return [pid for pid, words in self.processes().items() if any(word in w for w in words) and not {"__guard", "worker"} & set(words)]


def expected_stages():
    names = {"run": "succeeded", "cut": "succeeded", "score:run": "succeeded", "score:cut": "succeeded", "fails": "failed", "after": "cancelled"}
    return {(t, n): s for t in (1, 2, 3, 4) for n, s in names.items()}


def run_to_the_end(cluster):
    cluster.ask("sweep", "submit", "sweep.yaml")
    cluster.wait_for("the end", lambda: cluster.states() == ["completed"])
    assert cluster.stages() == expected_stages(), cluster.stages()


def undisturbed(cluster):
    cluster.start_server()
    cluster.start_worker()
    run_to_the_end(cluster)
    records = cluster.query("SELECT stage, kind, json_extract(data_json, '$.from') FROM v_record ORDER BY trial_id, stage")
    assert records == [("score:cut", "score", 40), ("score:run", "score", STEPS)] * 4, records
    for trial in (1, 2, 3, 4):
        values = {(s, n): v for t, s, n, _, v in cluster.results() if t == trial}
        assert abs(values["score:cut", "score/x"] - values["score:run", "score/x"] * 0.9 ** 40) < 1e-12, values
    # The failure says why, and carries the end of the log.
    cause, log = cluster.query("SELECT a.cause, a.log_tail FROM attempt a JOIN stage g ON g.id = a.stage_id WHERE g.name = 'fails' "
                               "AND g.trial_id = 1 ORDER BY a.number")[-1]
    assert cause == "the command exited with code 3" and "the reason stands here" in log and "a line for the log" in log, (cause, log)


def disturbed(cluster, rng):
    cluster.start_server()
    cluster.start_worker()
    cluster.ask("sweep", "submit", "sweep.yaml")
    kills = 0
    while cluster.states() != ["completed"]:
        time.sleep(rng.uniform(0.3, 1.0))
        if kills >= 12:
            cluster.wait_for("the end", lambda: cluster.states() == ["completed"])
            break
        what = rng.choice(["worker", "tiny.py", "script.py", "__commands", "server"])
        if what == "server":
            cluster.server.kill()
            cluster.server.wait()
            cluster.start_server()
        elif what == "worker":
            cluster.workers[0].kill()
            cluster.workers[0].wait()
            cluster.start_worker()
        else:
            victims = cluster.pids(what)
            if not victims:
                continue
            try:
                os.kill(rng.choice(victims), signal.SIGKILL)
            except ProcessLookupError:
                continue
        kills += 1
    # A budget of three failures may be used up by kills: what failed so is retried alone.
    for _ in range(10):
        failed = [k for k, s in cluster.stages().items() if s in ("failed",) and k[1] != "fails"]
        if not failed:
            break
        for trial, name in failed:
            cluster.ask("stage", "retry", trial, name)
        cluster.wait_for("the retried", lambda: cluster.states() == ["completed"])
    for trial in (1, 2, 3, 4):  # cancelled with what failed by a kill, and brought back with it
        assert cluster.stages()[trial, "fails"] == "failed", cluster.stages()
    return kills


def afterwards(cluster):
    """Retries, stages for finished trials, and what a worker may not do."""
    code, _, err = cluster.ask("stage", "retry", 1, "after", expect=6)
    assert "needs fails, which ended as failed; retry that one" in err, err
    (cluster.folder / "mended").write_text("")
    _, out, _ = cluster.ask("stage", "retry", 1, "fails")
    assert "fails waits again, with 1 after it" in out, out
    cluster.wait_for("the retried stage", lambda: cluster.stages()[1, "after"] == "succeeded")
    assert cluster.stages()[2, "fails"] == "failed", "retried alone"

    command = json.dumps(["PYTHON", "{script}"]).replace("PYTHON", cluster.python)
    more = ("external", "--name", "later", "--from", "cut", "--settings", f"command: {command}, script: script.py")
    _, out, _ = cluster.ask("stage", "run", *more, "--where", "lr > 0.2 and replicate == 0", "--dry-run")
    assert "dry run: 1 would run, 0 there already, 0 refused" in out, out
    assert not any(n == "later" for _, n in cluster.stages())
    cluster.ask("stage", "run", *more, "--where", "lr > 0.2 and replicate == 0")
    _, out, _ = cluster.ask("stage", "run", *more)  # of all: one has it
    assert "3 to run, 1 there already, 0 refused" in out, out
    _, out, _ = cluster.ask("stage", "run", "evaluate", expect=6)
    assert "0 to run, 0 there already, 4 refused" in out and "run is external" in out, out
    cluster.wait_for("the later stage", lambda: all(cluster.stages()[t, "later"] == "succeeded" for t in (1, 2, 3, 4)))
    assert cluster.states() == ["completed"]
    x = dict(cluster.query("SELECT g.trial_id || g.name, m.value FROM measurement m JOIN series s ON s.id = m.series_id JOIN stage g "
                           "ON g.id = s.stage_id WHERE s.name = 'score/x'"))
    assert all(x[f"{t}later"] == x[f"{t}score:cut"] for t in (1, 2, 3, 4)), x

    for name, settings, state, cause in (
            ("slow", "with: {do: slow}, timeout_seconds: 0.5, grace_seconds: 0.2", "failed", "it took longer than 0.5 s"),
            ("nan", "with: {do: nan}", "diverged", "as it was told"),
            ("gone", "with: {x: 1}", "failed", "cannot start")):
        program = command if name != "gone" else json.dumps(["/no/such/program", "{script}"])
        cluster.ask("stage", "run", "external", "--name", name, "--trial", 1, "--settings", f"command: {program}, script: script.py, {settings}")
        cluster.wait_for(name, lambda: cluster.stages()[1, name] == state)
        got = cluster.query(f"SELECT a.cause FROM attempt a JOIN stage g ON g.id = a.stage_id WHERE g.name = '{name}' ORDER BY a.number DESC")[0][0]
        assert cause in got, (name, got)
    # A script that has changed since is not run.
    cluster.ask("stage", "run", "external", "--name", "changed", "--trial", 1, "--settings",
                f"command: {command}, script: {{path: {cluster.folder}/script.py, sha256: \"{'0' * 64}\"}}")
    cluster.wait_for("changed", lambda: cluster.stages()[1, "changed"] == "infeasible")
    # A worker that was not told so runs no commands, and it is said why nothing happens.
    cluster.workers[0].terminate()
    cluster.workers[0].wait(40)
    cluster.workers[0] = cluster.spawn("worker", "start", "--slots", 2, "--trainer", "/bin/false", "--dir", cluster.folder / "worker")
    cluster.ask("stage", "run", "external", "--name", "waits", "--trial", 1, "--settings", f"command: {command}, script: script.py, with: {{y: 2}}")
    cluster.wait_for("the reason", lambda: "--allow-commands" in cluster.ask("trial", "explain", 1)[1], 30)
    left = [p for p in cluster.pids("script.py") if p]
    assert not left, f"commands that nobody waits for: {left}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=lambda p: pathlib.Path(p).resolve(), required=True)
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    global STEPS
    STEPS = args.steps
    seed = args.seed if args.seed is not None else random.randrange(1 << 30)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="plumb-e2e-external-"))
    calm = Others(folder / "calm", str(args.bin / "plumb"), args.python, args.steps)
    fire = Others(folder / "fire", str(args.bin / "plumb"), args.python, args.steps)
    try:
        undisturbed(calm)
        kills = disturbed(fire, random.Random(seed))
        assert calm.results() == fire.results(), f"seed {seed}: values differ from the undisturbed run"
        attempts = fire.query("SELECT count(*) FROM attempt")[0][0]
        afterwards(fire)
        print(f"seed {seed}: {kills} kills, {attempts} attempts, {len(calm.results())} points bit-equal to the undisturbed run; "
              "retries, later stages and refusals as they should be")
    finally:
        for cluster in (calm, fire):
            cluster.stop()
        if not args.keep:
            subprocess.run(["rm", "-rf", str(folder)], check=False)


if __name__ == "__main__":
    main()
