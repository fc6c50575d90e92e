// A population's members as the coordinator sees them: the same trials with any number of restarts,
// at any moment.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "absl/strings/str_cat.h"
#include "coordinator/advisor.h"
#include "coordinator/blobs.h"
#include "coordinator/plan_rows.h"
#include "coordinator/population_log.h"
#include "store/store.h"
#include "tests/coordinator/cluster.h"
#include "tests/sweeps/corpora.h"

namespace plumb::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kSweep[] =
    "sweep: s\n"
    "trial:\n"
    "  model: {head_dim: 16}\n"
    "  data: {corpus: docs, seq_len: 32}\n"
    "  train: {steps: 40, batch_tokens: 1024}\n"
    "axes: {train.lr: {log: [1e-4, 1e-2]}, train.weight_decay: [0, 0.1, 0.2]}\n"
    "search: {population: {members: 6, seed: 3, every: 25%, replace: 1/3}}\n";

// A database, a worker and the core, as far as a population sees them: trials train to where they
// pause, one after the other in a random order, each to a value that follows from its rate.
class World : public store::Results {
 public:
  World() : plan_(sweeps::PlanOrDie(kSweep)) {
    Materialise(plan_.trials);
    Restart();
  }

  absl::StatusOr<std::map<TrialId, store::NamedStage>> Stages(SweepId,
                                                              const std::string&) override {
    return std::map<TrialId, store::NamedStage>();
  }

  absl::StatusOr<std::vector<store::TrialProgress>> Progress(SweepId) override { return trials_; }
  absl::StatusOr<std::vector<store::StepValue>> Points(StageId stage, const std::string& series,
                                                       int64_t after) override {
    EXPECT_EQ(series, "tune/bits_per_byte");
    std::vector<store::StepValue> out;
    for (const auto& [step, value] : points_[stage]) {
      if (step > after) out.push_back({step, value});
    }
    return out;
  }

  // A server that comes up and knows what the database says.
  void Restart() {
    log_.emplace(plan_);
    cells_ = plan_.cells;
    taken_ = 0;
  }
  // One look of the advisor. `lost`: the server dies before it is committed.
  void Advise(bool lost = false) {
    int64_t first = std::ssize(plan_.trials);
    for (size_t i = 0; i < additions_.size(); first += additions_[i++].trials) {
      if (i < taken_) continue;
      const auto made = log_->Take(additions_[i], first, &cells_);
      ASSERT_TRUE(made.ok()) << made.status();
      ++taken_;
      if (first == std::ssize(trials_)) Materialise(*made);
    }
    if (log_->looks() != std::ssize(looks_)) ASSERT_TRUE(log_->Rewind(looks_).ok());
    core::AdviseSweep advice;
    const absl::Status s = log_->Look(
        trials_, *this,
        [&](TrialId, StageId stage) -> absl::StatusOr<CheckpointRow> {
          const int64_t step = trials_[stage.value - 1].checkpoint_step;
          return CheckpointRow{.step = step,
                               .path = absl::StrCat("/s", stage.value, "/step-", step),
                               .digest = absl::StrCat("d", stage.value, "-", step)};
        },
        &advice);
    ASSERT_TRUE(s.ok()) << s;
    ASSERT_EQ(advice.looks_before, std::ssize(looks_));
    if (lost) return;
    for (LookRow look : advice.looks) {
      look.seq = std::ssize(looks_);
      looks_.push_back(look);
    }
    for (const auto& a : advice.additions) {
      additions_.push_back({.idx = std::ssize(additions_),
                            .name = a.name,
                            .payload_json = a.payload_json,
                            .trials = a.trials});
      why_.push_back(a.why);
    }
    for (const auto& v : advice.verdicts) {
      store::TrialProgress& t = trials_[v.trial.value - 1];
      if (v.stop) {
        t.state = StageState::kStopped;
        reasons_[v.trial.value] = v.reason;
        continue;
      }
      EXPECT_TRUE(v.until_step < 0 || v.until_step > t.until_step);
      t.until_step = v.until_step;
      if (t.state == StageState::kPaused) t.state = StageState::kPending;
      kept_[v.trial.value].push_back(v.keep_step);
    }
    open_ = advice.open;
  }
  // One trial that may run comes as far as it may. False: there is none.
  bool Train(std::mt19937_64& random) {
    std::vector<size_t> may;
    for (size_t i = 0; i < trials_.size(); ++i) {
      if (trials_[i].state == StageState::kPending) may.push_back(i);
    }
    if (may.empty()) return false;
    Finish(may[random() % may.size()]);
    return true;
  }
  void Finish(size_t i) {
    store::TrialProgress& t = trials_[i];
    const double lr = configs_[i].train.lr;
    t.step = t.until_step < 0 ? 40 : t.until_step;
    if (diverges_above_ > 0 && lr > diverges_above_) {
      t.state = StageState::kDiverged;
      return;
    }
    points_[t.stage].emplace_back(
        t.step, std::abs(std::log(lr / 1e-3)) + 4.0 / static_cast<double>(t.step));
    t.state = t.until_step < 0 ? StageState::kSucceeded : StageState::kPaused;
    t.checkpoint_step = t.step;
  }
  void Run(uint64_t seed, int restart_percent) {
    std::mt19937_64 random(seed), moments(seed + 1);
    for (int i = 0; i < 1000 && open_; ++i) {
      Train(random);
      const auto dies = [&] { return static_cast<int>(moments() % 100) < restart_percent; };
      if (dies()) Restart();
      if (dies()) Advise(/*lost=*/true), Restart();
      if (dies()) Advise(/*lost=*/true);  // it could not be committed
      Advise();
    }
    EXPECT_FALSE(open_);
    EXPECT_FALSE(Train(random));
  }

