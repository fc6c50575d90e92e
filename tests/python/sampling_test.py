#!/usr/bin/env python3
"""What plumb-suggest answers: a function of the request, inside of the space, better with results than without."""
import math
import random
import unittest

from plumb.v1 import suggest_service_pb2 as pb
from plumb_suggest import client, sampling

LOW, HIGH, BEST = 1e-5, 1e-1, 3e-3


def request(sampler, first=0, count=1, choices=0, conditional=False, objectives=1, points=60):
    axes = [pb.SearchAxis(name="lr", real=pb.RealAxis(low=LOW, high=HIGH, logarithmic=True)),
            pb.SearchAxis(name="layers", whole=pb.WholeAxis(low=1, high=9), conditional=conditional)]
    if choices:
        axes.append(pb.SearchAxis(name="norm", choice=pb.ChoiceAxis(names=[f"n{i}" for i in range(choices)])))
    return pb.SuggestionRequest(request_id="r", sweep_id=1, sampler=sampler, seed=3, first=first, count=count, points=points, axes=axes,
                                objectives=[pb.SearchObjective(name=f"o{i}") for i in range(objectives)])


def observed(number, values, state=pb.POINT_STATE_FINISHED, objectives=(), note=""):
    return pb.Observation(number=number, values=[pb.SearchValue() if v is None else pb.SearchValue(value=v) for v in values], state=state,
                          objectives=objectives, note=note)


def bowl(values):
    return math.log(values[0] / BEST) ** 2 + ((values[1] or 4) - 4) ** 2 / 4


def at_random(n, seed=0):
    rng = random.Random(seed)
    points = [[LOW * (HIGH / LOW) ** rng.random(), float(rng.randint(1, 9))] for _ in range(n)]
    return {i: observed(i, p, objectives=[bowl(p)]) for i, p in enumerate(points)}


class Sampling(unittest.TestCase):
    def test_the_same_request_has_the_same_answer(self):
        history = at_random(12)
        for sampler in sampling.SAMPLERS:
            a = sampling.suggest(request(sampler, first=12, count=3), history)
            b = sampling.suggest(request(sampler, first=12, count=3), dict(reversed(history.items())))
            self.assertEqual(a, b, sampler)
            self.assertEqual(len(a), 3)
            for values, _ in a:
                self.assertTrue(LOW <= values[0] <= HIGH and values[1] in range(1, 10), f"{sampler}: {values}")
            other = sampling.suggest(request(sampler, first=15, count=3), history)
            self.assertNotEqual([v for v, _ in a], [v for v, _ in other], sampler)

    def test_each_sampler_learns(self):
        for sampler in sampling.SAMPLERS:
            points = 30 if sampler == "gp" else 60
            history = at_random(10)
            while len(history) < points:
                for number, (values, note) in enumerate(sampling.suggest(request(sampler, first=len(history), count=2, points=points), history), len(history)):
                    history[number] = observed(number, values, objectives=[bowl(values)], note=note)
            late = [history[i].objectives[0] for i in range(points - 10, points)]
            early = [history[i].objectives[0] for i in range(10)]
            self.assertLess(sum(late) / 10, 0.6 * sum(early) / 10, f"{sampler}: {late} after {early}")
            self.assertLess(min(o.objectives[0] for o in history.values()), min(early), sampler)

    def test_a_generation_comes_back_in_the_note(self):
        for sampler in ("cmaes", "nsga2"):
            (_, note), = sampling.suggest(request(sampler, first=12), at_random(12))
            self.assertIn("generation", note)
        history = at_random(10)
        generations = set()
        for number in range(10, 60):
            (values, note), = sampling.suggest(request("cmaes", first=number), history)
            generations.add(note)
            history[number] = observed(number, values, objectives=[bowl(values)], note=note)
        self.assertGreaterEqual(len(generations), 50 // 7, "CMA-ES in two dimensions has generations of six")

    def test_points_that_were_there_are_not_suggested_again(self):
        ask = pb.SuggestionRequest(sampler="tpe", seed=1, first=0, count=1, points=12, objectives=[pb.SearchObjective(name="o")],
                                   axes=[pb.SearchAxis(name="norm", choice=pb.ChoiceAxis(names=[f"n{i}" for i in range(12)]))])
        history, seen = {}, set()
        for number in range(12):
            ask.first = number
            (values, _), = sampling.suggest(ask, history)
            seen.add(values[0])
            refused = number % 4 == 3  # a refused point is as good as seen
            history[number] = observed(number, values, pb.POINT_STATE_REFUSED if refused else pb.POINT_STATE_FINISHED,
                                       [] if refused else [values[0]])
        self.assertEqual(seen, set(range(12)))

    def test_what_ended_without_a_value_is_avoided(self):
        # Every rate above 1e-3 diverges; below, all are equal.
        rng = random.Random(5)
        history = {}
        for number in range(40):
            lr = LOW * (HIGH / LOW) ** rng.random()
            bad = lr > 1e-3
            history[number] = observed(number, [lr, 4.0], pb.POINT_STATE_FAILED if bad else pb.POINT_STATE_FINISHED,
                                       [] if bad else [1.0 + 1e-3 * rng.random()])
        answers = sampling.suggest(request("tpe", first=40, count=20), history)
        low = sum(values[0] <= 1e-3 for values, _ in answers)
        self.assertGreaterEqual(low, 13, f"of 20, where half of the axis diverges: {[v[0] for v, _ in answers]}")

    def test_conditional_axes_and_categories_are_taken_by_all(self):
        for sampler in sampling.SAMPLERS:
            history = {}
            for number in range(12):
                norm = number % 3
                values = [1e-4 * (number + 1), None if norm == 0 else 3.0, float(norm)]
                history[number] = observed(number, values, objectives=[number / 10])
            history[12] = observed(12, [2e-4, 5.0, 1.0], pb.POINT_STATE_RUNNING)
            history[-1] = observed(-1, [2e-4, 5.0, 2.0], objectives=[0.5])
            history[13] = observed(13, [3e-4, 5.0, 1.0], pb.POINT_STATE_CANCELLED)
            answers = sampling.suggest(request(sampler, first=14, count=2, choices=3, conditional=True), history)
            for values, _ in answers:
                self.assertEqual(len(values), 3)
                self.assertIn(values[2], (0.0, 1.0, 2.0))

    def test_several_objectives(self):
        history = {i: observed(i, list(o.values[j].value for j in range(2)), objectives=[o.objectives[0], -math.log(o.values[0].value)])
                   for i, o in at_random(20).items()}
        for sampler in ("tpe", "nsga2"):
            self.assertEqual(len(sampling.suggest(request(sampler, first=20, count=4, objectives=2), history)), 4)


class Histories(unittest.TestCase):
    def test_what_is_new_joins_what_is_known(self):
        histories = client.Histories()
        whole = histories.of(pb.SuggestionRequest(sweep_id=1, history_hash="a", history=[observed(0, [1.0]), observed(1, [2.0])]))
        self.assertEqual(sorted(whole), [0, 1])
        more = histories.of(pb.SuggestionRequest(sweep_id=1, history_hash="b", since_hash="a", history=[observed(1, [2.0], objectives=[7])]))
        self.assertEqual(more[1].objectives, [7])
        self.assertEqual(histories.names(), [pb.KnownHistory(sweep_id=1, history_hash="b")])
        self.assertIsNone(histories.of(pb.SuggestionRequest(sweep_id=1, history_hash="d", since_hash="c")))
        self.assertEqual(histories.names(), [])


if __name__ == "__main__":
    unittest.main()
