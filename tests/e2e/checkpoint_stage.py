#!/usr/bin/env python3
"""Stages on a model's folder without a sweep: what they say is what a sweep's stages say, to the last bit.

A sweep trains three tiny models, of bytes, SentencePiece tokens and byte-level BPE, scores and prunes them. Then the same stages run on the checkpoint's
folder and on its Hugging Face export with `plumb stage run KIND --checkpoint`: every series, record and document's score must be equal on the
sweep's corpus, and equal between the two folders on a text. Then bad input, Ctrl-C and kill -9, after which nothing may be left.

    checkpoint_stage.py --bin BUILD/bin [--keep]
"""
import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import time

from cluster import ROOT, CommandLineCluster

SWEEP = """sweep: models
trial:
  model: {preset: llama, d_model: 32, head_dim: 16, n_layers: 3}
  data: {corpus: notes, seq_len: 32}
  train: {steps: 40, batch_tokens: 512, lr: 0.01, warmup_steps: 5}
  eval: {points: 1, tokens: 1024, train_tokens: 0, final_tokens: 1024}
  execution: {threads: 1}
axes: {data.tokenizer: [bytes, sentencepiece: 400, "BPE"]}
allow: [more_than_one_epoch]
stages:
  run: {pretrain: {}}
  linearity: {from: run, linearity: {logit_lens: true}}
  evaluate: {from: run, evaluate: {splits: [val, test]}}
  prune: {from: run, prune: {distil_steps: 4, distil_windows: 2}}
  task: {from: run, task: {format: blimp, file: pairs.jsonl}}
"""
PAIRS = [{"sentence_good": f"the {a} holds the {b}", "sentence_bad": f"{a} the holds {b} the", "UID": "order"} for a, b in (("bell", "lamp"), ("river", "letter"))]
SETTINGS = {"linearity": "logit_lens: true", "evaluate": "splits: [val, test]", "prune": "distil_steps: 4, distil_windows: 2",
            "task": "format: blimp, file: pairs.jsonl"}
MEASURED = ("tokens_per_second",)  # of the machine, not of the model


def write_text(path, rng, paragraphs):
    nouns, verbs = "bell river lamp clerk orchard engine window valley letter harbour".split(), "holds follows answers keeps turns".split()
    with open(path, "w") as out:
        for i in range(paragraphs):
            words = [f"{rng.choice(nouns)} {rng.choice(verbs)} the {rng.choice(nouns)}" for _ in range(rng.randint(4, 12))]
            out.write(f"Note {i}: " + ", ".join(words) + ".\n\n")


def without(data):
    return {k: v for k, v in data.items() if k not in MEASURED}


class Work(CommandLineCluster):
    def __init__(self, folder, plumb):
        super().__init__(folder, plumb, ("--slots", 2))
        self.temporary = folder / "tmp"  # of commands on a model's folder
        self.temporary.mkdir()
        self.with_temporary = {**os.environ, "TMPDIR": str(self.temporary)}
        (folder / "pairs.jsonl").write_text("".join(json.dumps(p) + "\n" for p in PAIRS))

    def stage(self, kind, checkpoint, *words, expect=0):
        """The result of one stage; where it is to fail, what it said."""
        command = [self.plumb, "stage", "run", kind, "--checkpoint", str(checkpoint), "--threads", "1", "-o", "json", *map(str, words)]
        out = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=self.with_temporary, timeout=120)
        assert out.returncode == expect, f"{command}: {out.returncode}, not {expect}\n{out.stdout[-2000:]}\n{out.stderr}"
        assert self.left() == [], f"{command} left {self.left()}"
        return json.loads(out.stdout) if expect == 0 else out.stderr

    def left(self):
        return sorted(p.name for p in self.temporary.iterdir())

    def of_sweep(self, trial, stage):
        """The same three of a sweep's stage."""
        where = f"FROM stage g JOIN {{}} ON g.id = {{}}.stage_id WHERE g.trial_id = {trial} AND g.name = '{stage}'"
        series = self.query("SELECT series.name, series.layer, m.value " + where.format("series", "series").replace(
            "WHERE", "JOIN measurement m ON m.series_id = series.id WHERE"))
        records = self.query("SELECT record.kind, record.name, record.idx, record.data_json " + where.format("record", "record"))
        documents = self.query("SELECT d.split, d.document, d.nll, d.tokens, d.bytes " + where.format("document_score d", "d"))
        return ({(n, l): v for n, l, v in series}, {(k, n, i): without(json.loads(d)) for k, n, i, d in records},
                {(s, d): (nll, t, b) for s, d, nll, t, b in documents})


