"""Makes a training function of yours a trainer of Plumb: docs/how-to/your-own-trainer.md. Standard library only.
    def train(job, restore):      # a generator; restore: the folder of a checkpoint to start from, or None
        for step in range(job["start"] + 1, job["steps"] + 1):     # job also has config, with, data_dir
            yield step, {"train/loss": loss}, save    # save(folder) writes the files that restore reads
"""
import hashlib, json, math, os, select, shutil, signal, socket, sys, time, traceback

class Trainer:
    def __init__(self, train, folder):
        os.makedirs(folder + "/journal", exist_ok=True)
        os.chdir(folder)  # the path of a socket is short
        self.train, self.row, self.bundle, self.data_dir, self.last_n = train, None, "", "", 0
        self.stop, self.leave, self.peer, self.text, self.seq = False, None, None, b"", 0
        names = sorted(n for n in os.listdir("journal") if n.endswith(".jsonl")) or ["00000001.jsonl"]
        for name in names:  # goes on after the last whole line
            whole = (open("journal/" + name, "ab") and open("journal/" + name, "rb")).read().split(b"\n")[:-1]
            os.truncate("journal/" + name, sum(len(line) + 1 for line in whole))
            self.seq = max([self.seq] + [json.loads(line).get("seq", 0) for line in whole if line[:1] == b"{"])
        self.segment, self.journal = int(names[-1][:8]), open("journal/" + names[-1], "ab", 0)
        self.say(event="hello", protocol=1, build="plumb_adapter", pid=os.getpid(), engine="python")
        signal.signal(signal.SIGTERM, lambda *_: self.__dict__.update(stop=True, leave=75))
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind("trainer.sock.new") or self.listener.listen()
        os.rename("trainer.sock.new", "trainer.sock")
    def say(self, **event):
        if self.journal.tell() > 1 << 20:
            self.segment, self.journal = self.segment + 1, open("journal/%08d.jsonl" % (self.segment + 1), "ab", 0)
        self.seq += 1
        self.journal.write((json.dumps(dict(event, seq=self.seq)) + "\n").encode())
    def end(self, outcome, cause=""):
        row, self.row, self.stop = self.row, None, False
        self.say(event="row_ended", row=row["row"], step=row["step"], outcome=outcome, cause=cause, summary={})
    def checkpoint(self, row, save):
        folder = "%s/step-%012d" % (row["dir"], row["step"])
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        save(folder)
        data = {name: open(os.path.join(folder, name), "rb").read() for name in sorted(os.listdir(folder))}
        files = {name: {"bytes": len(b), "sha256": hashlib.sha256(b).hexdigest()} for name, b in data.items()}
        manifest = json.dumps({"format": 1, "kind": "external", "step": row["step"], "files": files}).encode()
        for name, content in [("manifest.json", manifest), ("DONE", b"")]:  # DONE makes it real
            open(os.path.join(folder, name), "wb").write(content)
            os.sync()
        self.say(event="checkpoint", row=row["row"], step=row["step"], path=folder, bytes=sum(map(len, data.values())),
                 digest=hashlib.sha256(manifest).hexdigest())
    def step(self, row):
        try:
            row["step"], values, save = next(row["work"])
            self.say(event="points", row=row["row"], step=row["step"],
                     values=[[name, -1, 1, v if math.isfinite(v) else "NaN"] for name, v in values.items()])
            outcome = ("succeeded" if row["step"] >= row["steps"] else "paused" if 0 <= row["until"] <= row["step"]
                       else "preempted" if self.stop else None)
            if outcome or row.pop("ask", False) or row["step"] % row["every"] == 0: self.checkpoint(row, save)
            return outcome and self.end(outcome)
        except Exception as e:  # StopIteration too: it ended before its last step
            traceback.print_exc()  # to the log, whose end the attempt keeps
            self.end("diverged" if isinstance(e, FloatingPointError) else "failed", "%s: %s" % (type(e).__name__, e))
    def apply(self, name, c):
        if name in ("extend_row", "checkpoint_row", "stop_row") and (self.row or {}).get("row") != c["row"]:
            raise ValueError("no row " + c["row"])
        if name == "open" and not self.bundle:
            self.bundle, self.data_dir = c["bundle"], c["data_dir"]
            self.say(event="opened", bundle=self.bundle)
        elif name == "add_row" and self.bundle and not self.row:
            at, more = c.get("checkpoint") or {"path": None, "step": 0, "resume": False}, c["stage"].get("with", {})
            job = {"config": c["config"], "with": more, "steps": c["stage"].get("steps", 1), "data_dir": self.data_dir,
                   "start": at["step"] if at["resume"] else 0}
            self.row = dict(row=c["row"], dir=c["checkpoint_dir"], step=job["start"], steps=job["steps"], until=c["until_step"],
                            every=more.get("checkpoint_every", 100), work=self.train(job, at["path"]))
            self.say(event="row_started", row=c["row"], step=job["start"])
        elif name == "extend_row": self.row["until"] = c["until_step"]
        elif name == "checkpoint_row": self.row["ask"] = True
        elif name == "stop_row" and c["mode"] == "preempt": self.stop = True
        elif name in ("stop_row", "shutdown") or (name == "close" and c["bundle"] == self.bundle):
            if self.row: self.end("cancelled")
            if self.bundle and name != "stop_row": self.bundle = self.say(event="closed", bundle=self.bundle) or ""
            if name == "shutdown": self.leave = 0
        else: raise ValueError("cannot %s: no such command, or not now" % name)
    def answer(self, line, c={}):
        try:
            c, rows = json.loads(line), [self.row["row"]] if self.row else []
            if c["command"] == "hello" and c.get("protocol_min", 1) <= 1 <= c.get("protocol_max", 1):
                return dict(ok=True, protocol=1, last_n=self.last_n, pid=os.getpid(), bundle=self.bundle, rows=rows)
            if int(c["n"]) <= self.last_n: return {"n": c["n"], "ok": True, "repeated": True}
            self.last_n = self.apply(c["command"], c) or c["n"]
            return {"n": c["n"], "ok": True}
        except Exception as e: return dict({"n": c["n"]} if isinstance(c, dict) and "n" in c else {}, ok=False, error=str(e))
    def serve(self):
        while self.leave is None or self.row:
            for s in select.select([self.listener, self.peer][: 2 if self.peer else 1], [], [], 0 if self.row else 0.2)[0]:
                if s is self.listener: self.peer, self.text = s.accept()[0], b""  # ends the one before
                else:
                    *lines, self.text = (self.text + (data := s.recv(1 << 16))).split(b"\n")
                    for line in lines: s.sendall((json.dumps(self.answer(line)) + "\n").encode())
                    self.peer = self.peer if data else None
            if self.row: self.step(self.row)
            self.seen = time.time() if self.row or self.peer else getattr(self, "seen", time.time())
            if time.time() - self.seen > 600: self.leave = 0  # a worker that never returns leaves no process
        return self.leave
def serve(train): sys.exit(Trainer(train, sys.argv[sys.argv.index("--dir") + 1]).serve())
