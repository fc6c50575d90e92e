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
import signal
import subprocess
import tempfile
import time

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
    with tempfile.TemporaryDirectory(prefix="plumb-gpus-") as folder:
        folder = pathlib.Path(folder)
        db = folder / "g.db"
        plumb, noop = str(args.bin / "plumb"), str(args.bin / "plumb-noop-trainer")

        def ask(*words):
            out = subprocess.run([plumb, *words, "--db", str(db), "-o", "json"], capture_output=True, text=True, env=environment, check=True)
            return json.loads(out.stdout)

        def wait_for(what, condition):
            end = time.monotonic() + 60
            while not condition():
                assert time.monotonic() < end, f"not within a minute: {what}"
                time.sleep(0.05)

        def trainers():
            """{worker's folder: CUDA_VISIBLE_DEVICES} of the trainers that live."""
            found = {}
            for entry in pathlib.Path("/proc").iterdir():
                try:
                    words = (entry / "cmdline").read_bytes().decode().split("\0")
                    if entry.name.isdigit() and words[0] == noop and str(folder) in " ".join(words):
                        variables = dict(v.split("=", 1) for v in (entry / "environ").read_bytes().decode().split("\0") if "=" in v)
                        found[next(w for w in words if str(folder) in w).removeprefix(str(folder)).split("/")[2]] = (
                            variables.get("CUDA_VISIBLE_DEVICES"), variables.get("CUDA_DEVICE_ORDER"))
                except OSError:
                    pass
            return found

        log = open(folder / "log", "w")
        server = subprocess.Popen([plumb, "server", "--db", str(db)], stdout=log, stderr=log, env=environment)
        start = [plumb, "worker", "start", "--db", str(db), "--trainer", noop, "--dir"]
        cpu = subprocess.Popen([*start, str(folder / "cpu"), "--name", "cpu"], stdout=log, stderr=log, env=environment)
        gpus = None
        try:
            wait_for("the CPU worker", lambda: (folder / "g.db.address").exists() and ask("worker", "list"))
            (folder / "s.yaml").write_text(SWEEP)
            subprocess.run([plumb, "sweep", "submit", str(folder / "s.yaml"), "--db", str(db)], check=True, capture_output=True, env=environment)
            why = subprocess.run([plumb, "trial", "explain", "1", "--db", str(db)], capture_output=True, text=True, env=environment).stdout
            assert "label cuda" in why or "labels cuda" in why, why
            refused = subprocess.run([*start, str(folder / "none"), "--gpu", "0"], capture_output=True, text=True, env=environment)
            if not pathlib.Path("/dev/nvidia0").exists():
                assert refused.returncode == 2 and "no GPU is seen" in refused.stderr, refused

            with_gpus = environment | {"LD_LIBRARY_PATH": args.driver}
            gpus = subprocess.Popen([*start, str(folder / "gpus"), "--name", "m", "--gpu", "all"], stdout=log, stderr=log, env=with_gpus)
            wait_for("both workers", lambda: {w["name"] for w in ask("worker", "list")} == {"cpu", "m-gpu0", "m-gpu1"})
            of = {w["name"]: w for w in ask("worker", "list")}
            assert "First" in str(of["m-gpu0"]["devices"]) and "Second" not in str(of["m-gpu0"]["devices"]), of
            assert "Second" in str(of["m-gpu1"]["devices"]) and "First" not in str(of["m-gpu1"]["devices"]), of
            assert "cuda" in str(of["m-gpu0"]["labels"]) and "cuda" not in str(of["cpu"]["labels"]), of
            assert abs(of["m-gpu0"]["memory_gib"] - 72) < 0.1 and abs(of["m-gpu1"]["memory_gib"] - 36) < 0.1, of
            wait_for("trainers", lambda: {"gpu0", "gpu1"} <= set(trainers()))
            assert trainers()["gpu0"] == ("0", "PCI_BUS_ID") and trainers()["gpu1"] == ("1", "PCI_BUS_ID"), trainers()
            wait_for("the sweep", lambda: ask("sweep", "list")[0]["state"] == "completed")
            ran = set()
            for trial in ask("trial", "list"):
                shown = json.dumps(ask("trial", "show", str(trial["id"])))
                assert trial["state"] == "succeeded", trial
                ran |= {name for name in ("m-gpu0", "m-gpu1", '"cpu"') if name in shown}
            assert ran == {"m-gpu0", "m-gpu1"}, ran
            gpus.send_signal(signal.SIGKILL)
            gpus.wait()
            wait_for("the end of its workers", lambda: not any(
                b"--gpu" in p.read_bytes() and str(folder).encode() in p.read_bytes() for p in pathlib.Path("/proc").glob("[0-9]*/cmdline") if p.exists()))
        except BaseException:
            log.flush()
            print((folder / "log").read_text()[-3000:])
            raise
        finally:
            for process in (gpus, cpu, server):
                if process and process.poll() is None:
                    process.terminate()
                    process.wait(30)
            for pid in list(pathlib.Path("/proc").glob("[0-9]*")):  # trainers outlive workers that were killed
                try:
                    if str(folder).encode() in (pid / "cmdline").read_bytes():
                        os.kill(int(pid.name), signal.SIGKILL)
                except OSError:
                    pass
    print("two GPUs, two workers: each its own")


if __name__ == "__main__":
    main()