def parts(result):
    series = {(s["series"], -1 if s["layer"] is None else s["layer"]): s["value"] for s in result["series"]}
    records = {(r["kind"], r["name"], r["idx"]): without(r["data"]) for r in result["records"]}
    documents = {(split, d["document"]): (d["nll"], d["tokens"], d["bytes"]) for split, rows in result["documents"].items() for d in rows}
    return series, records, documents


def train(work):
    write_text(work.folder / "notes.txt", random.Random(1), 700)
    write_text(work.folder / "other.txt", random.Random(2), 500)
    for tokenizer in ("bytes", "sentencepiece:400", ROOT / "tests" / "data" / "bpe" / "neox.json"):
        made = json.loads(work.ask("data", "prepare", "notes", "--text", "notes.txt", "--tokenizer", tokenizer, "-o", "json")[1])["tokenizer"]
    assert made.startswith("bpe:"), made
    (work.folder / "sweep.yaml").write_text(SWEEP.replace("BPE", made))
    work.start_server()
    work.start_worker()
    work.ask("sweep", "submit", "sweep.yaml")
    work.wait_for("the sweep", lambda: work.states() == ["completed"])
    states = work.query("SELECT DISTINCT state FROM stage")
    assert states == [("succeeded",)], states
    models = {}
    for trial, tokenizer, path in work.query("SELECT t.id, t.tokenizer, g.checkpoint_path FROM trial t JOIN stage g ON g.trial_id = t.id WHERE g.name = 'run'"):
        export = work.folder / f"hf-{trial}"
        work.ask("model", "export", path, "--out", export)
        corpus = work.folder / "data" / "notes" / tokenizer.replace(":", "-")
        models[trial] = (tokenizer, pathlib.Path(path), export, corpus)
    assert len(models) == 3, models
    return models


def equal(work, models):
    compared = 0
    for trial, (tokenizer, ours, export, corpus) in models.items():
        for kind, settings in SETTINGS.items():
            expected = work.of_sweep(trial, kind)
            for folder in (ours, export):
                got = parts(work.stage(kind, folder, "--data", corpus, "--settings", settings))
                for mine, theirs in zip(got, expected):
                    assert mine.keys() == theirs.keys(), f"{kind} of {folder}: {mine.keys() ^ theirs.keys()}"
                    other = [(k, mine[k], theirs[k]) for k in mine if mine[k] != theirs[k]]
                    assert not other, f"{kind} of {folder}: {other[:5]}"
                    compared += len(mine)
            assert any(expected), f"{kind} has said nothing"
    return compared


def text(work, models):
    for trial, (tokenizer, ours, export, corpus) in models.items():
        of = {}
        for folder in (ours, export, ours.parent):
            result = work.stage("evaluate", folder, "--text", "other.txt", "--settings", "splits: [tune, val, test]", "--out", "out.json")
            assert json.loads((work.folder / "out.json").read_text()) == result
            assert result["corpus"]["tokenizer"] == tokenizer, result["corpus"]
            splits = result["corpus"]["splits"]
            assert sum(s["documents"] for s in splits.values()) > 100 and splits["tune"]["tokens"] > splits["val"]["tokens"], splits
            of[folder] = parts(result)
        first = of[ours]
        assert all(o == first for o in of.values()), f"{tokenizer}: the same model scores otherwise"
        # It has learnt this kind of text; 400 tokens alike would be ln 400.
        assert first[0][("evaluate/test/loss", -1)] < (2.5 if tokenizer == "bytes" else 4.5), first[0]
        said = work.stage("probe", export, "--settings", "prompts: [Note], top_k: 3")
        assert [r["kind"] for r in said["records"]] == ["topk"] and len(said["records"][0]["data"]["candidates"]) == 3, said["records"]
        said = work.stage("task", export, "--settings", SETTINGS["task"])  # reads no text
        assert parts(said) == work.of_sweep(trial, "task"), said
        out = subprocess.run([work.plumb, "stage", "run", "prune", "--checkpoint", str(export), "--text", "other.txt", "--settings", "methods: [remove]"],
                             capture_output=True, text=True, cwd=work.folder, env=work.with_temporary, check=True)
        assert "layers_removed  method" in out.stdout and "stream_error" in out.stdout, out.stdout


