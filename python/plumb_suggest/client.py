"""Polls the server, keeps each sweep's history up to date, and hands in what `suggest` says."""
import logging
import time
import traceback

import grpc

from plumb.v1 import suggest_service_pb2 as pb
from plumb.v1 import suggest_service_pb2_grpc as rpc

WAIT_MS = 20_000
KEPT = 100  # histories

log = logging.getLogger("plumb-suggest")


class Histories:
    """What is known of each sweep, so that the server tells only what is new. Nothing depends on it: without, it tells the whole."""

    def __init__(self):
        self.known = {}  # sweep id -> (hash, observations by number)

    def of(self, request):
        """The request's observations by number, or None where they continue what is not known here."""
        before, observations = self.known.pop(request.sweep_id, ("", {}))
        if not request.since_hash:
            observations = {}
        elif request.since_hash != before:
            return None
        observations.update((o.number, o) for o in request.history)
        self.known[request.sweep_id] = (request.history_hash, observations)
        if len(self.known) > KEPT:
            del self.known[next(iter(self.known))]
        return observations

    def names(self):
        return [pb.KnownHistory(sweep_id=sweep, history_hash=told) for sweep, (told, _) in self.known.items()]


def from_file(path):
    """The address in a file that the server writes, as it is now."""
    def read():
        try:
            with open(path) as file:
                return file.read().strip()
        except OSError:
            return ""
    return read


def answer(request, history, name, suggest):
    """The request's answer: suggestions, or why there are none."""
    try:
        points = suggest(request, history)
    except Exception as error:  # whatever it is, the sweep says it and waits
        log.error("sweep %d (%s): %s", request.sweep_id, request.sweep, traceback.format_exc())
        return pb.ReportSuggestionsRequest(request_id=request.request_id, suggester=name, error=f"{type(error).__name__}: {error}"[:1000])
    return pb.ReportSuggestionsRequest(request_id=request.request_id, suggester=name,
                                       suggestions=[pb.Suggestion(values=values, note=note) for values, note in points])


def say(request, report, result, seconds):
    what = f"sweep {request.sweep_id} ({request.sweep}): {len(report.suggestions)} points from {request.first} on by {request.sampler} in {seconds:.2f} s"
    if report.error:
        return
    log.info("%s: %s", what, f"dropped, {result.dropped}" if result.dropped else f"{result.taken} taken")
    for refusal in result.refused:
        log.info("refused: number %d: %s", request.first + refusal.index, refusal.reason)


def serve(address, name, samplers, suggest):
    """Answers requests for ever. `address()` is where the server is, "" while it is nowhere; `suggest(request, history)` gives up to
    request.count pairs of values by axis and a note."""
    histories, said = Histories(), ""
    while True:
        at = address()
        if not at:
            time.sleep(0.5)
            continue
        try:
            with grpc.insecure_channel(at, options=[("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 256 << 20)]) as channel:
                stub = rpc.SuggestServiceStub(channel)
                while True:
                    poll = pb.PollSuggestionsRequest(suggester=name, samplers=samplers, wait_ms=WAIT_MS, known=histories.names())
                    response = stub.PollSuggestions(poll, timeout=WAIT_MS / 1000 + 30)
                    if said != at:
                        said = at
                        log.info("serving %s at %s as %s", ", ".join(samplers), at, name)
                    if not response.HasField("request"):
                        continue
                    history = histories.of(response.request)
                    if history is None:
                        continue  # polled again without it, the whole is told
                    begin = time.monotonic()
                    report = answer(response.request, history, name, suggest)
                    seconds = time.monotonic() - begin
                    say(response.request, report, stub.ReportSuggestions(report, timeout=60), seconds)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
                log.error("%s: %s", at, error.details())
                time.sleep(2)
            said = ""
            time.sleep(0.2)
