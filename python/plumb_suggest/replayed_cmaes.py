"""Optuna's CMA-ES without the pickled optimizer that it leaves in its trials: the optimizer is made again from the generations."""
import cmaes
from optuna._transform import _SearchSpaceTransform
from optuna.samplers import CmaEsSampler


class ReplayedCmaEs(CmaEsSampler):
    """Of each generation the first results, as many as make one, are told to a new optimizer, in order; that alone makes its state.
    The base class then tells it the last one that is whole, and asks."""

    def __init__(self, *, seed, population):
        super().__init__(seed=seed, popsize=population or None, warn_independent_sampling=False)

    def sample_relative(self, study, trial, search_space):
        self._asked = study, search_space
        return super().sample_relative(study, trial, search_space)

    def _restore_optimizer(self, completed_trials):
        study, search_space = self._asked
        transform = _SearchSpaceTransform(search_space, transform_step=True, transform_0_1=True)
        optimizer = self._init_optimizer(transform, study.direction)
        assert isinstance(optimizer, cmaes.CMA)
        sign = 1 if study.direction.name == "MINIMIZE" else -1
        while True:
            told = self._get_solution_trials(completed_trials, optimizer.generation)[:optimizer.population_size]
            if len(told) < optimizer.population_size:
                return optimizer
            optimizer.tell([(transform.transform(t.params), sign * t.value) for t in told])
