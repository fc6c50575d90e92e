"""The same nothing, done by the peers that a user would pick: their PyPI packages, installed beside Plumb for the benchmark."""
import os
import pathlib
import subprocess
import sys
import tempfile
import venv

PACKAGES = {"hyperqueue": "hyperqueue==0.27.0", "optuna": "optuna==5.0.0", "ray": "ray[tune]==2.60.0"}

HYPERQUEUE = """
import sys, time, pathlib
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
n, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
with LocalCluster() as cluster:
    cluster.start_worker(WorkerConfig(cores=32))
    client = cluster.client()
    def run(count):
        job = Job(default_workdir=folder)
        for _ in range(count):
            job.program(["true"], stdout=None, stderr=None)
        begin = time.monotonic()
        client.wait_for_jobs([client.submit(job)])
        return count / (time.monotonic() - begin)
    run(50)
    print(run(n))
"""
OPTUNA = """
import sys, time, optuna
n, folder = int(sys.argv[1]), sys.argv[2]
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(storage=f"sqlite:///{folder}/optuna.db", sampler=optuna.samplers.RandomSampler())
def nothing(trial):
    trial.suggest_float("x", 0, 1)
    return 0.0
study.optimize(nothing, n_trials=5)
begin = time.monotonic()
study.optimize(nothing, n_trials=n)
print(n / (time.monotonic() - begin))
"""
RAY = """
import os, sys, time
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
import ray
from ray import tune
n, folder = int(sys.argv[1]), sys.argv[2]
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
class Nothing(tune.Trainable):
    def step(self):
        return {"loss": 0.0, "done": True}
    def save_checkpoint(self, folder):
        return None
    def reset_config(self, config):
        return True
def run(count):
    tuner = tune.Tuner(Nothing, tune_config=tune.TuneConfig(num_samples=count, reuse_actors=True),
                       run_config=tune.RunConfig(storage_path=folder, verbose=0))
    begin = time.monotonic()
    tuner.fit()
    return count / (time.monotonic() - begin)
run(2)
print(run(n))
"""
SCRIPTS = {"HyperQueue, a process a task": ("hyperqueue", HYPERQUEUE, 1000), "Optuna on SQLite": ("optuna", OPTUNA, 100),
           "Ray Tune, reuse_actors": ("ray", RAY, 100)}


def python_with(folder, package):
    """An interpreter that has the package: this one, PLUMB_PEERS's, or a fresh environment in `folder`."""
    module = {"ray": "ray.tune"}.get(package, package)
    for python in (sys.executable, os.environ.get("PLUMB_PEERS")):
        if python and subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0:
            return python
    home = pathlib.Path(folder) / f"peer-{package}"
    if not home.exists():
        venv.create(home, with_pip=True)
        done = subprocess.run([home / "bin/pip", "install", "-q", PACKAGES[package]], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"{PACKAGES[package]} is not to be had: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            return None
    return home / "bin/python"


def rate(name, folder):
    """Trials a second, or None with the reason on stderr."""
    package, script, n = SCRIPTS[name]
    python = python_with(folder, package)
    if python is None:
        return None
    with tempfile.TemporaryDirectory(dir=folder) as work:
        try:
            done = subprocess.run([python, "-c", script, str(n), work], capture_output=True, text=True, timeout=300, check=False, cwd=work)
        except subprocess.TimeoutExpired:
            print(f"{name}: not done within 300 s", file=sys.stderr)
            return None
    try:
        return float(done.stdout.split()[-1])
    except (IndexError, ValueError):
        print(f"{name}: {done.stderr[-500:]}", file=sys.stderr)
        return None
