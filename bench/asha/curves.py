"""The benchmark's learning curves, as code: a candidate's loss after each epoch, and the same without noise.

A candidate of a seed is a power law that comes down to an asymptote of its own: clean(t) = a + b * (t + 2) ** -p. Some are sprinters:
they lead early and end in the middle. Of the others the speed is independent of the asymptote. So early leaders that
end worse are common; `describe` counts how many pairs cross. What is seen is clean(t) plus noise of deviation NOISE at each epoch.
An epoch takes 0.5 to 1.5 seconds, by candidate, so that with several workers looks do not come in the order of candidates.

Only random.Random(seed).random() is drawn from, whose sequence Python keeps from version to version.
"""
import math
import random
import struct

CANDIDATES, EPOCHS, SEEDS = 400, 81, 120
NOISE = 0.01
SPRINTERS = 0.15


def normal(draw):
    return math.sqrt(-2 * math.log(1 - draw())) * math.cos(2 * math.pi * draw())


def seed_curves(seed, candidates=CANDIDATES):
    """(noisy, clean, seconds): EPOCHS losses of each candidate, and what one of its epochs takes."""
    draw = random.Random(1_000_003 * seed + 17).random
    noisy, clean, seconds = [], [], []
    for _ in range(candidates):
        sprinter = draw() < SPRINTERS
        asymptote = 1.25 + 0.35 * draw() if sprinter else 1 + 0.5 * draw()
        speed = 1.6 + 0.8 * draw() if sprinter else 0.4 + 0.7 * draw()
        height = 1.5 + draw()
        line = [asymptote + height * (t + 2) ** -speed for t in range(1, EPOCHS + 1)]
        clean.append(line)
        noisy.append([v + NOISE * normal(draw) for v in line])
        seconds.append(0.5 + draw())
    return noisy, clean, seconds


def write(path, seeds, candidates):
    """Of each candidate of each seed the seconds of an epoch, then the noisy losses, as little-endian doubles: for plumb-asha-bench."""
    with open(path, "wb") as out:
        for seed in seeds:
            noisy, _, seconds = seed_curves(seed)
            for each, line in zip(seconds[:candidates], noisy):
                out.write(struct.pack(f"<{EPOCHS + 1}d", each, *line))


def rank_correlation(a, b):
    def ranks(values):
        order = sorted(range(len(values)), key=values.__getitem__)
        out = [0] * len(values)
        for place, i in enumerate(order):
            out[i] = place
        return out
    ra, rb = ranks(a), ranks(b)
    mean = (len(a) - 1) / 2
    top = sum((x - mean) * (y - mean) for x, y in zip(ra, rb))
    return top / sum((x - mean) ** 2 for x in ra)


def describe(seeds):
    """What the curves are like: share of pairs that cross after epoch 1, rank correlation of epochs 1, 9, 27 with the last, and how
    often the leader of epoch 1 ends outside the best tenth."""
    crossing = pairs = fallen = 0
    correlations = {t: [] for t in (1, 9, 27)}
    for seed in seeds:
        clean = seed_curves(seed)[1]
        for i in range(0, 100):
            for j in range(i):
                pairs += 1
                crossing += (clean[i][0] < clean[j][0]) != (clean[i][-1] < clean[j][-1])
        last = [line[-1] for line in clean]
        for t, out in correlations.items():
            out.append(rank_correlation([line[t - 1] for line in clean], last))
        leader = min(range(len(clean)), key=lambda i: clean[i][0])
        fallen += sum(v < last[leader] for v in last) > len(clean) / 10
    n = len(list(seeds))
    return {"pairs_that_cross": crossing / pairs, "leaders_that_fall": fallen / n,
            "rank_correlation": {t: sum(c) / n for t, c in correlations.items()}}


if __name__ == "__main__":
    print(describe(range(10)))
