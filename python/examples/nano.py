#!/usr/bin/env python3
"""A small GPT on a file of text, in the manner of nanoGPT, as a trainer of Plumb:

    plumb worker start --db plumb.db --trainer nano=python/examples/nano.py

and in a sweep file:

    trial: {model: {n_layers: 2, d_model: 64, n_heads: 4}, data: {seq_len: 64}, train: {steps: 200, lr: 1e-3}}
    stages: {run: {external: {trainer: nano, with: {text: /path/to/input.txt, dropout: 0.1}}}}

Needs torch. Characters are bytes; the last tenth of the text is validation.
"""
import math, os, sys

import torch
from torch.nn import functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import plumb_adapter


class Block(torch.nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (y.view(b, t, self.heads, d // self.heads).transpose(1, 2) for y in self.qkv(self.norm1(x)).split(d, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout if self.training else 0.0)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(torch.nn.Module):
    def __init__(self, layers, width, heads, length, dropout):
        super().__init__()
        self.token, self.place = torch.nn.Embedding(256, width), torch.nn.Embedding(length, width)
        self.blocks = torch.nn.Sequential(*[Block(width, heads, dropout) for _ in range(layers)])
        self.norm = torch.nn.LayerNorm(width)

    def forward(self, x, target):
        h = self.token(x) + self.place(torch.arange(x.shape[1]))
        logits = F.linear(self.norm(self.blocks(h)), self.token.weight)  # tied
        return F.cross_entropy(logits.flatten(0, 1), target.flatten())


def batch(text, seed, size, length):
    """A function of its seed alone, so that a run that goes on sees what it would have seen."""
    at = torch.randint(len(text) - length - 1, (size,), generator=torch.Generator().manual_seed(seed))
    rows = torch.stack([text[i:i + length + 1] for i in at.tolist()])
    return rows[:, :-1], rows[:, 1:]


def train(job, restore):
    torch.set_num_threads(1)
    config, more = job["config"], job["with"]
    model, data, schedule = config.get("model", {}), config.get("data", {}), config.get("train", {})
    text = torch.tensor(list(open(more["text"], "rb").read()))
    cut = len(text) * 9 // 10
    length = data.get("seq_len", 64)
    size = max(1, schedule.get("batch_tokens", 8 * length) // length)
    seeds = config.get("seed", {})
    torch.manual_seed(seeds.get("init", 0))
    gpt = GPT(model.get("n_layers", 2), model.get("d_model", 64), model.get("n_heads", 4), length, more.get("dropout", 0.0))
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=schedule.get("lr", 1e-3), betas=(0.9, 0.95))
    if restore:
        saved = torch.load(os.path.join(restore, "state.pt"))
        gpt.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])

    def save(folder):
        torch.save({"model": gpt.state_dict(), "optimizer": optimizer.state_dict()}, os.path.join(folder, "state.pt"))

    for step in range(job["start"] + 1, job["steps"] + 1):
        torch.manual_seed(seeds.get("data", 0) * 1_000_003 + step)  # dropout
        loss = gpt(*batch(text[:cut], seeds.get("data", 0) * 1_000_003 + step, size, length))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
        optimizer.step()
        values = {"train/loss": loss.item()}
        if not math.isfinite(values["train/loss"]):
            raise FloatingPointError("the loss of step %d is not finite" % step)
        if step % more.get("eval_every", 50) == 0 or step == job["steps"]:
            gpt.eval()
            with torch.no_grad():
                losses = [gpt(*batch(text[cut:], i, size, length)).item() for i in range(8)]
            gpt.train()
            values["val/loss"] = sum(losses) / len(losses)
            values["val/bits_per_byte"] = values["val/loss"] / math.log(2)
        yield step, values, save


if __name__ == "__main__":
    plumb_adapter.serve(train)
