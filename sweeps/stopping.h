// Who goes on and who ends: the rules of `stop:` over what the trials have shown so far.
//
// Looks, values of one metric at one step of one trial, are taken one by one, in the order in which
// they were committed; what holds after them is a function of that order alone, so a server that
// starts again and takes the same looks decides the same. Nothing is ever taken back: a promotion
// stands, and so does a stop.
//
//   asha       L. Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020.
//              stop: a trial goes on if it is among the best max(1, floor(n * keep)) of the n that
//              the rung has seen at the moment it comes there, and ends otherwise.
//              promote: algorithm 2, but new trials first. A trial that is among the best
//              floor(n * keep) goes on, the lowest rung first, when there is a place that no other
//              of its group waits for (a spare place), or when nobody of it runs. Since a sweep
//              knows its candidates beforehand, all of them are computed to the first rung anyway:
//              promoting before that, as the algorithm does on an endless stream, keeps no place
//              busier and takes on trials that better ones push out.
//   hyperband  L. Li et al., "Hyperband", JMLR 2018: asha in brackets, each with a later first rung
//              than the one before. A trial joins the bracket that is furthest behind its share; of
//              S brackets, the one with r rungs has the share keep^-r * S / (r + 1), rounded up.
//   median     D. Golovin et al., "Google Vizier", KDD 2017: a trial ends when its best value so
//              far is above the median of the others' means up to that step.
//   divergence a trial ends when its value is above `factor` times its own best.
//   racing     a cell ends when a paired t-test over replicates says that it is worse than the
//              best: one-sided, at alpha over (cells - 1) and over the looks there can be
//              (Bonferroni).
//
// Smaller values are better, or larger ones where it is said; of equal ones the earlier. A run that
// diverged or failed counts as infinite at the rung it was on its way to.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "sweeps/stop_spec.h"

namespace plumb::sweeps {

struct Look {
  int64_t trial = 0;  // place among the contestants
  int64_t step = 0;   // below 0: no value is seen, but that a place is spare for the trial's group
  std::optional<double> value;  // none: it diverged, failed or was cancelled; it has no further
};

struct Contestant {
  int64_t group = 0;      // asha, hyperband and median compare within it
  int64_t cell = 0;       // racing
  int64_t replicate = 0;  // racing
  int64_t steps = 0;      // when nothing stops it
};

struct Verdict {
  bool stop = false;
  int64_t until_step = -1;  // where it pauses, -1: nowhere; never goes down
  std::string reason;       // of the last change, with the numbers that made it
};

class Stopping {
 public:
  // `cells`: how many there will be, for racing. `maximize`: larger values are better, not smaller.
  explicit Stopping(StopSpec spec, int64_t cells = 1, bool maximize = false)
      : spec_(std::move(spec)), most_cells_(cells), sign_(maximize ? -1 : 1) {}
  Stopping(Stopping&&) = default;
  Stopping& operator=(Stopping&&) = default;

  // The next contestant. Of a group all come before its first look.
  void Add(const Contestant& contestant);
  void Take(const Look& look);
  int64_t contestants() const { return static_cast<int64_t>(runs_.size()); }

  const Verdict& Of(int64_t trial) const { return runs_[static_cast<size_t>(trial)].verdict; }
  // Whether it has ended or is to: no further look of it matters.
  bool Out(int64_t trial) const { return runs_[static_cast<size_t>(trial)].out; }
  // Whether a value at this step has a part in any rule: each evaluation for `median` and
  // `divergence`, else the first at or after a rung and the last.
  bool Wants(int64_t trial, int64_t step) const;
  // Trials of which a spare place would have one more go on: one of each group that holds any
  // back, with all the trials that are compared with it.
  struct Held {
    int64_t trial = 0;
    const std::vector<int64_t>* group = nullptr;
  };
  std::vector<Held> HeldBack() const;

 private:
  struct Entry {
    double value;
    int64_t order;  // of looks
    int64_t trial;
    auto operator<=>(const Entry&) const = default;
  };
  // One group's bracket.
  struct Ladder {
    std::vector<std::vector<Entry>> rungs;  // best first
    std::vector<std::set<Entry>> waiting;   // of those, who waits there to be promoted
    std::vector<int64_t> trials;
    int64_t running = 0, finished = 0;
  };
  struct Run {
    Contestant is;
    Ladder* ladder = nullptr;
    std::vector<int64_t> rungs;                    // steps
    size_t passed = 0;                             // rungs at which it was seen
    size_t allowed = 0;                            // rungs that it may go beyond
    bool out = false;                              // it has ended, or will
    Entry entry;                                   // at the rung where it waits
    double best = 0;                               // with `seen`
    std::vector<std::pair<int64_t, double>> seen;  // step, value: for median and divergence
    Verdict verdict;
  };

  std::string Shown(double value) const;  // as it was measured
  Run& At(int64_t trial) { return runs_[static_cast<size_t>(trial)]; }
  int64_t BracketFor(int64_t group);
  bool Waits(const Run& r) const { return !r.out && r.passed > r.allowed; }
  void Climb(int64_t trial, double value, bool is_last);
  void Record(int64_t trial, int64_t step, double value);
  RungMode Mode() const { return spec_.asha ? spec_.asha->mode : spec_.hyperband->mode; }
  int64_t KeptOf(const std::vector<Entry>& board) const;
  // The lowest rung at which somebody waits who is among the best; nullopt: there is none.
  std::optional<size_t> Ready(const Ladder& ladder) const;
  void Promote(Ladder& ladder, size_t rung);
  void Allow(int64_t trial, size_t rungs, std::string reason);
  void Leave(int64_t trial, bool finished);
  void Stop(int64_t trial, std::string reason);
  void Close(Ladder& ladder);
  void Median(int64_t trial, int64_t step);
  void Divergence(int64_t trial, int64_t step, double value);
  void Racing(int64_t trial, double value);

  StopSpec spec_;
  int64_t most_cells_ = 1;
  double sign_ = 1;  // values are kept as if less were better
  int64_t looks_ = 0;
  std::vector<Run> runs_;
  std::map<std::pair<int64_t, int64_t>, Ladder> ladders_;  // by group and bracket
  std::map<int64_t, std::vector<int64_t>> joined_;         // by group: trials of each bracket
  std::map<int64_t, std::vector<int64_t>> groups_;         // by group: its trials
  // Racing: by cell, final values by replicate; how many replicates it has; whether it is out.
  struct Cell {
    std::map<int64_t, double> values;
    std::vector<int64_t> trials;
    bool out = false;
  };
  std::map<int64_t, Cell> cells_;
};

}  // namespace plumb::sweeps
