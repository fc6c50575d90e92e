#!/usr/bin/env python3
"""Our scores beside those of the paper's own package on the same hidden states.

    python3 bench/linearity/beside.py CHECKPOINT IDS.json [--length 64] [--texts 64] [--package FOLDER]
    python3 bench/linearity/beside.py CHECKPOINT --corpus DIR [--split tune] [--tokens 0] [--length 64] [--package FOLDER]

CHECKPOINT is a folder step-… of ours, trained or imported; IDS.json a list of token ids, or an object with "ids"; texts are windows of it, evenly
begun. DIR is a prepared corpus, of whose split the windows are read that stage `linearity` fits on, so that our scores are the stage's. FOLDER holds llm_microscope/functions.py, as `pip download --no-deps llm-microscope==0.0.7` and unzipping leave it (the package
as such cannot be imported: it imports its second module by the wrong name). Needs torch; plots are not drawn.
"""
import argparse
import array
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import types

import torch

HERE = pathlib.Path(__file__).parent


def load(folder):
    for name in ("matplotlib", "matplotlib.pyplot"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["matplotlib"].pyplot = sys.modules["matplotlib.pyplot"]
    spec = importlib.util.spec_from_file_location("functions", pathlib.Path(folder) / "llm_microscope" / "functions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tokens_of(path):
    """A split's tokens (data/dataset.h)."""
    data = path.read_bytes()
    magic, _, count = array.array("i", data[:12])
    tokens = array.array("I" if magic == 20240801 else "H", data[1024:])
    assert len(tokens) == count, f"{path}: {len(tokens)} tokens, not {count}"
    return tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("ids", nargs="?")
    parser.add_argument("--corpus", type=pathlib.Path)
    parser.add_argument("--split", default="tune")
    parser.add_argument("--tokens", type=int, default=0, help="0: 50 for each of d_model")
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--package", required=True)
    a = parser.parse_args()
    build = os.environ.get("PLUMB_BUILD", str(HERE / ".." / ".." / "build" / "release"))
    theirs = load(a.package)
    if (a.ids is None) == (a.corpus is None):
        parser.error("give IDS.json or --corpus, one of them")
    if a.corpus:
        ids = tokens_of(a.corpus / f"{a.split}.bin")
        d = json.loads(pathlib.Path(a.checkpoint, "manifest.json").read_text())["config"]["model"]["d_model"]
        full = len(ids) // a.length
        texts = min(full, -(-(a.tokens or 50 * d) // a.length))
        starts = [i * full // texts * a.length for i in range(texts)]
    else:
        ids = json.loads(pathlib.Path(a.ids).read_text())
        ids = ids["ids"] if isinstance(ids, dict) else ids
        starts = [i * (len(ids) - a.length) // max(1, a.texts - 1) for i in range(a.texts)]
    with tempfile.TemporaryDirectory() as folder:
        flat = array.array("i", [t for s in starts for t in ids[s:s + a.length]])
        pathlib.Path(folder, "ids").write_bytes(flat.tobytes())
        said = subprocess.run([f"{build}/bin/bench_linearity_states", a.checkpoint, f"{folder}/ids", str(a.length), folder],
                              capture_output=True, text=True, check=True)
        ours = json.loads(said.stdout)
        states = [torch.frombuffer(bytearray(pathlib.Path(folder, f"h{i}.f32").read_bytes()), dtype=torch.float32).view(-1, ours["d"])
                  for i in range(len(ours["scores"]) + 1)]
    print(f"{ours['n']} tokens, width {ours['d']}")
    print("move        ours    float64    float32 |  without   float64    float32   centred | anisotropy   theirs")
    worst = 0.0
    for s in ours["scores"]:
        x, y = states[s["from"]], states[s["to"]]
        with_residual = [theirs.procrustes_similarity(x.to(t), y.to(t)) for t in (torch.float64, torch.float32)]
        without = [theirs.procrustes_similarity(x.to(t), y.to(t) - x.to(t)) for t in (torch.float64, torch.float32)]
        centred = theirs.procrustes_similarity_centered(x, y)
        anisotropy = theirs.calculate_anisotropy_torch(y.to(torch.float64))
        worst = max(worst, abs(with_residual[0] - s["score"]), abs(without[0] - s["score_without"]), abs(anisotropy - s["anisotropy"]))
        print(f"h{s['from']} -> h{s['to']}  {s['score']:.6f}  {with_residual[0]:.6f}  {with_residual[1]:10.4g} | {s['score_without']:.6f}  {without[0]:.6f}"
              f"  {without[1]:10.4g}  {centred!s:>8} | {s['anisotropy']:.6f}  {anisotropy:.6f}  rank {s['rank']}")
    print(f"largest difference in float64: {worst:.2g}")


if __name__ == "__main__":
    main()
