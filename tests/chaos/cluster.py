"""Server, workers and trainers of a chaos run: real processes in a folder of their own, each worker behind a proxy of its own."""
import os
import pathlib
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))  # behind this folder: there is a cluster.py too
from fault_proxy import FaultProxy

LEASE_SECONDS = 5.0  # of plumb-e2e's server

# What docs/database.md, docs/trainer-protocol.md and worker/workspace.h name, once all processes have ended.
WORKER_FILES = re.compile(
    r"worker\.lock|cluster|trainers/\d+/(guard\.lock|position|program|trainer\.log(\.1)?|journal/\d{8}\.jsonl)"
    r"|checkpoints/\d+/acknowledged|checkpoints/\d+/step-\d{12}/(weights\.safetensors|optimizer\.safetensors|manifest\.json|DONE)")
SERVER_FILES = re.compile(r"plumb\.db(-wal|-shm|\.lock|\.mark|\.incarnation)?|plumb\.db\.blobs/[0-9a-f]{2}/[0-9a-f]{64}(\.part)?")


class Gone(Exception):
    """The victim was not there (any more): no fault was injected."""


def processes_of(folder):
    """{pid: its arguments} of the processes that name the folder, stand in it or hold a file of it open."""
    found, needle = {}, str(folder)
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            args = pathlib.Path(entry.path, "cmdline").read_bytes().decode(errors="replace").split("\0")
            inside = any(needle in a for a in args) or os.readlink(entry.path + "/cwd").startswith(needle)
            if not inside and args != [""]:
                inside = any(os.readlink(fd.path).startswith(needle) for fd in os.scandir(entry.path + "/fd"))
            if inside and args != [""]:  # a zombie has no arguments
                found[int(entry.name)] = args
        except OSError:
            continue
    return found


class Worker:
    def __init__(self, cluster, name, slots):
        self.name, self.slots, self.dir = name, slots, cluster.folder / name
        self.proxy = FaultProxy(f"file:{cluster.db}.address")
        self.process = None


class Cluster:
    """`tmpfs`: database and workers' folders lie on file systems of their own, whose size can be set."""

    def __init__(self, folder, bin_dir, data_root, workers, slots, tmpfs):
        self.folder, self.bin, self.data = folder, bin_dir, data_root
        folder.mkdir()
        self.log = open(folder / "log", "ab")
        self.server_dir = folder / "server"
        self.db = self.server_dir / "plumb.db"
        self.server, self.mounts = None, []
        self.workers = [Worker(self, f"w{i + 1}", slots) for i in range(workers)]
        for path in [self.server_dir] + [w.dir for w in self.workers]:
            path.mkdir()
            if tmpfs:
                subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4g", "none", str(path)], check=True)
                self.mounts.append(path)

    # ---- processes ----

    def _spawn(self, *args):
        # restore_signals off leaves SIGXFSZ ignored: a file that may not grow is then an error, as a full disk is.
        return subprocess.Popen(list(map(str, args)), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                restore_signals=False, start_new_session=True)

    def start_server(self):
        self.server = self._spawn(self.bin / "plumb-e2e", "server", self.db, self.data)

    def start_worker(self, w):
        w.process = self._spawn(self.bin / "plumb", "worker", "start", "--server", w.proxy.address, "--name", w.name, "--dir", w.dir,
                                "--slots", w.slots, "--data-root", self.data, "--trainer", self.bin / "plumb-trainer")

    def start(self):
        self.start_server()
        for w in self.workers:
            self.start_worker(w)

    def children_of(self, w, trainers=True, guards=True):
        """Pids of a worker's guards and trainers."""
        pids = []
        for pid, args in processes_of(w.dir).items():
            guard = "__guard" in args
            if guard and guards or not guard and trainers and args[0].endswith("plumb-trainer"):
                pids.append(pid)
        return pids

    def stop(self):
        """SIGTERM to all; returns what went wrong."""
        wrong = []
        for w in self.workers:
            w.proxy.set_pass()
        for process, what in [(w.process, w.name) for w in self.workers] + [(self.server, "server")]:
            if process is None or process.poll() is not None:
                continue
            process.terminate()
            try:
                code = process.wait(40)
                if code != 0:
                    wrong.append(f"{what} exited with {code} on SIGTERM")
            except subprocess.TimeoutExpired:
                wrong.append(f"{what} does not end on SIGTERM")
                process.kill()
                process.wait()
        return wrong

    def destroy(self, keep):
        """Ends whatever is left, and with keep=False removes the folder."""
        self.stop()
        for pid in processes_of(self.folder):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        for w in self.workers:
            w.proxy.close()
        self.log.close()
        for path in self.mounts:
            if keep:  # the files outlive the file system they lay on
                subprocess.run(["cp", "-a", str(path), f"{path}.kept"], check=False)
            for _ in range(50):
                if subprocess.run(["umount", str(path)], stderr=subprocess.DEVNULL).returncode == 0:
                    break
                time.sleep(0.1)
            if keep:
                path.rmdir()
                pathlib.Path(f"{path}.kept").rename(path)
        if not keep:
            subprocess.run(["rm", "-rf", str(self.folder)], check=False)

    def submit(self, file, request, seconds=30):
        """Hands a sweep in; the request id makes a repeat harmless. False: not taken in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if subprocess.run([self.bin / "plumb-e2e", "submit", f"file:{self.db}.address", file, request], stdout=self.log,
                                  stderr=self.log, timeout=5).returncode == 0:
                    return True
            except subprocess.TimeoutExpired:
                pass
            time.sleep(0.2)
        return False

    # ---- the database, read-only ----

    def connect(self):
        return sqlite3.connect(f"file:{self.db}?mode=ro", uri=True, timeout=1)

    def query(self, sql, *parameters):
        for _ in range(200):
            try:
                db = self.connect()
                try:
                    return db.execute(sql, parameters).fetchall()
                finally:
                    db.close()
            except sqlite3.OperationalError:  # not there yet, or its log is being recovered
                time.sleep(0.05)
        raise RuntimeError(f"the database cannot be read: {sql}")

    # ---- disks ----

    def fill(self, path):
        """No room any more on the file system of `path`, to the page."""
        stat = os.statvfs(path)
        used = (stat.f_blocks - stat.f_bfree) * stat.f_bsize
        for slack in range(64):  # what is written meanwhile makes the mount refuse a size below it
            size = used + slack * 4 * stat.f_bsize
            if subprocess.run(["mount", "-o", f"remount,size={size}", str(path)], stderr=subprocess.DEVNULL).returncode == 0:
                return
        raise Gone("the file system would not shrink")

    def unfill(self, path):
        subprocess.run(["mount", "-o", "remount,size=4g", str(path)], check=True)


def limit_files(pid, size):
    """Files of a process may not grow beyond `size` bytes (−1: as they like)."""
    try:
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size < 0 else size, hard))
    except (ProcessLookupError, PermissionError):
        pass


def stray_files(cluster):
    """Files nobody has named, after everything has ended."""
    stray = []
    for root, pattern in [(cluster.server_dir, SERVER_FILES)] + [(w.dir, WORKER_FILES) for w in cluster.workers]:
        for path in sorted(root.rglob("*")):
            if not path.is_dir() and not pattern.fullmatch(str(path.relative_to(root))):
                stray.append(str(path))
            elif path.is_dir() and ".tmp" in path.name:
                stray.append(str(path))
        for stage in root.glob("checkpoints/*"):
            if len(list(stage.glob("step-*"))) > 35:
                stray.append(f"{stage}: more checkpoints than the acknowledged one, 32 after it and the last two")
    return stray
