#!/usr/bin/env python3
"""Five steps of each optimizer on a matrix and a vector, by torch.optim, Hugging Face's Adafactor, and a float64 Muon.

    python make_optimizer_fixtures.py        # writes fixtures.json beside this file; needs torch, transformers
"""
import json
import os

import torch
from transformers.optimization import Adafactor as HfAdafactor

torch.set_default_dtype(torch.float64)
STEPS, LR, DECAY = 5, 0.02, 0.1
generator = torch.Generator().manual_seed(4)
W, B = torch.randn(6, 4, generator=generator), torch.randn(5, generator=generator)
GRADS = [(torch.randn(6, 4, generator=generator), torch.randn(5, generator=generator)) for _ in range(STEPS)]


def run(make):
    """make([w, b]) -> optimizers. The trajectory of both parameters."""
    w, b = W.clone().requires_grad_(True), B.clone().requires_grad_(True)
    optimizers = make(w, b)
    out = []
    for gw, gb in GRADS:
        w.grad, b.grad = gw.clone(), gb.clone()
        for o in optimizers:
            o.step()
        out.append({"w": w.detach().flatten().tolist(), "b": b.detach().tolist()})
    return out


def groups(w, b):
    return [{"params": [w], "weight_decay": DECAY}, {"params": [b], "weight_decay": 0.0}]


class Muon:
    """Jordan 2024: Nesterov momentum, five Newton-Schulz steps, scale of arXiv 2502.16982; decoupled decay."""

    def __init__(self, w, momentum):
        self.w, self.m, self.momentum = w, torch.zeros_like(w), momentum

    def step(self):
        g = self.w.grad
        self.m = self.momentum * self.m + g
        u = g + self.momentum * self.m
        x = u / (torch.linalg.norm(u) + 1e-7)
        for _ in range(5):
            a = x.T @ x if x.shape[0] > x.shape[1] else x @ x.T
            poly = -4.7750 * a + 2.0315 * a @ a
            x = 3.4445 * x + (x @ poly if x.shape[0] > x.shape[1] else poly @ x)
        self.w.data = self.w.data * (1 - LR * DECAY) - LR * 0.2 * max(x.shape) ** 0.5 * x


out = {
    "steps": STEPS, "lr": LR, "decay": DECAY, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "momentum": 0.9,
    "w": W.flatten().tolist(), "b": B.tolist(),
    "grads": [{"w": gw.flatten().tolist(), "b": gb.tolist()} for gw, gb in GRADS],
    "adamw": run(lambda w, b: [torch.optim.AdamW(groups(w, b), lr=LR, betas=(0.9, 0.95), eps=1e-8)]),
    "adam": run(lambda w, b: [torch.optim.Adam(groups(w, b), lr=LR, betas=(0.9, 0.95), eps=1e-8)]),
    "sgd": run(lambda w, b: [torch.optim.SGD(groups(w, b), lr=LR, momentum=0.9)]),
    "adafactor": run(lambda w, b: [torch.optim.Adafactor(groups(w, b), lr=LR)]),
    "adafactor_hf": run(lambda w, b: [HfAdafactor([w, b], lr=LR, scale_parameter=True, relative_step=False, warmup_init=False)]),
    "muon": run(lambda w, b: [Muon(w, 0.9), torch.optim.AdamW([b], lr=LR, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)]),
}
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures.json"), "w") as f:
    json.dump(out, f)
print({k: v[-1]["w"][:2] for k, v in out.items() if isinstance(v, list) and k.startswith(("ad", "sgd", "muon"))})
