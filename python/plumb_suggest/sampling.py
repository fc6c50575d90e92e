"""From a request to points, by Optuna. A function of the request and its history: a fresh study is filled with what is known, and asked.

A point that ended without a value counts as bad as the worst that has one. Points that run are told to the samplers that know what to do
with them. What a sampler would keep of a point (its generation) comes back in the point's note.
"""
import hashlib
import json
import math

from plumb.v1 import suggest_service_pb2 as pb

SAMPLERS = ["tpe", "gp", "cmaes", "nsga2"]
TRIES = 20  # asks for a point that was not there before
GENERATION = {"cmaes": "cma:generation", "nsga2": "NSGAIISampler:generation"}


def check():
    """ImportError where something is missing that every search needs."""
    import cmaes  # noqa: F401
    import grpc  # noqa: F401
    import importlib.util
    if importlib.util.find_spec("optuna") is None:
        raise ImportError("No module named 'optuna'")


def versions():
    import cmaes
    import grpc
    import importlib.util
    import optuna
    gp = all(importlib.util.find_spec(name) for name in ("torch", "scipy"))
    return f"optuna {optuna.__version__}, cmaes {cmaes.__version__}, grpcio {grpc.__version__}; gp: {'yes' if gp else 'no, it needs torch and scipy'}"


def suggest(request, history):
    import optuna
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = [distribution(axis) for axis in request.axes]
    names = [axis.name for axis in request.axes]
    study = optuna.create_study(sampler=sampler(request), directions=[
        "maximize" if o.maximize else "minimize" for o in request.objectives])
    for observation in sorted(history.values(), key=lambda o: o.number):
        trial = as_trial(observation, request, history, names, distributions)
        if trial is not None:
            study.add_trial(trial)
    seen = {key(o.values, request.axes) for o in history.values()}
    out = []
    for number in range(request.first, request.first + request.count):
        for attempt in range(TRIES):
            trial = study.ask(dict(zip(names, distributions)))
            values = [float(trial.params[name]) for name in names]
            if key(values, request.axes) not in seen:
                break
        else:
            values = unseen(request, number, distributions, seen) or values
        seen.add(key(values, request.axes))
        out.append((values, note(study, trial, request)))
    return out


def distribution(axis):
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    kind = axis.WhichOneof("kind")
    if kind == "real":
        return FloatDistribution(axis.real.low, axis.real.high, log=axis.real.logarithmic)
    if kind == "whole":
        return IntDistribution(axis.whole.low, axis.whole.high, log=axis.whole.logarithmic)
    n = len(axis.choice.names)
    # Numbers that rise are near their neighbours.
    return IntDistribution(0, n - 1) if axis.choice.numbers else CategoricalDistribution(list(range(n)))


def seed_of(request, number):
    return int.from_bytes(hashlib.sha256(f"{request.seed} {request.sampler} {number}".encode()).digest()[:4], "little")


def sampler(request):
    from optuna import samplers
    seed = seed_of(request, request.first)
    if request.sampler == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=5)
    if request.sampler == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=5, warn_independent_sampling=False)
    if request.sampler == "cmaes":
        from plumb_suggest.replayed_cmaes import ReplayedCmaEs
        return ReplayedCmaEs(seed=seed, population=request.population)
    # A generation is to be small beside the search: of 60 points 15, of 300 35.
    population = request.population or max(4, min(50, round(2 * math.sqrt(request.points))))
    return samplers.NSGAIISampler(seed=seed, population_size=population)


def as_trial(observation, request, history, names, distributions):
    """The observation as Optuna's trial; None where there is nothing to learn from it."""
    from optuna.trial import TrialState, create_trial
    params, there = {}, {}
    for name, axis, value, d in zip(names, request.axes, observation.values, distributions):
        if value.HasField("value"):
            params[name] = value.value if axis.WhichOneof("kind") == "real" else int(value.value)
            there[name] = d
    attributes = {}
    if request.sampler in GENERATION:
        generation = json.loads(observation.note).get("generation") if observation.note else None
        # What was drawn at random is the first generation of NSGA-II, and none of CMA-ES.
        if generation is None and request.sampler == "nsga2":
            generation = 0
        if generation is not None:
            attributes[GENERATION[request.sampler]] = generation
    if observation.state == pb.POINT_STATE_RUNNING:
        return create_trial(state=TrialState.RUNNING, params=params, distributions=there, system_attrs=attributes)
    if observation.state == pb.POINT_STATE_FINISHED:
        values = list(observation.objectives)
    elif observation.state == pb.POINT_STATE_FAILED:
        values = worst(request, history)
    else:
        values = None
    if values is None:
        return None
    return create_trial(state=TrialState.COMPLETE, params=params, distributions=there, values=values, system_attrs=attributes)


def worst(request, history):
    """By objective the worst value that any point has; None while none has."""
    finished = [o.objectives for o in history.values() if o.state == pb.POINT_STATE_FINISHED]
    if not finished:
        return None
    return [(min if o.maximize else max)(values[i] for values in finished) for i, o in enumerate(request.objectives)]


def note(study, trial, request):
    attributes = study.get_trials(deepcopy=False)[trial.number].system_attrs
    generation = attributes.get(GENERATION.get(request.sampler))
    return "" if generation is None else json.dumps({"generation": generation})


def key(values, axes):
    """Equal for points that the server takes for one."""
    out = []
    for value, axis in zip(values, axes):
        if isinstance(value, pb.SearchValue):
            value = value.value if value.HasField("value") else None
        elif axis.WhichOneof("kind") == "real":
            value = float(f"{value:.4g}")
        out.append(value)
    return tuple(out)


def unseen(request, number, distributions, seen):
    """A point drawn at random that was not there before; None where none is found."""
    import optuna
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed_of(request, f"{number} at random")))
    names = [axis.name for axis in request.axes]
    for _ in range(200):
        params = study.ask(dict(zip(names, distributions))).params
        values = [float(params[name]) for name in names]
        if key(values, request.axes) not in seen:
            return values
    return None
