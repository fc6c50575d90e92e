#!/usr/bin/env python3
"""A TCP proxy that spoils a connection on command: delays, stalls (either way or both), resets, refusals.

Nothing that passes is changed or dropped: bytes come late, or the connection is reset and both ends know. The target is asked for
anew at every connection, as a server that restarts has another port.

    fault_proxy.py --to HOST:PORT|file:PATH [--listen PORT]     then lines on stdin: delay SECONDS | stall | stall-up |
                                                                stall-down | reset | refuse | pass
"""
import argparse
import collections
import pathlib
import socket
import struct
import sys
import threading
import time

CHUNK = 64 << 10
LINGER_RESET = struct.pack("ii", 1, 0)  # close() then sends RST


def address_of(target):
    """(host, port) of HOST:PORT or file:PATH; None while the file says nothing."""
    text = target
    if target.startswith("file:"):
        try:
            text = pathlib.Path(target[5:]).read_text()
        except OSError:
            return None
    host, _, port = text.strip().rpartition(":")
    return (host, int(port)) if port.isdigit() else None


class FaultProxy:
    """Listens on a loopback port from construction to close(). Methods may be called from any thread."""

    def __init__(self, target, port=0):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", port))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.changed = threading.Condition()
        self.pairs, self.half_closed, self.closed = set(), set(), False
        self.delay, self.stalled, self.refusing = 0.0, frozenset(), False
        self.bytes = collections.Counter()  # forwarded, by direction
        threading.Thread(target=self._accept, daemon=True).start()

    def _set(self, delay=0.0, stalled=(), refusing=False):
        with self.changed:
            self.delay, self.stalled, self.refusing = delay, frozenset(stalled), refusing
            self.changed.notify_all()

    def set_pass(self):
        self._set()

    def set_delay(self, seconds):
        self._set(delay=seconds)

    def set_stall(self, directions=("up", "down")):
        """Bytes of these directions wait: "up" towards the target, "down" back from it."""
        self._set(stalled=directions)

    def set_refuse(self):
        self._set(refusing=True)
        self.reset()

    def reset(self):
        """RST on all connections there are. Returns how many there were."""
        with self.changed:
            pairs = list(self.pairs)
        for pair in pairs:
            self._end(pair, reset=True)
        return len(pairs)

    def close(self):
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self.listener.close()
        self.reset()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near):
        self._wait("up")  # a stalled way holds the beginning too
        far = None
        where = None if self.refusing or self.closed else address_of(self.target)
        try:
            if where:
                far = socket.create_connection(where, timeout=5)
                far.settimeout(None)
        except OSError:
            pass
        if far is None:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            near.close()
            return
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (near, far)
        with self.changed:
            self.pairs.add(pair)
        for source, sink, way in ((near, far, "up"), (far, near, "down")):
            threading.Thread(target=self._pump, args=(pair, source, sink, way), daemon=True).start()

    def _wait(self, way):
        with self.changed:
            self.changed.wait_for(lambda: way not in self.stalled or self.closed)
            return self.delay

    def _pump(self, pair, source, sink, way):
        # Late, not slow: a second thread sends what is due, so that a delay does not add up over chunks.
        queue, more = collections.deque(), threading.Condition()

        def send():
            while True:
                with more:
                    more.wait_for(lambda: queue)
                    due, chunk = queue.popleft()
                time.sleep(max(0.0, due - time.monotonic()))
                self._wait(way)
                try:
                    if not chunk:
                        sink.shutdown(socket.SHUT_WR)
                        self._half(pair)
                        break
                    sink.sendall(chunk)
                    self.bytes[way] += len(chunk)
                except OSError:
                    self._end(pair)
                    break

        threading.Thread(target=send, daemon=True).start()
        while True:
            try:
                chunk = source.recv(CHUNK)
            except OSError:
                chunk = b""
                self._end(pair)
            with more:
                queue.append((time.monotonic() + self._wait(way), chunk))
                more.notify()
            if not chunk:
                return

    def _half(self, pair):
        with self.changed:
            both = pair in self.half_closed
            self.half_closed.add(pair)
        if both:
            self._end(pair)

    def _end(self, pair, reset=False):
        with self.changed:
            if pair not in self.pairs:
                return
            self.pairs.discard(pair)
            self.half_closed.discard(pair)
        for end in pair:
            try:
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
                # A close() alone would wait for another thread's recv(): wake that first.
                end.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", required=True)
    parser.add_argument("--listen", type=int, default=0)
    args = parser.parse_args()
    proxy = FaultProxy(args.to, args.listen)
    print(f"{proxy.address} -> {args.to}", flush=True)
    for line in sys.stdin:
        word, *rest = line.split() or [""]
        if word == "delay" and rest:
            proxy.set_delay(float(rest[0]))
        elif word in ("stall", "stall-up", "stall-down"):
            proxy.set_stall({"stall": ("up", "down")}.get(word, (word[6:],)))
        elif word in ("pass", "reset", "refuse"):
            {"pass": proxy.set_pass, "reset": proxy.reset, "refuse": proxy.set_refuse}[word]()
        else:
            print("delay SECONDS | stall | stall-up | stall-down | reset | refuse | pass", flush=True)
    proxy.close()


if __name__ == "__main__":
    main()
