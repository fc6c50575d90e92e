#!/usr/bin/env python3
"""Makes the core or the store wrong on purpose, one line at a time, and checks that the simulation notices.

    tests/sim/mutations.py build/release [NAME…]
    tests/sim/mutations.py --check              # only that the list is of the sources as they are

Each mutation replaces a text that stands once in a file. The file is compiled alone and linked before the libraries of the
build, which must be up to date (ninja plumb-sim-hunt). Exits with 1 if one is not caught, or if the unchanged program is not clean.
"""
import os
import pathlib
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CORE, WORKERS, SUBMIT, SCHEDULE, BUNDLES, GANGS, TRUNKS = (
    f"coordinator/core/{n}.cc" for n in ("core", "workers", "submit", "schedule", "bundles", "gangs", "trunks"))

MUTATIONS = [  # name, file, from, to
    ("stale_attempt_number", WORKERS,
     "if (a.incarnation != incarnation_ || !w.grants.contains(a.attempt.stage) ||\n"
     "      At(a.attempt.stage).row.attempts != a.attempt.number) {",
     "if (a.incarnation != incarnation_ || !w.grants.contains(a.attempt.stage)) {"),
    ("repeated_batch_is_applied", WORKERS, "batch->first_seq != stage.live->acked_seq + 1 ||", ""),
    ("end_before_its_facts", WORKERS, "a.outcome && a.through_seq <= stage.live->acked_seq", "a.outcome"),
    ("gone_without_the_generation", WORKERS, "if (e.generation >= stage.live->granted_generation &&\n", "if (\n"),
    ("failures_do_not_count", WORKERS, "stage.row.failures += failed;", ""),
    ("losses_do_not_count", WORKERS, "stage.row.losses += lost;", "stage.row.losses += 8 * lost;"),
    ("progress_does_not_reset_the_budget", WORKERS, "stage.row.failures = stage.row.losses = 0;\n    stage.failed_on.clear();", ""),
    ("older_copy_not_noticed_by_workers", WORKERS, "known.cluster > said", "false"),
    ("raised_but_nothing_lost", WORKERS,
     "LoseAll(w, \"the database is an older copy: a worker remembers more than it\");", ""),
    ("sessions_of_a_forgotten_time", WORKERS, "by_session_.clear();\n  incarnation_", "incarnation_"),
    ("slots_are_not_given_back", BUNDLES, "w.used -= b.slots;", ""),
    ("memory_is_not_given_back", BUNDLES, "w.memory_used -= b.memory;", ""),
    ("opened_without_taking_slots", BUNDLES, "  w.used += share.slots;\n", ""),
    ("a_bundle_takes_more_rows_than_it_has", BUNDLES, "static_cast<int64_t>(b.rows.size()) + b.stopping < b.rows_max", "true"),
    ("a_row_still_stopping_is_forgotten", BUNDLES, "b.stopping += stopping;", ""),
    ("a_bundle_is_charged_once_a_row", BUNDLES, "live.slot_us += us * b.slots / rows;", "live.slot_us += us * b.slots; live.row_us += 0;"),
    ("rows_of_another_kind_share_a_trainer", BUNDLES, ".key = stage.fusion,", ".key = 0,"),
    ("rebuilt_bundles_have_one_row", CORE, "Open(w, stage, need, bundle, a.bundle_rows);", "Open(w, stage, need, bundle, 1);"),
    ("rebuilt_attempts_forget_acks", CORE, ".acked_seq = a.acked_seq,", ".acked_seq = 0,"),
    ("children_are_not_queued", CORE, "} else {\n      Place(child);\n    }", "}"),
    ("sessions_start_again_from_one", CORE, "return (incarnation - 1) << kSessionShift;", "return 0;"),
    ("attempt_numbers_are_given_twice", SCHEDULE, "++stage.row.attempts;", "stage.row.attempts += stage.row.failures > 1 ? 0 : 1;"),
    ("more_than_the_slots", SCHEDULE, "w.row.slots - w.used >= need.slots", "w.row.slots >= need.slots"),
    ("more_than_the_memory", SCHEDULE, "w.memory_used + need.memory <= w.row.memory_bytes", "true"),
    ("labels_are_not_looked_at", SCHEDULE, "return needed == 0 || covers_.contains({labels, needed});", "return true;"),
    ("paused_sweeps_are_granted", SCHEDULE, "if (sponsor.paused) return;", ""),
    ("paused_sweeps_run_on", SCHEDULE, "Preempt(stage, \"its sweep is paused\");", ""),
    ("quotas_are_not_looked_at", SCHEDULE, "blocked.contains(need) || OverQuota(user, need.slots)", "blocked.contains(need)"),
    ("users_keep_the_slots_of_ended_attempts", BUNDLES, "UserOf(b.user).slots -= b.slots;", ""),
    ("a_generation_never_given_is_believed", WORKERS, "e.generation > generation_ &&", "false &&"),
    ("attempt_starts_past_its_checkpoint", SCHEDULE,
     "const int64_t start = stage.row.checkpoint_step >= 0 ? stage.row.checkpoint_step : 0;",
     "const int64_t start = stage.row.step;"),
    ("submit_is_not_idempotent", SUBMIT,
     "if (const auto it = by_request_.find(e.sweep.request_id); it != by_request_.end()) {",
     "if (const auto it = by_request_.find(\"\"); it != by_request_.end()) {"),
    ("members_keep_their_slots", WORKERS, "for (const Member& m : stage.live->members) leave(m.worker, m.bundle);", ""),
    ("a_lost_member_does_not_end_the_attempt", WORKERS,
     "    EndAttempt(At(id), Outcome::kLost, why, \"\", \"{}\", w.row.id);",
     "    if (At(id).live->worker == w.row.id) EndAttempt(At(id), Outcome::kLost, why, \"\", \"{}\", w.row.id);"),
    ("half_a_gang_is_granted", GANGS, "    if (placed == need.ranks) return out;\n  }\n  return {};", "    if (placed == need.ranks) return out;\n  }\n  return out;"),
    ("gangs_across_networks", GANGS, "if (p.gang != gang) out.clear(), placed = 0, gang = p.gang;", "gang = p.gang;"),
    ("begins_past_what_it_shares", TRUNKS, "checkpoints.upper_bound(Furthest(stage.row))", "checkpoints.end()"),
    ("what_waits_for_a_trunk_is_forgotten", CORE, "  Place(stage);\n  PlaceOthers(stage);\n", "  Place(stage);\n"),
    ("a_branch_keeps_what_it_measured_before", SCHEDULE, "branched ? -1 : stage.row.checkpoint_step", "stage.row.checkpoint_step"),
    ("trunks_are_forgotten_at_a_restart", CORE, "  KnowTrunks(s.trunks);\n", ""),
    ("members_are_forgotten_at_a_restart", CORE, "    for (const AttemptMember& m : a.members) {", "    for (const AttemptMember& m : std::vector<AttemptMember>{}) {"),
]


