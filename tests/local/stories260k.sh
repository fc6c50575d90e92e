#!/usr/bin/env bash
# Imports a real checkpoint and compares it with its reference. Not part of script/test: the data is not in the project.
#
#   tests/local/stories260k.sh [FOLDER]     (../shared/data/stories260k)
#
# FOLDER holds config.json, model.safetensors, tok512.bin, reference.json, greedy_expected.txt.
set -euo pipefail
source "$(dirname "$0")/../../script/lib.sh"
data=$(realpath -m "${1:-$root/../shared/data/stories260k}")
if [ ! -e "$data/reference.json" ]; then say "skipped: no $data"; exit 0; fi
cmake --build "$build" --target stories260k_test >/dev/null || die "build first: script/test"
PLUMB_STORIES260K=$data exec "$build/bin/stories260k_test"