def refused(work, models):
    _, _, export, corpus = models[2]
    empty = work.folder / "empty"
    empty.mkdir()
    bare = work.folder / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((export / name).read_bytes())
    (work.folder / "short.txt").write_text("One line.\n\nAnother.\n")
    (work.folder / "few").mkdir()
    for i in range(60):
        (work.folder / "few" / f"{i}.txt").write_text(f"word {i * i} of {i}")
    work.ask("data", "prepare", "few", "--text", "few")
    on = ("--text", "other.txt")
    for said, code, words in (
            ("nowhere: no such folder", 3, ("linearity", "nowhere", *on)),
            ("neither a Hugging Face model (config.json) nor a checkpoint", 3, ("linearity", empty, *on)),
            ("no tokenizer.model and no tokenizer.json\ngive --tokenizer FILE", 3, ("linearity", bare, *on)),
            ("did you mean linearity?", 2, ("lineraity", export, *on)),
            ("with --checkpoint: ", 2, ("external", export, *on, "--settings", "command: [ls]")),
            ("give --text FILE", 2, ("evaluate", export)),
            ("give --text FILE", 2, ("evaluate", export, *on, "--data", corpus)),
            ("other.text: no such file", 3, ("evaluate", export, "--text", "other.text")),
            ("is too small to leave something", 2, ("evaluate", export, "--text", "short.txt")),
            ("the text is too small: its tune split has", 2, ("linearity", models[1][1], "--data", work.folder / "data" / "few" / "bytes")),
            ("made for texts of 32 tokens at most", 2, ("evaluate", export, *on, "--seq-len", 64)),
            ("leave --sweep, --trial", 2, ("evaluate", export, *on, "--where", "n_layers > 1")),
            ("cannot be written to", 3, ("evaluate", export, *on, "--out", "no/such/folder.json")),
            ("cannot be started; give --trainer", 3, ("evaluate", export, *on, "--trainer", work.folder / "no-trainer")),
            ("it is not the model's own", 2, ("evaluate", models[1][2], *on, "--tokenizer", export / "tokenizer.model"))):
        err = work.stage(words[0], words[1], *words[2:], expect=code)
        assert said in err, f"{words}: {err}"
    out = subprocess.run([work.plumb, "stage", "run", "evaluate", "--text", "other.txt"], capture_output=True, text=True, cwd=work.folder)
    assert out.returncode == 2 and "go with --checkpoint" in out.stderr, out.stderr


