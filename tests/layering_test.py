#!/usr/bin/env python3
"""Fails when an #include points the wrong way (docs/ARCHITECTURE.md, "Rooms").

Each room names the rooms and the outside headers it may include; a folder inherits from the longest prefix listed.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
if ROOT.is_file():
    ROOT = ROOT.parent.parent

OUTSIDE = {  # prefix of an include in <> or "" -> its name here
    "absl/": "absl", "nlohmann/": "json", "grpc": "grpc", "google/protobuf": "grpc", "plumb/v1/": "proto",
    "sqlite3.h": "sqlite", "ATen/": "torch", "torch/": "torch", "c10/": "torch", "yaml-cpp/": "yaml",
    "sentencepiece": "sentencepiece", "lzma.h": "lzma", "unicode/": "icu", "CLI/": "cli", "spdlog/": "spdlog", "boost/": "boost",
}
# room -> (rooms, outside names). std and POSIX are free.
MAY = {
    "domain": ({"domain"}, {"absl"}),
    "trainer/spec": ({"trainer/spec"}, {"json"}),
    "data": ({"data", "trainer/spec"}, {"json", "sentencepiece", "icu", "lzma"}),
    "trainer": ({"trainer", "trainer/files", "trainer/linearity", "trainer/ops", "trainer/probes", "trainer/spec", "trainer/protocol", "data"}, {"torch", "json"}),
    "trainer/linearity": ({"trainer", "trainer/linearity", "trainer/ops", "trainer/spec", "trainer/protocol", "data"}, {"torch"}),
    "trainer/probes": ({"trainer", "trainer/linearity", "trainer/probes", "trainer/ops", "trainer/spec", "trainer/protocol", "data"}, {"torch"}),
    "trainer/files": ({"trainer/files", "trainer/spec"}, {"json"}),
    "trainer/ops": ({"trainer/ops"}, {"torch"}),
    "trainer/protocol": ({"trainer/protocol", "trainer/spec"}, {"json"}),
    "sweeps": ({"sweeps", "domain", "trainer/spec"}, {"absl", "json", "yaml", "boost"}),
    "sweeps/examples/blocks": ({"trainer"}, {"torch"}),  # as a user's block, outside of every room
    "interchange": ({"interchange", "trainer/files", "trainer/spec"}, {"json"}),
    "store": ({"store", "domain", "trainer/spec"}, {"absl", "sqlite", "json"}),
    "coordinator/core": ({"coordinator/core", "domain", "sweeps", "trainer/spec"}, {"absl", "json"}),
    "coordinator": ({"coordinator", "coordinator/core", "store", "domain", "sweeps", "trainer/spec", "data"},
                    {"absl", "boost", "json", "grpc", "proto", "spdlog", "sqlite"}),
    "sim": ({"sim", "coordinator/core", "store", "sweeps", "domain"}, {"absl"}),
    "whatif": ({"whatif", "analysis", "coordinator", "coordinator/core", "sim", "store", "sweeps", "domain", "trainer/spec"}, {"absl", "json"}),
    "worker": ({"worker", "domain", "trainer/protocol", "trainer/spec", "data"}, {"absl", "json", "grpc", "proto", "spdlog"}),
    "analysis": ({"analysis", "domain"}, {"absl", "boost"}),
    # trainer/measure_plan.h and the like are Torch-free; the command line never links LibTorch.
    "app": ({"app", "analysis", "interchange", "coordinator", "sim", "whatif", "worker", "store", "sweeps", "domain", "data", "trainer/files", "trainer/spec", "trainer/protocol"},
            {"absl", "json", "grpc", "proto", "cli", "spdlog", "sqlite", "boost"}),
}
ROOMS = sorted(MAY, key=len, reverse=True)


def room_of(path: str) -> str | None:
    return next((r for r in ROOMS if path == r or path.startswith(r + "/")), None)


def main() -> int:
    wrong, files = [], 0
    for path in sorted(ROOT.rglob("*")):
        if path.suffix not in (".h", ".cc", ".cu", ".cuh"):
            continue
        relative = path.relative_to(ROOT).as_posix()
        room = room_of(relative)
        if room is None:
            continue
        files += 1
        rooms, outside = MAY[room]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
            if not match:
                continue
            target = match.group(1)
            name = next((n for prefix, n in OUTSIDE.items() if target.startswith(prefix)), None)
            if name is not None:
                if name not in outside:
                    wrong.append(f"{relative}:{number}: {room} may not include {target} ({name})")
                continue
            target_room = room_of(target)
            if target_room is not None and target_room not in rooms:
                wrong.append(f"{relative}:{number}: {room} may not include {target} (room {target_room})")
    for line in wrong:
        print(line)
    print(f"{files} files, {len(wrong)} includes that point the wrong way")
    return 1 if wrong or files == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
