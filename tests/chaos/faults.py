"""The faults of a chaos run. Each is injected for real at once; what ends it later is left with the run (Chaos.later).

A fault is `name(chaos, rng)`: it returns what it did in words, or raises Gone where its victim was not there or was taken."""
import os
import signal
import time

from cluster import LEASE_SECONDS, Gone, limit_files, processes_of

SHORT, LONG = (0.2, 2.0), (LEASE_SECONDS + 1.0, LEASE_SECONDS + 3.0)
FAULTS = {}  # name -> (function, how often in a round)


def fault(times):
    def add(function):
        FAULTS[function.__name__] = (function, times)
        return function
    return add


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        raise Gone("it had just ended") from None


def kill(process):
    if process is None or process.poll() is not None:
        raise Gone("it does not run")
    process.kill()
    process.wait()


def a_child(chaos, rng, **which):
    """A worker and one of its guards or trainers."""
    workers = list(chaos.cluster.workers)
    rng.shuffle(workers)
    for w in workers:
        pids = chaos.cluster.children_of(w, **which)
        if w.name not in chaos.busy and pids:
            return w, rng.choice(sorted(pids))
    raise Gone("none runs")


def a_worker(chaos, rng, what=""):
    free = [w for w in chaos.cluster.workers if w.name + what not in chaos.busy and w.process.poll() is None]
    if not free:
        raise Gone("all are taken")
    return rng.choice(free)


def free_server(chaos):
    if "server" in chaos.busy or chaos.cluster.server.poll() is not None:
        raise Gone("it is taken")
    return chaos.cluster.server


# ---- kill -9 ----

@fault(4)
def kill_trainer(chaos, rng):
    w, pid = a_child(chaos, rng, guards=False)
    send(pid, signal.SIGKILL)
    return f"pid {pid} of {w.name}"


@fault(1)
def kill_guard(chaos, rng):
    w, pid = a_child(chaos, rng, trainers=False)
    send(pid, signal.SIGKILL)
    return f"pid {pid} of {w.name}"


@fault(3)
def kill_worker(chaos, rng):
    w, down = a_worker(chaos, rng), rng.choice([0, rng.uniform(0, 3)])
    kill(w.process)
    chaos.later(down, lambda: chaos.cluster.start_worker(w), w.name)
    return f"{w.name}, back after {down:.1f} s"


@fault(3)
def kill_server(chaos, rng):
    server, down = free_server(chaos), rng.choice([0, rng.uniform(0, 3)])
    kill(server)
    chaos.later(down, chaos.cluster.start_server, "server")
    return f"back after {down:.1f} s"


@fault(1)
def storm_on_server(chaos, rng):
    free_server(chaos)
    times = rng.randint(3, 5)
    for _ in range(times):
        kill(chaos.cluster.server)
        chaos.cluster.start_server()
        time.sleep(rng.uniform(0, 0.4))
    return f"killed and started {times} times"


@fault(1)
def storm_on_worker(chaos, rng):
    w, times = a_worker(chaos, rng), rng.randint(3, 5)
    for _ in range(times):
        kill(w.process)
        chaos.cluster.start_worker(w)
        time.sleep(rng.uniform(0, 0.4))
    return f"{w.name} killed and started {times} times"


@fault(2)
def torn_journal(chaos, rng):
    w, down = a_worker(chaos, rng), rng.uniform(0, 3)
    kill(w.process)
    for _ in range(100):
        left = chaos.cluster.children_of(w)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        if not left:
            break
        time.sleep(0.02)
    done = []
    for journal in sorted(w.dir.glob("trainers/*/journal")):
        segments = sorted(journal.glob("*.jsonl"))
        if not segments or segments[-1].stat().st_size == 0:
            continue
        how, size = rng.choice(["half a line more", "cut", "cut far"]), segments[-1].stat().st_size
        with open(segments[-1], "r+b") as file:
            if how == "half a line more":
                file.seek(0, os.SEEK_END)
                file.write(b'{"event":"points","row":"1.1.1","seq":9999,"st'[:rng.randint(1, 46)])
            else:
                # "Far" is what a power cut may take: whole lines that the worker has read and marked as done with.
                file.truncate(max(0, size - rng.randint(*((1, 60) if how == "cut" else (200, 4000)))))
        done.append(how)
    chaos.later(down, lambda: chaos.cluster.start_worker(w), w.name)
    return f"{w.name} with guards and trainers killed; its journals: {', '.join(done) or 'none yet'}; back after {down:.1f} s"


# ---- SIGSTOP, SIGCONT ----

def stop(chaos, pid, seconds, lock):
    send(pid, signal.SIGSTOP)

    def go_on():
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass
    chaos.later(seconds, go_on, lock)
    return f"pid {pid} ({lock}) for {seconds:.1f} s"