def imported(work, models):
    """Results of several models, at several steps, in a database of their own: what the views and figures read is what was said."""
    files = []
    work.ask("model", "import", models[3][2], "--out", work.folder / "back")
    # Model, whose weights, folder, replicate, steps: the same weights twice, where only their places differ.
    for name, trial, folder, replicate, steps in (("m1", 1, models[1][1], 0, (20, 40)), ("m2", 2, models[2][1], 0, (40,)), ("m2", 2, models[2][1], 1, (40,)),
                                                  ("m3", 3, models[3][2], 0, (40,)), ("m4", 3, work.folder / "back", 0, (40,))):
        for step in steps:
            out = f"l{name}-{replicate}-{step}.json"
            said = work.stage("linearity", folder, "--data", models[trial][3], "--model", name, "--replicate", replicate, "--step", step, "--out", out)
            files.append((out, name, replicate, step, said))
    said = work.stage("prune", models[1][1], "--data", models[1][3], "--model", "m1", "--step", "40", "--settings", "distil_steps: 4, distil_windows: 2",
                      "--out", "p.json")

    def ask(*words, expect=0):
        out = subprocess.run([work.plumb, *map(str, words), "--db", "kept.db"], capture_output=True, text=True, cwd=work.folder, env=work.with_temporary)
        assert out.returncode == expect, f"{words}: {out.returncode}\n{out.stdout[-2000:]}\n{out.stderr}"
        return out.stdout if expect == 0 else out.stderr

    names = [f[0] for f in files]
    for said_wrong, words in (
            ("other.txt: not what plumb stage run", ("other.txt",)),
            ("is there twice at step 40", (names[0], "p.json", names[1], names[1])),
            ("two architectures under the name m1", (names[0], "renamed.json")),
            ("stage linearity of m1 on two texts", (names[0], "retold.json")),
            ("stage linearity of m1 with two settings", (names[0], "reset.json")),
            ("a file is damaged", (names[0], "torn.json")),
            ("--objective prune:loss", (*names, "--objective", "prune:loss"))):
        for name, source, change in (("renamed.json", names[2], {"model": "m1"}), ("retold.json", names[0], {"step": 7, "corpus": {"digest": "0"}}),
                                     ("reset.json", names[0], {"step": 7, "settings": {"fit": "val"}}),
                                     ("torn.json", names[2], {"series": [{"series": "x"}]})):
            data = json.loads((work.folder / source).read_text())
            (work.folder / name).write_text(json.dumps({**data, **change}))
        err = ask("import", "stages", *words, "--sweep", "kept", expect=2)
        assert said_wrong in err, f"{words}: {err}"
    assert not (work.folder / "kept.db").exists()
    objective = "linearity:linearity/whole/held_out_without"
    once = json.loads(ask("import", "stages", *names, "p.json", "--sweep", "kept", "--objective", objective, "-o", "json"))
    again = json.loads(ask("import", "stages", *names, "p.json", "--sweep", "kept", "--objective", objective, "-o", "json"))
    assert once[0]["trials"] == 5 and not once[0]["there_before"] and again[0]["there_before"], (once, again)
    rows = json.loads(ask("query", "SELECT cell, replicate, move, idx, score, step FROM v_linearity ORDER BY 1, 2, 3, 4", "-o", "json"))
    expected = sorted(({"cell": name, "replicate": replicate, "move": r["name"], "idx": r["idx"], "score": r["data"]["score"], "step": step}
                       for _, name, replicate, step, of in files if step == 40 for r in of["records"] if r["kind"] == "linearity"),
                      key=lambda r: (r["cell"], r["replicate"], r["move"], r["idx"]))
    assert rows == expected, (rows, expected)
    points = json.loads(ask("query", "SELECT step, value FROM v_curve WHERE cell = 'm1' AND series = 'linearity/score' AND layer = 0 ORDER BY step", "-o", "json"))
    assert [p["step"] for p in points] == [20, 40] and points[0]["value"] == points[1]["value"], points
    shape = json.loads(ask("query", "SELECT cell, n_layers, params_total, steps, tokens, lr, is_foreign, objective FROM v_trial ORDER BY cell, replicate", "-o", "json"))
    told = [(t["n_layers"], t["steps"], t["tokens"], t["lr"], t["is_foreign"]) for t in shape]
    assert told == [(3, 40, 40 * 512, 0.01, 0)] * 3 + [(3, 0, 0, 0, 1)] * 2, told  # of what was trained elsewhere nothing is said, imported or not
    assert all(t["objective"] == {(s["series"], s["layer"]): s["value"] for s in f[4]["series"]}[("linearity/whole/held_out_without", None)]
               for t, f in zip(shape, files[1:])), shape
    left = json.loads(ask("query", "SELECT count(*) AS n FROM v_prune WHERE loss IS NOT NULL", "-o", "json"))
    assert left == [{"n": sum(r["kind"] == "prune" for r in said["records"])}], left
    for words in (("plot", "linearity"), ("plot", "pruning"), ("trial", "linearity", "1"), ("plot", "profile", "--x", "vocab_size"), ("export", "csv", "--what", "prune")):
        assert len(ask(*words)) > 200, words
    assert "m1" in ask("plot", "linearity") and ask("server", "check")


def alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def stopped(work, models):
    export = models[2][2]
    command = [work.plumb, "stage", "run", "prune", "--checkpoint", str(export), "--text", "other.txt", "--threads", "1", "--out", "long.json",
               "--settings", "distil_steps: 3000, distil_windows: 2"]
    for how, code in ((signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)):
        process = subprocess.Popen(command, cwd=work.folder, env=work.with_temporary, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while not any(work.temporary.glob("plumb-stage-*/trainer/journal/*")) and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.5)
        locks = list(work.temporary.glob("plumb-stage-*/trainer/guard.lock"))
        assert locks, "no trainer was started"
        guard = int(locks[0].read_text())
        process.send_signal(how)
        assert process.wait(30) == code, f"{how}: {process.returncode}"
        assert not (work.folder / "long.json").exists()
        if how == signal.SIGKILL:
            assert work.left() and alive(guard)
            work.stage("evaluate", export, "--text", "other.txt")  # the next one tidies up
        assert work.left() == [] and not alive(guard), f"{how} left {work.left()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=lambda p: pathlib.Path(p).resolve(), required=True)
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="plumb-e2e-checkpoint-"))
    os.environ["PLUMB_DATA"] = str(folder / "c" / "data")
    work = Work(folder / "c", str(args.bin / "plumb"))
    begin = time.monotonic()
    try:
        models = train(work)
        compared = equal(work, models)
        text(work, models)
        imported(work, models)
        refused(work, models)
        stopped(work, models)
        print(f"{compared} numbers and records equal to the sweep's; {time.monotonic() - begin:.0f} s")
    finally:
        work.stop()
        if not args.keep:
            subprocess.run(["rm", "-rf", str(folder)], check=False)


if __name__ == "__main__":
    main()
