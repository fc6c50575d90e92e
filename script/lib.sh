# Sourced by the other scripts: where things are, and how they build.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
preset=${PLUMB_PRESET:-release}
build=$root/build/$preset
venv=$root/.deps/venv
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Set up when this checkout's dependencies are not those that script/setup names today.
ensure_setup() {
  if [ "$(cat .deps/stamp 2>/dev/null)" != "$(setup_stamp)" ] || [ ! -e "$(torch_dir)/include/ATen/ATen.h" ]; then
    script/setup
  fi
}
setup_stamp() { cat script/setup python/requirements.txt | sha256sum | cut -d' ' -f1; }
torch_dir() { if [ -n "${PLUMB_TORCH_DIR:-}" ]; then echo "$PLUMB_TORCH_DIR"; else cat .deps/torch_dir 2>/dev/null || echo none; fi; }

# Configure and build (all, or the targets in $PLUMB_TARGETS); quiet when all is well, the log's end when not.
build_all() {
  mkdir -p "$build"
  say "Building (the first time takes minutes; the log is $build/build.log)"
  if ! cmake --preset "$preset" -DPLUMB_TORCH_DIR="$(torch_dir)" "$@" >"$build/configure.log" 2>&1; then
    tail -30 "$build/configure.log" >&2
    die "configuring failed ($build/configure.log)"
  fi
  if ! cmake --build "$build" -j "${PLUMB_JOBS:-$(nproc)}" ${PLUMB_TARGETS:+--target $PLUMB_TARGETS} >"$build/build.log" 2>&1; then
    grep -E 'error|FAILED' "$build/build.log" | head -30 >&2
    die "building failed ($build/build.log)"
  fi
}