  void Materialise(const std::vector<sweeps::PlannedTrial>& more) {
    for (const sweeps::PlannedTrial& t : more) {
      const int64_t id = std::ssize(trials_) + 1;
      trials_.push_back(
          {.trial = TrialId{id}, .stage = StageId{id}, .idx = id - 1, .until_step = t.until_step});
      configs_.push_back(t.config);
      keys_.push_back(t.key);
    }
  }
  int64_t CountOf(StageState state) const {
    return std::count_if(trials_.begin(), trials_.end(),
                         [&](const auto& t) { return t.state == state; });
  }

  sweeps::SweepPlan plan_;
  std::optional<PopulationLog> log_;
  std::vector<sweeps::PlannedCell> cells_;
  size_t taken_ = 0;
  std::vector<store::TrialProgress> trials_;
  std::vector<spec::TrialSpec> configs_;
  std::vector<std::string> keys_;
  std::map<StageId, std::vector<std::pair<int64_t, double>>> points_;
  std::vector<LookRow> looks_;
  std::vector<AdditionRow> additions_;
  std::vector<std::string> why_;
  std::map<int64_t, std::string> reasons_;        // by trial that was stopped
  std::map<int64_t, std::vector<int64_t>> kept_;  // by trial that went on: steps
  bool open_ = true;
  double diverges_above_ = 0;
};

TEST(PopulationLog, TheWorstOfEachGenerationGoOnFromTheBest) {
  World w;
  w.Run(1, 0);
  ASSERT_THAT(w.additions_, SizeIs(3));
  EXPECT_THAT(w.looks_, SizeIs(18)) << "each member at three ends";
  EXPECT_EQ(w.trials_.size(), 12u) << "six members and two forks at each end";
  EXPECT_EQ(w.CountOf(StageState::kSucceeded), 6);
  EXPECT_EQ(w.CountOf(StageState::kStopped), 6);
  for (size_t g = 0; g < 3; ++g) {
    EXPECT_EQ(w.additions_[g].name, absl::StrCat("generation ", g + 1));
    const auto payload = nlohmann::json::parse(w.additions_[g].payload_json);
    std::map<int64_t, double> values;  // by trial, of that end
    for (size_t i = 6 * g; i < 6 * g + 6; ++i)
      values[w.looks_[i].trial_idx + 1] = *w.looks_[i].value;
    std::vector<double> ranked;
    for (const auto& [trial, value] : values) ranked.push_back(value);
    std::sort(ranked.begin(), ranked.end());
    for (const auto& f : payload["forks"]) {
      EXPECT_EQ(f["step"], 10 * (g + 1));
      EXPECT_LE(values.at(f["trial"]), ranked[1]) << "from one of the best two";
      EXPECT_EQ(f["digest"], absl::StrCat("d", f["stage"].get<int64_t>(), "-", 10 * (g + 1)));
      EXPECT_THAT(w.kept_[f["trial"]], testing::Contains(10 * (g + 1))) << "its checkpoint is kept";
      EXPECT_THAT(w.why_[g],
                  HasSubstr(absl::StrCat("goes on from trial ", f["trial"].get<int64_t>())));
    }
    for (const auto& [trial, reason] : w.reasons_) {
      if (reason.find(absl::StrCat("generation ", g + 1, " ")) == 0)
        EXPECT_GE(values.at(trial), ranked[4]) << reason;
    }
  }
  EXPECT_THAT(w.reasons_.begin()->second,
              AllOf(HasSubstr("is number "), HasSubstr(" of 6; member "),
                    HasSubstr(" goes on as a fork of member ")));
  // Rates have moved to where they are good.
  double before = 0, after = 0;
  for (size_t i = 0; i < 6; ++i) before += std::abs(std::log(w.configs_[i].train.lr / 1e-3));
  for (size_t i = 0; i < w.trials_.size(); ++i) {
    if (w.trials_[i].state == StageState::kSucceeded)
      after += std::abs(std::log(w.configs_[i].train.lr / 1e-3));
  }
  EXPECT_LT(after, before / 2);
}

