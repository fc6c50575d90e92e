#!/usr/bin/env python3
"""A worker for each GPU of a machine, whose driver library is one with two GPUs (two_gpus.cc); nothing here computes on a GPU.

Each worker says the one GPU it has and its memory, its trainer sees that one alone, and a trial on a GPU goes to such workers only.
Killed without a word, the program takes its workers with it.

    gpus.py --bin BUILD/bin --driver FOLDER_OF_LIBNVIDIA_ML
"""
import argparse
import json
import os
import pathlib
import tempfile

from cluster import CommandLineCluster

SWEEP = """sweep: on-gpus
trial: {numerics: {device: cuda}}
axes: {train.lr: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}
stages:
  work: {noop: {seconds: 0.2}}
"""


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--bin", required=True, type=pathlib.Path)
    options.add_argument("--driver", required=True)
    args = options.parse_args()
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    noop = str(args.bin / "plumb-noop-trainer")
    with tempfile.TemporaryDirectory(prefix="plumb-gpus-") as folder:
        cluster = CommandLineCluster(pathlib.Path(folder) / "c", args.bin / "plumb", ("--trainer", noop, "--name", "cpu"), environment)

        def ask(*words):
            return json.loads(cluster.ask(*words, "-o", "json")[1])

        def trainers():
            """{worker's folder: CUDA_VISIBLE_DEVICES} of the trainers that live."""
            found = {}
            for pid, words in cluster.processes().items():
                try:
                    variables = dict(v.split("=", 1) for v in pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0") if "=" in v)
                except OSError:
                    continue
                if words[0] == noop:
                    place = next(w for w in words if str(cluster.folder) in w).removeprefix(str(cluster.folder))
                    found[place.split("/")[2]] = (variables.get("CUDA_VISIBLE_DEVICES"), variables.get("CUDA_DEVICE_ORDER"))
            return found

        try:
            cluster.start_server()
            cluster.start_worker()
            cluster.wait_for("the CPU worker", lambda: ask("worker", "list"))
            (cluster.folder / "s.yaml").write_text(SWEEP)
            cluster.ask("sweep", "submit", "s.yaml")
            why = cluster.ask("trial", "explain", 1, expect=None)[1]
            assert "label cuda" in why or "labels cuda" in why, why
            code, _, refused = cluster.ask("worker", "start", "--trainer", noop, "--dir", cluster.folder / "none", "--gpu", 0, expect=None)
            if not pathlib.Path("/dev/nvidia0").exists():
                assert code == 2 and "no GPU is seen" in refused, (code, refused)

            gpus = cluster.spawn("worker", "start", "--trainer", noop, "--dir", cluster.folder / "gpus", "--name", "m", "--gpu", "all",
                                 environment=environment | {"LD_LIBRARY_PATH": args.driver})
            cluster.workers.append(gpus)
            cluster.wait_for("both workers", lambda: {w["name"] for w in ask("worker", "list")} == {"cpu", "m-gpu0", "m-gpu1"})
            of = {w["name"]: w for w in ask("worker", "list")}
            assert "First" in str(of["m-gpu0"]["devices"]) and "Second" not in str(of["m-gpu0"]["devices"]), of
            assert "Second" in str(of["m-gpu1"]["devices"]) and "First" not in str(of["m-gpu1"]["devices"]), of
            assert "cuda" in str(of["m-gpu0"]["labels"]) and "cuda" not in str(of["cpu"]["labels"]), of
            assert abs(of["m-gpu0"]["memory_gib"] - 72) < 0.1 and abs(of["m-gpu1"]["memory_gib"] - 36) < 0.1, of
            cluster.wait_for("trainers", lambda: {"gpu0", "gpu1"} <= set(trainers()))
            assert trainers()["gpu0"] == ("0", "PCI_BUS_ID") and trainers()["gpu1"] == ("1", "PCI_BUS_ID"), trainers()
            cluster.wait_for("the sweep", lambda: cluster.states() == ["completed"])
            ran = set()
            for trial in ask("trial", "list"):
                shown = json.dumps(ask("trial", "show", trial["id"]))
                assert trial["state"] == "succeeded", trial
                ran |= {name for name in ("m-gpu0", "m-gpu1", '"cpu"') if name in shown}
            assert ran == {"m-gpu0", "m-gpu1"}, ran
            gpus.kill()
            gpus.wait()
            cluster.wait_for("the end of its workers", lambda: not any("--gpu" in words for words in cluster.processes().values()))
        except BaseException:
            print((cluster.folder / "log").read_text()[-3000:])
            raise
        finally:
            cluster.stop()
    print("two GPUs, two workers: each its own")


if __name__ == "__main__":
    main()