# Those that few clusters come to: the first seed to try.
FROM = {"a_generation_never_given_is_believed": 740}


def hunt(program: str, seeds: int, every: int, first: int = 1) -> subprocess.CompletedProcess:
    command = [program, "--from", str(first), "--seeds", str(seeds), "--sqlite-every", str(every), "--shrink", "0", "--stop-after", "1"]
    limit = 600 if every == 1 else 120  # of the processor's seconds: other work beside it must not look like a program that does not end
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit)))


def stale() -> list[str]:
    found = [(name, file, (ROOT / file).read_text(encoding="utf-8").count(old)) for name, file, old, _ in MUTATIONS]
    return [f"{name}: the text stands {n} times in {file}: mend this list" for name, file, n in found if n != 1]


def main() -> int:
    print("".join(line + "\n" for line in stale()), end="")
    if stale() or sys.argv[1:] == ["--check"]:
        return 1 if stale() else 0
    build = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/release").resolve()
    only = set(sys.argv[2:])
    commands = subprocess.run(["ninja", "-C", build, "-t", "commands", "plumb-sim-hunt"], capture_output=True, text=True,
                              check=True).stdout.splitlines()
    link = next(c for c in commands if "-o bin/plumb-sim-hunt " in c).removeprefix(": && ").removesuffix(" && :")
    seeds = int(os.environ.get("PLUMB_SEEDS", "100"))
    clean = hunt(str(build / "bin/plumb-sim-hunt"), 20, 10)
    if clean.returncode != 0:
        print("the unchanged program goes wrong:\n" + clean.stdout)
        return 1
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        for name, file, old, new in MUTATIONS:
            if only and name not in only:
                continue
            text = (ROOT / file).read_text(encoding="utf-8")
            mutated = pathlib.Path(folder) / (name + ".cc")
            mutated.write_text(text.replace(old, new), encoding="utf-8")
            compile_ = next(c for c in commands if c.endswith("-c " + str(ROOT / file)))
            words = shlex.split(compile_)
            words[words.index("-c") + 1] = str(mutated)
            words[words.index("-o") + 1] = str(mutated.with_suffix(".o"))
            for flag in ("-MF", "-MT"):
                words[words.index(flag) + 1] = str(mutated.with_suffix(".d"))
            subprocess.run(words, cwd=build, check=True, stderr=subprocess.DEVNULL)
            program = str(pathlib.Path(folder) / name)
            words = shlex.split(link.replace("-o bin/plumb-sim-hunt ", f"-o {program} {mutated.with_suffix('.o')} "))
            subprocess.run(words, cwd=build, check=True)
            start = time.monotonic()
            found = hunt(program, seeds, 1 if file.startswith("store/") else 10, FROM.get(name, 1))
            wrong = [line for line in found.stdout.splitlines() if "goes wrong" in line]
            caught = wrong[0] if wrong else f"it ended with code {found.returncode}" if found.returncode not in (0, 1) else ""
            if found.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
                caught = "it does not end (the unchanged program takes about 15 s, on SQLite alone 80)"
            print(f"{name}: {'caught: ' + caught if caught else 'NOT CAUGHT'} ({time.monotonic() - start:.1f} s)", flush=True)
            if not caught:
                missed.append(name)
            os.remove(program)
    print(f"{len(missed)} of {len(only) or len(MUTATIONS)} not caught" + (": " + ", ".join(missed) if missed else ""))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
