"""A plain PyTorch GPT in nanoGPT's CPU configuration: peer.py TRAIN_IDS VAL_IDS VOCAB STEPS FIRST_SEED SEEDS.

Prints "SEED LOSS" for each seed, like ours.cc. Without biases, in the LayerNorms too, as nanoGPT's bias=False.
"""
import math
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

CONTEXT, BATCH, WARMUP, RATE, FINAL_RATE = 64, 12, 100, 1e-3, 1e-4
LAYERS, HEADS, WIDTH = 4, 4, 128


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(WIDTH, bias=False) for _ in range(2))
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (z.view(b, t, HEADS, -1).transpose(1, 2) for z in self.qkv(self.norm1(x)).split(WIDTH, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, WIDTH)
        x = x + self.out(y)
        return x + self.down(F.gelu(self.up(self.norm2(x))))  # nanoGPT's GELU is the exact one


class Gpt(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.embed, self.position = nn.Embedding(vocab, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, p in self.named_parameters():
            if p.dim() >= 2:
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * LAYERS) if name.endswith(("out.weight", "down.weight"))
                                else 0.02)

    def forward(self, ids):
        x = self.embed(ids) + self.position.weight[:ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embed.weight)


def loss_of(model, ids, targets):
    return F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())


def rate(step, steps):
    if step < WARMUP:
        return RATE * (step + 1) / (WARMUP + 1)
    progress = (step - WARMUP) / (steps - WARMUP)
    return FINAL_RATE + 0.5 * (1 + math.cos(math.pi * progress)) * (RATE - FINAL_RATE)


def run(train, val, vocab, steps, seed):
    torch.manual_seed(seed)
    model = Gpt(vocab)
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
         {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}],
        lr=RATE, betas=(0.9, 0.99), fused=True)
    for step in range(steps):
        starts = torch.randint(len(train) - CONTEXT, (BATCH,))
        ids = torch.stack([train[s:s + CONTEXT] for s in starts])
        targets = torch.stack([train[s + 1:s + 1 + CONTEXT] for s in starts])
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        loss = loss_of(model, ids, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 500 == 0:
            print(f"pytorch seed {seed} step {step} loss {loss.item():.4f}", file=sys.stderr, flush=True)
    windows = (len(val) - 1) // CONTEXT
    ids = val[:windows * CONTEXT].view(windows, CONTEXT)
    targets = val[1:windows * CONTEXT + 1].view(windows, CONTEXT)
    with torch.no_grad():
        sums = [loss_of(model, i, t).double() * len(i) for i, t in zip(ids.split(BATCH), targets.split(BATCH))]
    return (sum(sums) / windows).item()


def main():
    torch.set_num_threads(1)
    train, val = (torch.frombuffer(bytearray(open(path, "rb").read()), dtype=torch.int64) for path in sys.argv[1:3])
    vocab, steps, first_seed, seeds = map(int, sys.argv[3:7])
    for seed in range(first_seed, first_seed + seeds):
        print(f"{seed} {run(train, val, vocab, steps, seed):.6f}", flush=True)


if __name__ == "__main__":
    main()