// The property: whatever the order, and wherever the server dies, the trials are the same.
TEST(PopulationLog, ARestartAtAnyMomentDecidesTheSame) {
  World calm;
  calm.Run(1, 0);
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    World fire;
    fire.Run(seed, 40);
    ASSERT_THAT(fire.additions_, SizeIs(3)) << seed;
    for (size_t g = 0; g < 3; ++g)
      EXPECT_EQ(fire.additions_[g].payload_json, calm.additions_[g].payload_json) << seed;
    EXPECT_EQ(fire.keys_, calm.keys_) << seed;
    EXPECT_EQ(fire.reasons_, calm.reasons_) << seed;
    EXPECT_EQ(fire.kept_, calm.kept_) << seed;
    for (size_t c = 0; c < calm.cells_.size(); ++c)
      EXPECT_EQ(fire.cells_[c].name, calm.cells_[c].name) << seed;
  }
}

TEST(PopulationLog, NothingIsDecidedBeforeAllHaveComeToTheEnd) {
  World w;
  for (size_t i = 0; i < 5; ++i) {
    w.Finish(i);
    w.Advise();
  }
  EXPECT_THAT(w.looks_, SizeIs(5));
  EXPECT_THAT(w.additions_, IsEmpty());
  EXPECT_EQ(w.CountOf(StageState::kPaused), 5);
  // A value that is there before its checkpoint is committed does not count yet.
  w.Finish(5);
  w.trials_[5].checkpoint_step = -1;
  w.Advise();
  EXPECT_THAT(w.looks_, SizeIs(5));
  w.trials_[5].checkpoint_step = 10;
  w.Advise();
  EXPECT_THAT(w.looks_, SizeIs(6));
  EXPECT_THAT(w.additions_, SizeIs(1));
  EXPECT_EQ(w.CountOf(StageState::kStopped), 2);
  EXPECT_EQ(w.CountOf(StageState::kPending), 4);
}

TEST(PopulationLog, WhatDivergesIsReplaced) {
  World w;
  std::vector<double> rates;
  for (const auto& c : w.configs_) rates.push_back(c.train.lr);
  std::sort(rates.begin(), rates.end());
  w.diverges_above_ = rates[2];  // three of six, one more than a third
  for (size_t i = 0; i < 6; ++i) w.Finish(i);
  w.Advise();
  EXPECT_EQ(w.CountOf(StageState::kDiverged), 3);
  ASSERT_THAT(w.additions_, SizeIs(1));
  EXPECT_EQ(w.additions_[0].trials, 3);
  EXPECT_THAT(w.why_[0], HasSubstr("(no value) goes on from trial "));
  EXPECT_EQ(w.CountOf(StageState::kStopped), 0);
  w.Run(2, 20);
  EXPECT_EQ(w.CountOf(StageState::kSucceeded) + w.CountOf(StageState::kStopped) +
                w.CountOf(StageState::kDiverged),
            std::ssize(w.trials_));
  EXPECT_GE(w.CountOf(StageState::kSucceeded), 3);
}

TEST(PopulationLog, WhereAllDivergeTheSweepEnds) {
  World w;
  w.diverges_above_ = 1e-9;
  w.Run(3, 20);
  EXPECT_EQ(w.CountOf(StageState::kDiverged), 6);
  EXPECT_THAT(w.additions_, IsEmpty());
}

TEST(PopulationLog, AdditionsOfNoPopulationAreDataLoss) {
  World w;
  w.Run(1, 0);
  for (const auto& [from, to] :
       std::map<std::string, std::string>{{"\"forks\"", "\"spoons\""},
                                          {"\"member\":", "\"member\":7"},
                                          {"\"values\":[", "\"values\":[9e9,"}}) {
    World again;
    AdditionRow a = w.additions_[0];
    a.payload_json.replace(a.payload_json.find(from), from.size(), to);
    const auto made = again.log_->Take(a, 6, &again.cells_);
    EXPECT_EQ(made.status().code(), absl::StatusCode::kDataLoss) << to;
    EXPECT_THAT(again.cells_, SizeIs(6));
  }
}

