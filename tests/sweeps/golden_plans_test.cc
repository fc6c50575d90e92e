// A plan is for ever: a server that restarts plans its sweeps again from their text and goes on
// from a cursor, and finished trials are found by their keys. So the plans of the files below may
// never change.
#include <fstream>
#include <sstream>

#include "sweeps/plan.h"
#include "sweeps/stage_files.h"
#include "tests/sweeps/corpora.h"
#include "trainer/spec/sha256.h"

namespace plumb::sweeps {
namespace {

std::string Fingerprint(const std::string& file) {
  const std::string folder = std::string(PLUMB_SOURCE_DIR) + "/sweeps/examples";
  std::ifstream in(folder + "/" + file);
  std::stringstream text;
  text << in.rdbuf();
  const auto pinned = PinFiles(text.str(), file, folder);
  EXPECT_TRUE(pinned.ok()) << pinned.status();
  if (!pinned.ok()) return "";
  const auto plan = PlanSweep(*pinned, file, [](const std::string&, const std::string&) {
    return absl::StatusOr<CorpusInfo>(CorpusInfo{.digest = "d",
                                                 .vocab_size = 256,
                                                 .train_tokens = 1000000000,
                                                 .parts = {{"en", 500000000}, {"ja", 500000000}}});
  });
  EXPECT_TRUE(plan.ok()) << plan.status();
  if (!plan.ok()) return "";
  std::string all = absl::StrCat(plan->name, plan->objective, plan->objective_at, plan->priority);
  for (const PlannedCell& c : plan->cells) {
    absl::StrAppend(&all, "\n", c.name, c.axes_json, c.train_tokens);
    for (const std::string& f : c.flags) absl::StrAppend(&all, " ", f);
  }
  for (const PlannedTrial& t : plan->trials) {
    absl::StrAppend(&all, "\n", t.cell, " ", t.replicate, t.aa, t.key, t.fusion_key, " ", t.flops);
    for (const PlannedStage& s : t.stages) {
      // A pinned file's path is of this machine.
      absl::StrAppend(&all, " ", s.name, s.kind, s.parent, s.target_step, " ", s.priority,
                      s.settings_json.find("path") == std::string::npos ? s.settings_json : "");
    }
  }
  for (const RefusedCell& r : plan->refused) absl::StrAppend(&all, "\n", r.name, r.reason);
  for (const SolveResidual& r : plan->residuals)
    absl::StrAppend(&all, "\n", r.cell, r.field, r.measure, r.target, " ", r.reached);
  return spec::Sha256Hex(all).substr(0, 16);
}

TEST(GoldenPlans, AreWhatTheyWere) {
  const std::pair<const char*, const char*> plans[] = {
#include "tests/sweeps/golden_plans.inc"
  };
  for (const auto& [file, print] : plans) EXPECT_EQ(Fingerprint(file), print) << file;
}

}  // namespace
}  // namespace plumb::sweeps