@fault(2)
def stop_trainer(chaos, rng, seconds=SHORT):
    w, pid = a_child(chaos, rng, guards=False)
    return stop(chaos, pid, rng.uniform(*seconds), w.name)


@fault(1)
def stop_trainer_long(chaos, rng):
    return stop_trainer(chaos, rng, LONG)


@fault(1)
def stop_worker(chaos, rng, seconds=SHORT):
    w = a_worker(chaos, rng)
    return stop(chaos, w.process.pid, rng.uniform(*seconds), w.name)


@fault(2)
def stop_worker_long(chaos, rng):
    return stop_worker(chaos, rng, LONG)


@fault(1)
def stop_server(chaos, rng, seconds=SHORT):
    return stop(chaos, free_server(chaos).pid, rng.uniform(*seconds), "server")


@fault(1)
def stop_server_long(chaos, rng):
    return stop_server(chaos, rng, LONG)


# ---- disks ----

def full(chaos, path, lock, seconds):
    if path not in chaos.cluster.mounts:
        raise Gone("not root: no file system of its own")
    chaos.cluster.fill(path)
    chaos.later(seconds, lambda: chaos.cluster.unfill(path), lock)
    return f"{lock} for {seconds:.1f} s"


@fault(1)
def server_disk_full(chaos, rng):
    free_server(chaos)
    chaos.excuse("server")
    return full(chaos, chaos.cluster.server_dir, "server", rng.uniform(0.5, 3))


@fault(1)
def worker_disk_full(chaos, rng):
    w = a_worker(chaos, rng)
    chaos.excuse(w.name)
    return full(chaos, w.dir, w.name, rng.uniform(0.5, 3))


@fault(1)
def server_files_limited(chaos, rng):
    """Its log of the database may not grow: writing fails as on a broken disk, and it may leave for that."""
    process, seconds = free_server(chaos), rng.uniform(0.5, 3)
    log = chaos.cluster.db.with_name("plumb.db-wal")
    try:
        size = rng.randint(0, max(1, log.stat().st_size))
    except OSError:
        size = 0
    chaos.excuse("server")
    limit_files(process.pid, size)
    chaos.later(seconds, lambda: limit_files(process.pid, -1), "server")
    return f"to {size} bytes for {seconds:.1f} s"


@fault(1)
def worker_files_limited(chaos, rng):
    """Worker, guards and trainers; checkpoints and journals fail in the middle, and SIGXFSZ ends a trainer."""
    w, size, seconds = a_worker(chaos, rng), rng.randint(0, 60000), rng.uniform(0.5, 3)
    chaos.excuse(w.name)
    pids = [w.process.pid] + chaos.cluster.children_of(w)
    for pid in pids:
        limit_files(pid, size)

    def lift():
        # Those started meanwhile have it by inheritance.
        for pid in set(pids) | set(processes_of(w.dir)):
            limit_files(pid, -1)
    chaos.later(seconds, lift, w.name)
    return f"{w.name} to {size} bytes for {seconds:.1f} s"


# ---- the network, by the worker's proxy ----

def spoil(chaos, w, seconds, what):
    chaos.later(seconds, w.proxy.set_pass, w.name + ".net")
    return f"{w.name} {what} for {seconds:.1f} s"


@fault(2)
def net_delay(chaos, rng):
    w, delay = a_worker(chaos, rng, ".net"), rng.choice([rng.uniform(0.02, 0.3), rng.uniform(1, 3)])
    w.proxy.set_delay(delay)
    return spoil(chaos, w, rng.uniform(2, 6), f"{delay:.2f} s late")


@fault(1)
def net_stall(chaos, rng, directions=("up", "down"), seconds=SHORT):
    w = a_worker(chaos, rng, ".net")
    w.proxy.set_stall(directions)
    return spoil(chaos, w, rng.uniform(*seconds), " and ".join(directions))


@fault(1)
def net_stall_long(chaos, rng):
    return net_stall(chaos, rng, seconds=LONG)


@fault(2)
def net_stall_up(chaos, rng):
    return net_stall(chaos, rng, ("up",), rng.choice([SHORT, LONG]))


@fault(2)
def net_stall_down(chaos, rng):
    return net_stall(chaos, rng, ("down",), rng.choice([SHORT, LONG]))


@fault(2)
def net_reset(chaos, rng):
    w = a_worker(chaos, rng, ".net")
    count = w.proxy.reset()
    if count == 0:
        raise Gone("not connected")
    return f"{w.name}, {count} connections"


@fault(1)
def net_refuse(chaos, rng):
    w = a_worker(chaos, rng, ".net")
    w.proxy.set_refuse()
    return spoil(chaos, w, rng.uniform(1, 8), "refused")
