#!/usr/bin/env python3
"""Writes linearity.json: states and their scores, by NumPy's least squares in float64, sharing nothing with the trainer.

    python3 tests/trainer/linearity/make_linearity_fixtures.py

Run once and kept; the test reads the file.
"""
import json
import pathlib

import numpy as np


def left(x, y):
    """The squared error that least squares leave of y, centred."""
    x, y = x - x.mean(0), y - y.mean(0)
    a = np.linalg.lstsq(x, y, rcond=1e-12)[0]
    return ((y - x @ a) ** 2).sum(), (y**2).sum()


def scores(x, y):
    n, rank = len(x), int(np.linalg.matrix_rank(x - x.mean(0), rtol=1e-12))
    f = y - x
    error, all_y = left(x, y)
    error_f, all_f = left(x, f)
    one, other = 1 - error / all_y, 1 - error_f / all_f
    of_dimensions = [1 - e / a for e, a in (left(x, y[:, j:j + 1]) for j in range(y.shape[1]))]
    adjusted = 1 - (1 - one) * (n - 1) / (n - 1 - rank)
    s = np.linalg.svd(x - x.mean(0), compute_uv=False)
    rho = float(np.sqrt(all_f / ((x - x.mean(0)) ** 2).sum()))
    return {"n": n, "rank": rank, "score": one, "score_without": other, "adjusted": adjusted, "standardized": float(np.mean(of_dimensions)),
            "rho": rho, "anisotropy": float(s[0]**2 / (s**2).sum())}


def main():
    random = np.random.default_rng(4)
    n, d = 60, 5
    x = np.round(random.normal(size=(n, d)) @ random.normal(size=(d, d)) + 3, 4)
    bent = np.round(x + 0.4 * np.tanh(x @ random.normal(size=(d, d))), 4)
    massive = x.copy()
    massive[:, 2] = np.round(massive[:, 2] * 1e5)
    deficient = x.copy()
    deficient[:, 4] = deficient[:, 1]
    cases = {"bent": (x, bent), "unrelated": (x, np.round(random.normal(size=(n, d)), 4)), "massive": (massive, bent), "deficient": (deficient, bent),
             "small move": (x, x + np.round(1e-3 * random.normal(size=(n, d)), 6))}
    out = [{"name": name, "x": a.tolist(), "y": b.tolist(), **scores(a, b)} for name, (a, b) in cases.items()]
    text = "[\n" + ",\n".join(json.dumps(c) for c in out) + "\n]\n"
    (pathlib.Path(__file__).parent / "linearity.json").write_text(text)


if __name__ == "__main__":
    main()
