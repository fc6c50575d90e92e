#!/usr/bin/env python3
"""Does transformers compute from an export what the trainer computes from the checkpoint? By hand; needs transformers.

  python tests/local/hf_round_trip.py build/release/bin/round_trip                    the parity fixtures
  python tests/local/hf_round_trip.py build/release/bin/round_trip CHECKPOINT...      trials' checkpoints (step-...)
"""
import json
import os
import subprocess
import sys
import tempfile

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "trainer_parity", "hf")


def compare(program, name, folder):
    with tempfile.TemporaryDirectory() as out:
        torch.manual_seed(0)
        ids = torch.randint(0, 40, (1, 12))
        subprocess.run([program, folder, out, *map(str, ids[0].tolist())], check=True, stdout=subprocess.DEVNULL)
        model, info = AutoModelForCausalLM.from_pretrained(out + "/hf", attn_implementation="eager", output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
        with torch.no_grad():
            theirs = model(input_ids=ids).logits[0]
        ours = load_file(out + "/logits.safetensors")["logits"]
        relative = ((ours - theirs).abs().max() / theirs.abs().max()).item()
        print(f"{name:12} {type(model).__name__:20} logits up to {theirs.abs().max():.3f}, difference {relative:.1e} of that")
        return relative < 2e-5


def main():
    program, checkpoints = sys.argv[1], sys.argv[2:]
    good = [compare(program, os.path.basename(c), c) for c in checkpoints]
    for name in sorted(os.listdir(FIXTURES)) if not checkpoints else []:
        if not name.endswith(".safetensors"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(FIXTURES, name)
            with safe_open(path, "pt") as f:
                config = json.loads(f.metadata()["config"])
            config["dtype"] = "float32"
            with open(folder + "/config.json", "w") as f:
                json.dump(config, f)
            weights = {k: v.float() for k, v in load_file(path).items()
                       if k not in ("input_ids", "logits", "loss") and not k.startswith("grad.")}
            save_file(weights, folder + "/model.safetensors")
            try:
                good.append(compare(program, name.split(".")[0], folder))
            except subprocess.CalledProcessError:
                print(f"{name}: not exported")
                good.append(False)
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