TEST(PopulationLog, MembersAreRowsThatPauseShareNothingAndSayWhereTheyBegin) {
  World w;
  w.Run(1, 0);
  std::vector<sweeps::PlannedTrial> added;
  PopulationLog log(w.plan_);
  for (const AdditionRow& a : w.additions_) {
    const auto more = log.Take(a, 6 + std::ssize(added), &w.plan_.cells);
    ASSERT_TRUE(more.ok()) << more.status();
    added.insert(added.end(), more->begin(), more->end());
  }
  EXPECT_TRUE(NeedsAdvice(w.plan_));
  Contest contest(w.plan_);
  contest.Join(w.plan_.trials);
  contest.Join(added);
  const auto slice = ToSlice(w.plan_, added, contest, SweepId{1}, "r", 0, 100);
  const auto other = ToSlice(w.plan_, added, contest, SweepId{2}, "s", 0, 100);
  ASSERT_THAT(*slice.trials, SizeIs(12));
  ASSERT_THAT(slice.cells, SizeIs(12));
  for (size_t i = 0; i < 12; ++i) {
    const core::NewTrial& t = (*slice.trials)[i];
    const StageRow& s = t.stages.front();
    EXPECT_EQ(t.cell_idx, i);
    EXPECT_NE(t.trial.key, (*other.trials)[i].trial.key) << "of one sweep alone";
    EXPECT_EQ(s.prefix_key, "");
    EXPECT_EQ(s.trunk_step, 0);
    EXPECT_EQ(s.until_step, i < 6 ? 10 : i < 8 ? 20 : i < 10 ? 30 : -1);
    EXPECT_EQ(s.branch_step, i < 6 ? 0 : i < 8 ? 10 : i < 10 ? 20 : 30);
    EXPECT_EQ(bool(s.branch_stage), i >= 6);
  }
}

// Its parent may be far beyond by the time a fork gets a place.
TEST(NeededBlobs, WhatAForkThatHasNotBegunBeginsWithStays) {
  TempDir dir;
  const std::string digest(64, 'a');
  auto store = store::Store::Open(dir / "plumb.db", 0);
  ASSERT_TRUE(store.ok()) << store.status();
  const auto execute = [&](const std::string& sql) {
    const absl::Status s = (*store)->database().Execute(sql);
    ASSERT_TRUE(s.ok()) << s;
  };
  execute(absl::StrCat(
      "INSERT INTO trial VALUES (1, 'k', 'f', '{\"init\":{\"digest\":\"", digest,
      "\",\"step\":10}}', 'pending', 4, 64, 1, 1, 16, 64, 256, 'rmsnorm', 'rope', 'swiglu', 0, "
      "'c', "
      "'bytes', 64, 1024, 100, 0.001, 0, 0, 1000, 500, 500, 3000, 102400, 3.072e8, 0); "
      "INSERT INTO stage (id, trial_id, name, kind, settings_json, state, priority, target_step, "
      "step, attempts, failures, not_before_ct_us, threads, checkpoint_step, reason) VALUES (1, 1, "
      "'pretrain', 'pretrain', '{}', 'pending', 0, 30, 0, 0, 0, 0, 1, -1, 'new')"));
  const auto blobs = store::Blobs::Open(dir / "blobs", {});
  ASSERT_TRUE(blobs.ok()) << blobs.status();
  const auto needed = [&] {
    const auto out = NeededBlobs(dir / "plumb.db", **blobs);
    EXPECT_TRUE(out.ok()) << out.status();
    return out.ok() ? *out : std::set<std::string>{};
  };
  EXPECT_THAT(needed(), ElementsAre(digest));
  execute("UPDATE stage SET state = 'running'");
  EXPECT_THAT(needed(), ElementsAre(digest));
  execute("UPDATE stage SET state = 'failed'");
  EXPECT_THAT(needed(), IsEmpty());
  execute(
      absl::StrCat("UPDATE stage SET state = 'paused', checkpoint_step = 12, checkpoint_digest = '",
                   std::string(64, 'b'), "'"));
  EXPECT_THAT(needed(), ElementsAre(std::string(64, 'b'))) << "it has one of its own";
}

}  // namespace
}  // namespace plumb::coordinator
