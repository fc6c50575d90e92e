#!/usr/bin/env python3
"""python/trainer_conformance.py over the trainers of this tree: each must pass.

    conformance_test.py --bin BUILD/bin --trainer noop|commands|adapter|nano|torch [--python PYTHON]
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))

# As a command: the same arithmetic whether it was asked to leave or not.
COMMAND = """
import json, os, signal, sys, time
job = json.load(sys.stdin)
leave = []
signal.signal(signal.SIGTERM, lambda *_: leave.append(1))
at = job["checkpoint"] or {}
x = json.load(open(at["path"] + "/x.json")) if at else 1.0
last = job["until_step"] if 0 <= job["until_step"] < job["steps"] else job["steps"]
for step in range((at["step"] if at else 0) + 1, last + 1):
    x = x * 0.9 + step % 3
    time.sleep(job["with"].get("pause", 0))
    print(json.dumps({"step": step, "values": {"train/loss": x}}))
    if step == last or leave:
        os.makedirs("keep")
        with open("keep/x.json", "w") as f:
            json.dump(x, f)
        print(json.dumps({"checkpoint": "keep", "step": step}), flush=True)
    if leave:
        break
"""
TINY = """#!PYTHON
import sys
sys.path.insert(0, "ROOT/python")
import json, plumb_adapter

def train(job, restore):
    x = json.load(open(restore + "/x.json")) if restore else 1.0
    def save(folder):
        with open(folder + "/x.json", "w") as f:
            json.dump(x, f)
    for step in range(job["start"] + 1, job["steps"] + 1):
        x = x * 0.9 + step % 3
        yield step, {"train/loss": x}, save

plumb_adapter.serve(train)
"""


def job_of(args, folder):
    """(job.json, program)"""
    plumb = str(args.bin / "plumb")
    steps = {"steps": 20, "checkpoints": True, "same": "train/loss"}
    many = 10 ** 9
    if args.trainer == "noop":
        return {"kind": "noop", "stage": {"steps": 7}, "steps": 7, "long": {"stage": {"seconds": 1000, "steps": 7}},
                "checkpoints": False}, [str(args.bin / "plumb-noop-trainer")]
    if args.trainer == "commands":
        script = folder / "script.py"
        script.write_text(COMMAND)
        stage = {"command": [args.python, str(script)], "steps": 20}
        return dict(steps, kind="external", config={"train": {"steps": 20}}, stage=stage, on_request=False,
                    long={"stage": dict(stage, steps=many, **{"with": {"pause": 0.01}})}), [plumb, "__commands"]
    if args.trainer == "adapter":
        program = folder / "tiny.py"
        program.write_text(TINY.replace("PYTHON", args.python).replace("ROOT", str(ROOT)))
        program.chmod(0o755)
        return dict(steps, kind="external", stage={"trainer": "tiny", "steps": 20},
                    long={"stage": {"trainer": "tiny", "steps": many}}), [str(program)]
    if args.trainer == "nano":
        (folder / "text").write_bytes(b"".join(p.read_bytes() for p in sorted((ROOT / "docs").glob("*.md"))))
        config = {"model": {"n_layers": 1, "d_model": 16, "n_heads": 2}, "data": {"seq_len": 16}, "train": {"batch_tokens": 64}}
        settings = {"text": str(folder / "text"), "dropout": 0.1}
        return dict(steps, kind="external", config=config, stage={"trainer": "nano", "steps": 20, "with": settings},
                    long={"stage": {"trainer": "nano", "steps": many, "with": settings}}), [args.python, str(ROOT / "python/examples/nano.py")]
    from corpus import write_corpus
    write_corpus(folder / "data")
    config = {"model": {"preset": "llama", "d_model": 32, "head_dim": 16, "n_layers": 2, "vocab_size": 256},
              "data": {"corpus": "source", "tokenizer": "bytes", "seq_len": 32},
              "train": {"steps": 20, "batch_tokens": 256, "lr": 3e-3, "log_every": 10},
              "eval": {"points": 1, "tokens": 1024, "train_tokens": 1024, "final_tokens": 1024},
              "execution": {"threads": 1, "checkpoint_steps": 50}}
    long = dict(config, train=dict(config["train"], steps=1_000_000))
    return dict(steps, kind="pretrain", config=config, stage={}, long={"config": long},
                data_dir=str(folder / "data/source/bytes")), [str(args.bin / "plumb-trainer")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=lambda p: pathlib.Path(p).resolve(), required=True)
    parser.add_argument("--trainer", required=True)
    parser.add_argument("--python", default=sys.executable)
    args = parser.parse_args()
    if args.trainer == "nano" and subprocess.run([args.python, "-c", "import torch"], capture_output=True).returncode != 0:
        print("skipped: no torch for " + args.python)
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="plumb-conformance-") as folder:
        folder = pathlib.Path(folder)
        job, program = job_of(args, folder)
        (folder / "job.json").write_text(json.dumps(job))
        sys.exit(subprocess.run([sys.executable, str(ROOT / "python/trainer_conformance.py"), "--job", str(folder / "job.json"), "--",
                                 *program], env=dict(os.environ, OMP_NUM_THREADS="1")).returncode)


if __name__ == "__main__":
    main()
