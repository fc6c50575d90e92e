"""Ray Tune's ASHA and Optuna's successive halving on the benchmark's curves, each through its public interface. Runs in an
environment that has them (bench/asha/run.py makes one); prints JSON.

The same candidates in the same order, WORKERS at once, under virtual time (an epoch lasts as the candidate has it): a worker reports after each
epoch, and takes the next candidate when its own has ended.

  ray     ASHAScheduler's callbacks (on_trial_add, on_trial_result, on_trial_complete), as Tune's controller makes them. With --real N the
          same by Tuner.fit with actors, on the first N seeds: how far virtual time is from the real thing.
  optuna  study.ask, trial.report, trial.should_prune, study.tell, in memory.

The pick is the system's own: Ray's best last result of all trials, Optuna's best completed trial.
"""
import argparse
import heapq
import json
import os
import tempfile
import time
import types
import warnings

import curves

RUNGS = {"min_t": 1, "reduction": 3}


def drive(lines, seconds, workers, begin, report):
    """(epochs, end). begin(i) starts candidate i; report(i, epoch, loss) says whether it ends now."""
    waiting = list(range(len(lines)))[::-1]
    running, order, epochs, now = [], 0, 0, 0.0
    for _ in range(min(workers, len(lines))):
        i = waiting.pop()
        begin(i)
        heapq.heappush(running, (seconds[i], order, i, 1))
        order += 1
    while running:
        now, _, i, epoch = heapq.heappop(running)
        epochs += 1
        ends = report(i, epoch, lines[i][epoch - 1])
        if ends or epoch == len(lines[i]):
            if not waiting:
                continue
            i, epoch = waiting.pop(), 0
            begin(i)
        heapq.heappush(running, (now + seconds[i], order, i, epoch + 1))
        order += 1
    return epochs, now


def ray_virtual(lines, seconds, workers, keep):
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.schedulers.trial_scheduler import TrialScheduler
    scheduler = ASHAScheduler(time_attr="training_iteration", metric="loss", mode="min", max_t=curves.EPOCHS, grace_period=RUNGS["min_t"],
                              reduction_factor=keep)
    trials = [types.SimpleNamespace(trial_id=str(i)) for i in range(len(lines))]
    last = {}

    def begin(i):
        scheduler.on_trial_add(None, trials[i])

    def report(i, epoch, loss):
        last[i] = loss
        result = {"training_iteration": epoch, "loss": loss}
        return scheduler.on_trial_result(None, trials[i], result) == TrialScheduler.STOP

    epochs, end = drive(lines, seconds, workers, begin, report)
    return epochs, min(last, key=last.get), end


def optuna_virtual(lines, seconds, workers, keep):
    import optuna
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=RUNGS["min_t"], reduction_factor=keep)
    study = optuna.create_study(direction="minimize", pruner=pruner)
    asked = {}

    def begin(i):
        asked[i] = study.ask()

    def report(i, epoch, loss):
        trial = asked[i]
        trial.report(loss, epoch)
        if epoch == curves.EPOCHS:
            study.tell(trial, loss)
            return True
        if trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return True
        return False

    epochs, end = drive(lines, seconds, workers, begin, report)
    return epochs, study.best_trial.number, end


def ray_real(lines, seconds, workers, keep):
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(workers)
    import ray
    from ray import tune
    if not ray.is_initialized():
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    class Curve(tune.Trainable):
        def setup(self, config):
            self.line, self.seconds = config["line"], config["seconds"]

        def step(self):
            time.sleep(0.02 * self.seconds)  # so that epochs last longer than their messages
            return {"loss": self.line[self.iteration]}

        def save_checkpoint(self, folder):
            return None

        def reset_config(self, config):
            self.line, self.seconds = config["line"], config["seconds"]
            return True

    with tempfile.TemporaryDirectory() as folder:
        scheduler = tune.schedulers.ASHAScheduler(time_attr="training_iteration", max_t=curves.EPOCHS, grace_period=RUNGS["min_t"],
                                                  reduction_factor=keep)
        space = {"i": tune.grid_search(list(range(len(lines))))}
        space["line"] = tune.sample_from(lambda spec: lines[spec.config.i])
        space["seconds"] = tune.sample_from(lambda spec: seconds[spec.config.i])
        tuner = tune.Tuner(Curve, param_space=space,
                           tune_config=tune.TuneConfig(metric="loss", mode="min", scheduler=scheduler, max_concurrent_trials=workers, reuse_actors=True),
                           run_config=tune.RunConfig(storage_path=folder, verbose=0))
        begun = time.monotonic()
        results = tuner.fit()
        end = time.monotonic() - begun
        frame = [(r.metrics["training_iteration"], r.metrics["loss"], r.config["i"]) for r in results if r.metrics]
    return sum(e for e, _, _ in frame), min(frame, key=lambda r: r[1])[2], end


SYSTEMS = {"ray": ray_virtual, "optuna": optuna_virtual, "ray-real": ray_real}


def main():
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--seeds", type=int, required=True)
    parser.add_argument("--candidates", type=int, nargs="+", required=True)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--keep", type=int, default=3, help="one in so many")
    args = parser.parse_args()
    out = {}
    for seed in range(args.seeds):
        noisy, _, seconds = curves.seed_curves(seed)
        for n in args.candidates:
            out.setdefault(n, []).append(SYSTEMS[args.system](noisy[:n], seconds[:n], args.workers, args.keep))
    print(json.dumps(out))


if __name__ == "__main__":
    main()
