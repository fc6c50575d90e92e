#!/usr/bin/env python3
"""Writes paired_cases.inc: t tests computed without any statistics library.

Student's distribution function is integrated numerically (t = sqrt(df) tan x, Simpson), its
quantile found by bisection, sums by math.fsum. Run: python3 paired_cases.py > paired_cases.inc
"""

import math
import random


def above_zero(t, df):
    """P(0 < T < t), t >= 0."""
    c = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    end, n = math.atan(t / math.sqrt(df)), 20000
    f = [math.cos(i * end / n) ** (df - 1) for i in range(n + 1)]
    s = f[0] + f[-1] + 4 * math.fsum(f[1:-1:2]) + 2 * math.fsum(f[2:-1:2])
    return c * s * end / n / 3


def quantile(level, df):
    """q with P(|T| < q) = level."""
    low, high = 0.0, 1e4
    for _ in range(90):
        mid = (low + high) / 2
        low, high = (mid, high) if 2 * above_zero(mid, df) < level else (low, mid)
    return (low + high) / 2


def mean(v):
    return math.fsum(v) / len(v)


def error2(v):
    m = mean(v)
    return math.fsum((x - m) ** 2 for x in v) / (len(v) - 1) / len(v)


def paired(a, b, level):
    d = [x - y for x, y in zip(a, b)]
    return mean(d), math.sqrt(error2(d)), len(d) - 1.0, level


def welch(a, b, level):
    ea, eb = error2(a), error2(b)
    df = (ea + eb) ** 2 / (ea**2 / (len(a) - 1) + eb**2 / (len(b) - 1))
    return mean(a) - mean(b), math.sqrt(ea + eb), df, level


def row(kind, a, b, level):
    m, error, df, level = (paired if kind == "paired" else welch)(a, b, level)
    half = quantile(level, df) * error
    p = 1 - 2 * above_zero(abs(m) / error, df)
    words = lambda v: "{" + ", ".join(repr(x) for x in v) + "}"
    print(
        "{.paired = %s, .a = %s, .b = %s, .level = %r, .mean = %r, .low = %r, .high = %r, .error = %r, "
        ".freedom = %r, .p = %r},"
        % (str(kind == "paired").lower(), words(a), words(b), level, m, m - half, m + half, error, df, p)
    )


print("// Written by paired_cases.py.")
print("// clang-format off")
random.seed(7)
for n, level, shift in [(2, 0.95, 0.02), (3, 0.9, 0.005), (5, 0.95, 0.004), (8, 0.99, 0), (20, 0.95, 0.003)]:
    seeds = [random.gauss(1.5, 0.02) for _ in range(n)]
    row("paired", [round(s + shift + random.gauss(0, 0.004), 6) for s in seeds],
        [round(s + random.gauss(0, 0.004), 6) for s in seeds], level)
for n, m, level, spread in [(2, 2, 0.95, 1), (3, 5, 0.9, 4), (8, 3, 0.95, 0.2), (12, 20, 0.99, 1)]:
    row("welch", [round(random.gauss(1.52, 0.02 * spread), 6) for _ in range(n)],
        [round(random.gauss(1.5, 0.02), 6) for _ in range(m)], level)
