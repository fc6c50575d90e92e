#!/usr/bin/env python3
"""Writes probes.json: states with labels, and the ridge and logistic probes of scikit-learn on them, in float64, sharing nothing with the trainer.

    pip install --target /tmp/reference scikit-learn==1.7.2 joblib threadpoolctl
    PYTHONPATH=/tmp/reference python3 tests/trainer/probes/make_probe_fixtures.py

Run once and kept; the test reads the file.
"""
import json
import pathlib

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler


def in_x(w, b, scaler):
    """A map of standardised states as a map of the states."""
    w = w / scaler.scale_[:, None]
    return w, b - scaler.mean_ @ w


def case(name, x, label, held_out, held_out_label, ridge_penalty, logistic_penalty):
    n, classes = len(x), int(label.max()) + 1
    scaler = StandardScaler().fit(x)
    z, z_held_out = scaler.transform(x), scaler.transform(held_out)
    hot = np.eye(classes)[label]
    # scikit-learn sums over examples where we average.
    ridge = Ridge(alpha=n * ridge_penalty, solver="svd").fit(z, hot)
    rw, rb = in_x(ridge.coef_.T, ridge.intercept_, scaler)
    logistic = LogisticRegression(C=1 / (n * logistic_penalty), tol=1e-12, max_iter=100000, solver="newton-cg").fit(z, label)
    p = logistic.predict_proba(z)
    loss = -np.log(p[np.arange(n), label]).mean()
    objective = loss + logistic_penalty / 2 * (logistic.coef_**2).sum()
    p_held_out = logistic.predict_proba(z_held_out)
    return {"name": name, "x": x.tolist(), "label": label.tolist(), "held_out": held_out.tolist(), "held_out_label": held_out_label.tolist(),
            "classes": classes, "ridge_penalty": ridge_penalty, "logistic_penalty": logistic_penalty,
            "ridge_weight": rw.tolist(), "ridge_bias": rb.tolist(),
            "ridge_accuracy": float((ridge.predict(z_held_out).argmax(1) == held_out_label).mean()),
            "logistic_objective": float(objective), "logistic_loss": float(loss),
            "held_out_loss": float(-np.log(p_held_out[np.arange(len(held_out)), held_out_label]).mean()),
            "held_out_accuracy": float((p_held_out.argmax(1) == held_out_label).mean())}


def main():
    random = np.random.default_rng(7)
    n, m, d, classes = 60, 24, 5, 3
    mix = random.normal(size=(d, d))
    towards = random.normal(size=(d, classes))

    def draw(count, scale):
        x = np.round(random.normal(size=(count, d)) @ mix + 3, 4)
        label = ((x - 3) @ towards + scale * random.gumbel(size=(count, classes))).argmax(1)
        return x, label

    x, label = draw(n, 2.0)
    held_out, held_out_label = draw(m, 2.0)
    massive, massive_held_out = x.copy(), held_out.copy()
    massive[:, 2], massive_held_out[:, 2] = np.round(massive[:, 2] * 1e5), np.round(massive_held_out[:, 2] * 1e5)
    out = [case("noisy", x, label, held_out, held_out_label, 1e-2, 1e-3),
           case("strongly penalised", x, label, held_out, held_out_label, 10, 1),
           case("massive", massive, label, massive_held_out, held_out_label, 1e-3, 1e-2)]
    easy, easy_label = draw(n, 0.0)
    out.append(case("separable", easy, easy_label, held_out, held_out_label, 1e-6, 1e-5))
    text = "[\n" + ",\n".join(json.dumps(c) for c in out) + "\n]\n"
    (pathlib.Path(__file__).parent / "probes.json").write_text(text)


if __name__ == "__main__":
    main()
