#!/usr/bin/env python3
"""Does a program speak the trainer's protocol (docs/trainer-protocol.md)? One line for each thing it must do.

    python3 python/trainer_conformance.py --job job.json -- ./my_trainer.py

The program is started as a worker would start it (PROGRAM ARGS… --dir DIR), spoken to over its socket, read through its
journal, killed and started again. job.json says what a row of it is:

    {"kind": "external", "config": {}, "stage": {"trainer": "mine", "steps": 20}, "data_dir": "", "steps": 20,
     "long": {"stage": {"trainer": "mine", "steps": 100000}}, "checkpoints": true, "same": "train/loss"}

long: what differs in a row that takes minutes. checkpoints: it can pause and go on (false for a program that cannot: its rows
then only run and are cancelled); on_request: it can be asked for one (true). same: a series whose last value is the same whether a row paused or not; "" where that is not
promised. Exit code 0 when all holds, 1 when something does not. Python 3.8 or later, standard library only.
"""
import argparse, hashlib, json, os, shutil, signal, socket, subprocess, sys, tempfile, time


class Failed(Exception):
    pass


def check(what, why):
    if not what:
        raise Failed(why)


class Trainer:
    """The program in a folder, as a worker sees it."""

    def __init__(self, program, folder, patience):
        self.folder, self.patience, self.peer, self.text, self.n = folder, patience, None, b"", 0
        os.makedirs(folder + "/journal", exist_ok=True)
        try:
            os.unlink(folder + "/trainer.sock")  # a dead one's; its guard does this
        except FileNotFoundError:
            pass
        self.log = open(folder + "/trainer.log", "ab")
        self.process = subprocess.Popen(program + ["--dir", folder], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def wait(self, done, what):
        end = time.time() + self.patience
        while True:
            got = done()
            if got:
                return got
            check(time.time() < end, "%s: not within %d s; its log ends: %s" % (what, self.patience, self.tail()))
            time.sleep(0.01)

    def tail(self):
        with open(self.folder + "/trainer.log", "rb") as f:
            return f.read()[-400:].decode(errors="replace").strip()

    def connect(self):
        def attempt():
            check(self.process.poll() is None, "it has ended with %s; its log ends: %s" % (self.process.poll(), self.tail()))
            here = os.getcwd()
            os.chdir(self.folder)  # the path of a socket is short
            try:
                s = socket.socket(socket.AF_UNIX)
                s.connect("trainer.sock")
                return s
            except OSError:
                return None
            finally:
                os.chdir(here)
        self.peer, self.text = self.wait(attempt, "trainer.sock accepts a connection"), b""
        self.peer.settimeout(self.patience)
        return self

    def line(self, text):
        self.peer.sendall(text.encode() + b"\n")
        while b"\n" not in self.text:
            data = self.peer.recv(1 << 16)
            check(data, "it ended the connection at " + text[:80])
            self.text += data
        answer, self.text = self.text.split(b"\n", 1)
        return json.loads(answer)

    def hello(self, low=1, high=1):
        return self.line(json.dumps({"command": "hello", "protocol_min": low, "protocol_max": high}))

    def call(self, command, **fields):
        """With the next number; a refused command does not use it up."""
        answer = self.line(json.dumps(dict(fields, n=self.n + 1, command=command)))
        check(answer.get("n") == self.n + 1, "the answer to %s does not say its n: %s" % (command, answer))
        self.n += answer.get("ok") is True
        return answer

    def does(self, command, **fields):
        answer = self.call(command, **fields)
        check(answer.get("ok") is True, "%s: %s" % (command, answer))
        return answer

    def refuses(self, command, **fields):
        answer = self.call(command, **fields)
        check(answer.get("ok") is False and answer.get("error"), "%s must be refused with an error: %s" % (command, answer))

    def events(self, **of):
        out = []
        for name in sorted(os.listdir(self.folder + "/journal")):
            with open(self.folder + "/journal/" + name, "rb") as f:
                out += [json.loads(line) for line in f.read().split(b"\n")[:-1]]
        return [e for e in out if all(e.get(k) == v for k, v in of.items())]

    def until(self, count=1, **of):
        return self.wait(lambda: len(self.events(**of)) >= count and self.events(**of), "the event %s" % of)[-1]

    def kill(self):
        self.process.kill()
        self.process.wait()


class Suite:
    def __init__(self, program, job, patience):
        self.program, self.job, self.patience = program, job, patience
        self.folder = tempfile.mkdtemp(prefix="plumb-conformance-")
        self.checkpoints = self.folder + "/checkpoints"
        self.rows, self.t = 0, None

    def start(self):
        self.t = Trainer(self.program, self.folder, self.patience).connect()
        return self.t

    def add(self, long=False, **fields):
        self.rows += 1
        job = dict(self.job, **(self.job.get("long", {}) if long else {}))
        row = {"row": "1.%d.1" % self.rows, "kind": job["kind"], "config": job.get("config", {}), "stage": job.get("stage", {}),
               "until_step": -1, "checkpoint": None, "checkpoint_dir": "%s/%d" % (self.checkpoints, self.rows), "gang": None}
        row.update(fields)
        self.t.does("add_row", **row)
        return row["row"]

    def ends(self, row, outcome):
        end = self.t.until(event="row_ended", row=row)
        check(end["outcome"] == outcome, "%s was to end as %s: %s; its log ends: %s" % (row, outcome, end, self.t.tail()))
        check(isinstance(end.get("summary"), dict) and isinstance(end.get("cause"), str), "row_ended has cause and summary: %s" % end)
        return end

    def last(self, row):
        points = [v for e in self.t.events(event="points", row=row) for v in e["values"] if v[0] == self.job["same"]]
        check(points, "no point of " + self.job["same"])
        return points[-1][3]

    def whole(self, event):
        with open(event["path"] + "/manifest.json", "rb") as f:
            manifest = f.read()
        check(hashlib.sha256(manifest).hexdigest() == event["digest"], "digest is not that of manifest.json")
        check(os.path.exists(event["path"] + "/DONE"), "no DONE in " + event["path"])
        check(os.path.basename(event["path"]) == "step-%012d" % event["step"], "the folder is not step-<12 digits>")
        for name, entry in json.loads(manifest)["files"].items():
            with open(os.path.join(event["path"], name), "rb") as f:
                check(hashlib.sha256(f.read()).hexdigest() == entry["sha256"], name + " is not what the manifest says")

    # ---- what must hold, in the order it is tried

    def says_hello_first(self):
        """it listens on trainer.sock, and its journal begins with hello"""
        t = self.start()
        first = t.events()[0]
        check(first["seq"] == 1 and first["event"] == "hello" and first["protocol"] == 1, "the journal begins with %s" % first)
        check(all(first.get(k) for k in ("build", "pid", "engine")), "hello has build, pid, engine: %s" % first)

    def answers_hello(self):
        """hello is answered with protocol, last_n, pid, bundle, rows"""
        answer = self.t.hello()
        check(answer.get("ok") and answer["protocol"] == 1 and answer["last_n"] == 0, answer)
        check(answer["bundle"] == "" and answer["rows"] == [] and answer["pid"] == self.t.process.pid, answer)

    def refuses_another_protocol(self):
        """hello of a later protocol is refused"""
        check(self.t.hello(7, 9).get("ok") is False, "protocols 7 to 9 are not spoken")

    def survives_nonsense(self):
        """what is no command is answered with ok: false, and the connection stays"""
        for text in ("nonsense", "[]", "{}", '{"command": 3, "n": 1}', '{"command": "open"}'):
            check(self.t.line(text).get("ok") is False, text + " must be refused")
        check(self.t.hello()["last_n"] == 0, "a refused command uses up no n")

    def refuses_the_unknown(self):
        """an unknown command is refused and does not use up its n"""
        self.t.refuses("frobnicate")
        check(self.t.hello()["last_n"] == 0, "last_n")

    def refuses_rows_without_a_bundle(self):
        """add_row without an open bundle is refused"""
        self.t.refuses("add_row", row="0.0.0", kind=self.job["kind"], config=self.job.get("config", {}), stage=self.job.get("stage", {}),
                       until_step=-1, checkpoint=None, checkpoint_dir=self.checkpoints + "/0", gang=None)

    def opens(self):
        """open opens a bundle, once"""
        fields = {"bundle": "b", "capacity": 1, "data_dir": self.job.get("data_dir", ""), "threads": 1}
        self.t.does("open", **fields)
        self.t.until(event="opened", bundle="b")
        self.t.refuses("open", **dict(fields, bundle="c"))
        check(self.t.hello()["bundle"] == "b" and self.t.hello()["last_n"] == self.t.n, "hello tells the bundle and last_n")

    def repeats(self):
        """a command whose n was applied is answered repeated, and does nothing"""
        answer = self.t.line(json.dumps({"n": self.t.n, "command": "close", "bundle": "b"}))
        check(answer.get("ok") and answer.get("repeated"), answer)
        check(self.t.hello()["bundle"] == "b", "it did something")

    def runs_a_row(self):
        """a row starts, says points and ends as succeeded"""
        row = self.add()
        self.t.until(event="row_started", row=row)
        end = self.ends(row, "succeeded")
        check(end["step"] == self.job["steps"], "its last step is %d: %s" % (self.job["steps"], end))
        points = self.t.events(event="points", row=row)
        check(points and all(len(v) == 4 for e in points for v in e["values"]), "points are [name, layer, version, value]")
        self.finished = row

    def ends_in_a_checkpoint(self):
        """the last checkpoint is of the last step, and whole"""
        event = self.t.until(event="checkpoint", row=self.finished)
        check(event["step"] == self.job["steps"], event)
        self.whole(event)

    def pauses(self):
        """until_step pauses a row, with a checkpoint of that step"""
        half = self.job["steps"] // 2
        row = self.add(until_step=half)
        check(self.ends(row, "paused")["step"] == half, "it paused at another step than %d" % half)
        self.paused = self.t.until(event="checkpoint", row=row)
        check(self.paused["step"] == half, self.paused)
        self.whole(self.paused)

    def goes_on(self):
        """a row goes on from that checkpoint"""
        from_there = {k: self.paused[k] for k in ("path", "digest", "step")}
        row = self.add(checkpoint=dict(from_there, resume=True), checkpoint_dir=os.path.dirname(self.paused["path"]))
        check(self.t.until(event="row_started", row=row)["step"] == self.paused["step"], "it started at another step")
        self.ends(row, "succeeded")
        if self.job.get("same"):
            check(self.last(row) == self.last(self.finished), "it came to %s, without a pause to %s" % (self.last(row), self.last(self.finished)))

    def is_asked_while_it_runs(self):
        """while a row runs: hello tells it, a second one of its name and unknown rows are refused"""
        self.live = self.add(long=True, until_step=10 ** 9)
        self.t.until(event="row_started", row=self.live)
        check(self.t.hello()["rows"] == [self.live], "hello's rows")
        self.t.refuses("add_row", row=self.live, kind=self.job["kind"], config=self.job.get("config", {}), stage=self.job.get("stage", {}),
                       until_step=-1, checkpoint=None, checkpoint_dir=self.checkpoints + "/x", gang=None)
        for command, more in (("extend_row", {"until_step": -1}), ("checkpoint_row", {}), ("stop_row", {"mode": "cancel"})):
            self.t.refuses(command, row="9.9.9", **more)

    def extends(self):
        """extend_row moves the end"""
        self.t.does("extend_row", row=self.live, until_step=-1)

    def gives_way(self):
        """a new connection ends the old one, and knows what was said on it"""
        old, n = self.t.peer, self.t.n
        self.t.connect()
        check(self.t.hello()["last_n"] == n, "last_n")
        old.settimeout(self.patience)
        try:
            check(old.recv(1) == b"", "the old connection lives")
        except ConnectionError:
            pass

    def checkpoints_when_asked(self):
        """checkpoint_row writes one while the row goes on"""
        before = len(self.t.events(event="checkpoint", row=self.live))
        self.t.does("checkpoint_row", row=self.live)
        self.t.until(before + 1, event="checkpoint", row=self.live)
        check(self.t.hello()["rows"] == [self.live], "the row goes on")

    def preempts(self):
        """stop_row preempt ends it as preempted, with a checkpoint of its step"""
        self.t.does("stop_row", row=self.live, mode="preempt")
        end = self.ends(self.live, "preempted")
        check(self.t.events(event="checkpoint", row=self.live)[-1]["step"] == end["step"], "no checkpoint of step %d" % end["step"])

    def cancels(self):
        """stop_row cancel ends it as cancelled"""
        row = self.add(long=True)
        self.t.until(event="row_started", row=row)
        self.t.does("stop_row", row=row, mode="cancel")
        self.ends(row, "cancelled")

    def closes(self):
        """close cancels what runs, and another bundle may be opened"""
        row = self.add(long=True)
        self.t.refuses("close", bundle="another")
        self.t.does("close", bundle="b")
        self.ends(row, "cancelled")
        self.t.until(event="closed", bundle="b")
        self.t.does("open", bundle="b2", capacity=1, data_dir=self.job.get("data_dir", ""), threads=1)

    def numbers_without_gaps(self):
        """events are numbered 1, 2, … through all segments"""
        seen = [e["seq"] for e in self.t.events()]
        check(seen == list(range(1, len(seen) + 1)), "seq: %s" % seen[-20:])

    def starts_again(self):
        """after kill -9 in a row, and a torn line, the next one goes on numbering"""
        row = self.add(long=True)
        self.t.until(event="row_started", row=row)
        self.t.kill()
        name = sorted(os.listdir(self.folder + "/journal"))[-1]
        with open(self.folder + "/journal/" + name, "ab") as f:
            f.write(b'{"event": "points", "row": "' + row.encode())
        last = self.t.events()[-1]["seq"]
        t = self.start()
        hello = [e for e in t.events(event="hello") if e["seq"] > last]
        check(hello and hello[0]["seq"] == last + 1, "after %d came %s" % (last, hello))
        answer = t.hello()
        check(answer["last_n"] == 0 and answer["rows"] == [] and answer["bundle"] == "", answer)
        self.numbers_without_gaps()

    def leaves_on_sigterm(self):
        """SIGTERM: the row ends as preempted, exit code 75"""
        self.t.does("open", bundle="b3", capacity=1, data_dir=self.job.get("data_dir", ""), threads=1)
        row = self.add(long=True)
        self.t.until(event="row_started", row=row)
        self.t.process.send_signal(signal.SIGTERM)
        check(self.t.process.wait(self.patience) == 75, "exit code %s" % self.t.process.returncode)
        self.ends(row, "preempted")

    def shuts_down(self):
        """shutdown cancels what runs and exits with 0"""
        self.start()
        self.t.does("open", bundle="b4", capacity=1, data_dir=self.job.get("data_dir", ""), threads=1)
        row = self.add(long=True)
        self.t.until(event="row_started", row=row)
        self.t.does("shutdown")
        check(self.t.process.wait(self.patience) == 0, "exit code %s" % self.t.process.returncode)
        self.ends(row, "cancelled")
        self.numbers_without_gaps()

    def run(self):
        keeps = [self.ends_in_a_checkpoint, self.pauses, self.goes_on, self.checkpoints_when_asked]
        failures = 0
        for one in (self.says_hello_first, self.answers_hello, self.refuses_another_protocol, self.survives_nonsense,
                    self.refuses_the_unknown, self.refuses_rows_without_a_bundle, self.opens, self.repeats, self.runs_a_row,
                    self.ends_in_a_checkpoint, self.pauses, self.goes_on, self.is_asked_while_it_runs, self.extends, self.gives_way,
                    self.checkpoints_when_asked, self.preempts, self.cancels, self.closes, self.numbers_without_gaps, self.starts_again,
                    self.leaves_on_sigterm, self.shuts_down):
            if one == self.preempts and not self.job["checkpoints"]:
                self.t.does("stop_row", row=self.live, mode="cancel")
            if ((one in keeps or one == self.preempts) and not self.job["checkpoints"]) or (
                    one == self.checkpoints_when_asked and not self.job.get("on_request", True)):
                print("skip  " + one.__doc__)
                continue
            try:
                one()
                print("pass  " + one.__doc__)
            except Exception as e:
                failures += 1
                print("FAIL  %s: %s" % (one.__doc__, e if isinstance(e, Failed) else "%s: %s" % (type(e).__name__, e)))
            sys.stdout.flush()
        if self.t and self.t.process.poll() is None:
            self.t.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        print("%d failed" % failures if failures else "all of it holds")
        return 1 if failures else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", required=True, help="JSON file that says what a row is")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for anything")
    parser.add_argument("program", nargs="+", help="after --")
    args = parser.parse_args()
    with open(args.job) as f:
        job = json.load(f)
    sys.exit(Suite(args.program, job, args.patience).run())


if __name__ == "__main__":
    main()
