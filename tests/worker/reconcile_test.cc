#include "worker/reconcile.h"

#include <gmock/gmock.h>

#include <sstream>

namespace plumb::worker {
namespace {

// A cluster as a picture. Attempts are "stage.number"; local ones carry a phase (w waiting, s sent,
// l live, e ended) and what they were asked (p preempt, c cancel); slots are '.' free and 'x'
// taken; "pre" lists stages to preempt.
struct Case {
  const char* says;
  const char* desired;
  const char* preempt;
  const char* local;
  const char* slots;
  const char* actions;
  bool known = true;
  bool draining = false;
};

AttemptKey Key(const std::string& text) {
  AttemptKey key{.incarnation = 1};
  char dot;
  std::istringstream(text) >> key.stage >> dot >> key.number;
  return key;
}

std::string Draw(const std::vector<Action>& actions) {
  static const char* const kNames[] = {"take", "start", "preempt", "cancel", "abandon", "forget"};
  std::ostringstream out;
  for (const Action& a : actions) {
    out << (out.tellp() > 0 ? " " : "") << kNames[a.kind] << ":" << a.key.stage << "."
        << a.key.number;
    if (a.slot >= 0) out << "@" << a.slot;
  }
  return out.str();
}

TEST(Reconcile, DoesWhatThePictureSays) {
  const Case cases[] = {
      {"nothing to do", "", "", "", "..", ""},
      {"a new attempt is taken and started", "7.1", "", "", "..", "take:7.1 start:7.1@0"},
      {"the first free slot is used", "5.1 7.1", "", "5.1l", "x.", "take:7.1 start:7.1@1"},
      {"without a free slot it waits", "5.1 7.1", "", "5.1l", "x", "take:7.1"},
      {"one that waits starts when there is room", "7.1", "", "7.1w", ".", "start:7.1@0"},
      {"two attempts, two slots", "7.1 8.1", "", "", "..",
       "take:7.1 take:8.1 start:7.1@0 start:8.1@1"},
      {"what runs is left alone", "7.1", "", "7.1l", "x", ""},
      {"what has ended is kept while it is desired", "7.1", "", "7.1e", ".", ""},
      {"and forgotten after", "", "", "7.1e", ".", "forget:7.1"},
      {"what is not desired is cancelled", "", "", "7.1l", "x", "cancel:7.1"},
      {"once", "", "", "7.1lc", "x", ""},
      {"a cancelled one is forgotten once it has ended", "", "", "7.1ec", ".", "forget:7.1"},
      {"one that never began is just forgotten", "", "", "7.1w", "x", "forget:7.1"},
      {"before the coordinator has spoken nothing is stopped", "", "", "7.1l 8.1e", "x.", "",
       false},
      {"a new attempt of a stage replaces the old one", "7.2", "", "7.1l", "x",
       "cancel:7.1 take:7.2"},
      {"in another slot at once", "7.2", "", "7.1lc", "x.", "take:7.2 start:7.2@1"},
      {"preemption asks for a checkpoint", "7.1", "7", "7.1l", "x", "preempt:7.1"},
      {"once too", "7.1", "7", "7.1lp", "x", ""},
      {"a preempted one that is dropped is cancelled", "", "7", "7.1lp", "x", "cancel:7.1"},
      {"a preempted one that never began is abandoned", "7.1", "7", "7.1w", "x", "abandon:7.1"},
      {"draining preempts all and starts nothing", "7.1 8.1", "", "7.1l", "x.",
       "preempt:7.1 take:8.1 abandon:8.1", true, true},
      {"draining works without the coordinator", "", "", "7.1l 8.1w", "x.",
       "preempt:7.1 abandon:8.1", false, true},
  };
  for (const Case& c : cases) {
    Desired desired{.known = c.known, .draining = c.draining};
    std::vector<LocalAttempt> local;
    std::vector<SlotView> slots;
    std::string word;
    for (std::istringstream in(c.desired); in >> word;) desired.attempts.push_back(Key(word));
    for (std::istringstream in(c.preempt); in >> word;)
      desired.preempt_stages.insert(std::stoll(word));
    for (std::istringstream in(c.local); in >> word;) {
      LocalAttempt a{.key = Key(word)};
      if (word.find('s') != std::string::npos) a.phase = Phase::kSent;
      if (word.find('l') != std::string::npos) a.phase = Phase::kLive;
      if (word.find('e') != std::string::npos) a.phase = Phase::kEnded;
      if (word.find('p') != std::string::npos) a.stop = Stop::kPreempt;
      if (word.find('c') != std::string::npos) a.stop = Stop::kCancel;
      local.push_back(a);
    }
    for (const char slot : std::string(c.slots)) slots.push_back({.free = slot == '.'});
    EXPECT_EQ(Draw(Reconcile(desired, local, slots)), c.actions) << c.says;
  }
}

TEST(Reconcile, AttemptOfAnotherIncarnationIsNotTheSameAttempt) {
  const Desired desired{.attempts = {{.incarnation = 2, .stage = 7, .number = 1}}, .known = true};
  const std::vector<LocalAttempt> local = {
      {.key = {.incarnation = 1, .stage = 7, .number = 1}, .phase = Phase::kLive}};
  const auto actions = Reconcile(desired, local, {{.free = false}});
  ASSERT_EQ(actions.size(), 2u);
  EXPECT_EQ(actions[0], (Action{Action::kCancel, local[0].key}));
  EXPECT_EQ(actions[1], (Action{Action::kTake, desired.attempts[0]}));
}

TEST(Reconcile, AMemberOfAGangStartsOnceRankZeroIsKnownAndEndsWithIt) {
  const AttemptKey key{.incarnation = 1, .stage = 7, .number = 1};
  Desired desired{.attempts = {key}, .known = true, .members = {key}, .unready = {key}};
  EXPECT_EQ(Draw(Reconcile(desired, {}, {{.free = true}})), "take:7.1");
  desired.unready.clear();
  EXPECT_EQ(Draw(Reconcile(desired, {{.key = key}}, {{.free = true}})), "start:7.1@0");
  desired.draining = true;
  EXPECT_EQ(Draw(Reconcile(desired, {{.key = key, .phase = Phase::kLive}}, {{.free = false}})), "");
  EXPECT_EQ(Draw(Reconcile(desired, {{.key = key}}, {{.free = true}})), "abandon:7.1");
  desired.attempts.clear();
  EXPECT_EQ(Draw(Reconcile(desired, {{.key = key, .phase = Phase::kLive}}, {{.free = false}})),
            "cancel:7.1");
}

TEST(Reconcile, RowsOfABundleShareItsSlot) {
  const auto key = [](int64_t stage) {
    return AttemptKey{.incarnation = 1, .stage = stage, .number = 1};
  };
  Desired desired{.attempts = {key(1), key(2), key(3), key(4), key(5)}, .known = true};
  for (int64_t stage : {1, 2}) desired.bundles[key(stage)] = 70;
  for (int64_t stage : {3, 5}) desired.bundles[key(stage)] = 80;
  const std::vector<LocalAttempt> local = {{.key = key(1), .phase = Phase::kLive, .slot = 0}};
  // Two joins the live one, three opens a slot and five joins that; for four there is none.
  EXPECT_EQ(Draw(Reconcile(desired, local, {{.free = false}, {.free = true}})),
            "take:2.1 take:3.1 take:4.1 take:5.1 start:2.1@0 start:3.1@1 start:5.1@1");
}

}  // namespace
}  // namespace plumb::worker
