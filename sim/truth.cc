#include "sim/truth.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "sim/random.h"

namespace plumb::sim {

Truth TruthOf(const Work& work, const std::string& key, const std::string& stage) {
  Random random(HashOf(absl::StrCat(key, "/", stage)));
  Truth t;
  t.target_step = random.Between(20, 200);
  t.point_every = random.Between(1, 10);
  t.checkpoint_every = random.Between(5, 60);
  const double share = stage == "pretrain" ? 1 : 0.1;
  const double seconds =
      std::min(work.mean_seconds * share * (0.3 + random.Exponential(0.7)), 4 * work.mean_seconds);
  t.seconds_per_step = seconds / static_cast<double>(t.target_step);
  double u = random.Unit();
  const auto takes = [&](double p) { return (u -= p) < 0; };
  if (takes(work.diverges)) {
    t.fate = Fate::kDiverges;
  } else if (takes(work.infeasible)) {
    t.fate = Fate::kInfeasible;
  } else if (takes(work.crashes)) {
    t.fate = Fate::kCrashes;
  } else if (takes(work.out_of_memory)) {
    t.fate = Fate::kOutOfMemory;
  } else if (takes(work.kills_machine)) {
    t.fate = Fate::kKillsMachine;
  }
  t.fate_step = random.Between(1, t.target_step);
  return t;
}

double ValueAt(const std::string& key, const std::string& stage, int64_t step) {
  const uint64_t h = HashOf(absl::StrCat(key, "/", stage), static_cast<uint64_t>(step) + 1);
  return 2 + 6 * std::exp(-0.02 * static_cast<double>(step)) +
         1e-3 * static_cast<double>(h >> 40) / (1 << 24);
}

std::string DigestAt(const std::string& key, const std::string& stage, int64_t step) {
  return absl::StrCat(
      absl::Hex(HashOf(absl::StrCat(key, "#", stage), static_cast<uint64_t>(step))));
}

core::NewTrial TrialOf(const Work& work, const std::string& key, int64_t cell_idx) {
  Random random(HashOf(key));
  core::NewTrial out;
  out.trial.key = key;
  out.trial.fusion_key = absl::StrCat("f", HashOf(key) % 7);
  out.trial.config_json = absl::StrCat("{\"key\":\"", key, "\"}");
  out.cell_idx = cell_idx;
  int64_t threads = random.Chance(work.two_threads) ? 2 : 1;
  std::string labels = random.Chance(work.special) ? "gpu" : "";
  int64_t memory = work.memory > 0
                       ? (1 + static_cast<int64_t>(std::min(random.Exponential(work.memory), 6.0)))
                             << 30
                       : 0;
  Random shares(HashOf(key, 7));
  int64_t bundle = shares.Chance(work.bundles) ? shares.Between(2, 8) : 1;
  if (bundle > 1 && shares.Chance(work.alike)) {
    out.trial.fusion_key = "alike";
    threads = 1;
    labels.clear();
    memory = std::min(memory, int64_t{1} << 30);
    bundle = work.alike_rows;
  }
  // Up to where it may have been computed by another of its family: before what is its own.
  Random trunks(HashOf(key, 13));
  const Truth trains = TruthOf(work, key, "pretrain");
  int64_t trunk = trunks.Chance(work.trunks) ? trunks.Between(1, trains.target_step) : 0;
  if (trains.fate != Fate::kSucceeds) trunk = std::min(trunk, trains.fate_step - 1);
  const std::string family = absl::StrCat("family", HashOf(key, 17) % 4);
  const int64_t ranks = shares.Chance(work.gangs) ? shares.Between(2, work.most_ranks) : 1;
  const auto add = [&](const char* name, const char* kind, const char* parent) {
    const bool trains = std::string(kind) != "evaluate";
    const int64_t processes = trains ? ranks : 1;
    const Truth t = TruthOf(work, key, name);
    out.stages.push_back({.name = name,
                          .kind = kind,
                          .target_step = t.target_step,
                          .threads = (ranks > 1 ? 1 : threads) * processes,
                          .memory_bytes = memory * processes,
                          .labels = ranks > 1 ? "" : labels,
                          .bundle = std::string(kind) == "pretrain" && ranks == 1 ? bundle : 1,
                          .ranks = processes});
    if (std::string(kind) == "pretrain" && trunk > 0) {
      out.stages.back().prefix_key = family;
      out.stages.back().trunk_step = trunk;
    }
    out.parents.push_back(parent);
  };
  add("pretrain", "pretrain", "");
  if (random.Chance(work.child)) add("evaluate", "evaluate", "pretrain");
  if (random.Chance(work.exclusive)) add("timing", "timing", "");
  return out;
}

}  // namespace plumb::sim
