#include "analysis/compare.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "analysis/statistics.h"

namespace plumb::analysis {
namespace {

std::vector<double> Values(const BySeed& m) {
  std::vector<double> out;
  for (const auto& [seed, value] : m) out.push_back(value);
  return out;
}

void AddNew(std::vector<std::string>* to, const std::string& value) {
  if (std::find(to->begin(), to->end(), value) == to->end()) to->push_back(value);
}

int64_t Count(const Arm& a, bool control, Gap gap) {
  return std::count_if(a.missing.begin(), a.missing.end(),
                       [&](const Missing& m) { return m.control == control && m.gap == gap; });
}

int64_t Planned(const Arm& a, bool control) {
  return std::ssize(control ? a.control : a.values) +
         std::count_if(a.missing.begin(), a.missing.end(),
                       [&](const Missing& m) { return m.control == control; });
}

// The median over the runs, with those that diverged as +infinity.
std::string Median(const BySeed& values, int64_t diverged) {
  std::vector<double> v = Values(values);
  v.resize(v.size() + static_cast<size_t>(diverged), std::numeric_limits<double>::infinity());
  std::sort(v.begin(), v.end());
  const double low = v[(v.size() - 1) / 2], high = v[v.size() / 2];
  if (std::isinf(high)) return "diverged";
  return absl::StrFormat("%.4f", (low + high) / 2);
}

// Why the replicates (or the control) say nothing of the cell; "": they do.
std::string ReasonAgainst(const Arm& a, bool control) {
  const BySeed& values = control ? a.control : a.values;
  const std::string of =
      absl::StrCat(" of ", Planned(a, control), control ? " runs of its control" : " replicates");
  if (const int64_t n = Count(a, control, Gap::kDiverged); n > 0) {
    return absl::StrCat(n, of, " diverged (median, divergence as the worst: ", Median(values, n),
                        ")");
  }
  if (const int64_t n = Count(a, control, Gap::kStopped); n > 0)
    return absl::StrCat(n, of, n == 1 ? " was" : " were", " stopped early, for the score it had");
  if (const int64_t n = Count(a, control, Gap::kNoValue); n > 0)
    return absl::StrCat(n, of, n == 1 ? " has" : " have", " no finite value");
  if (values.empty() && !control) return "no replicate has a result yet";
  return "";
}

class Reader {
 public:
  Reader(const std::vector<Arm>& arms, const CompareOptions& options, const std::string& unit)
      : unit_(unit) {
    out_.options = options;
    for (const Arm& arm : arms) {
      AddNew(&values_, arm.value);
      AddNew(&slices_, arm.slice);
      if (!arm.missing.empty()) {
        out_.absent.push_back({.name = arm.name,
                               .planned = Planned(arm, false) + Planned(arm, true),
                               .missing = arm.missing});
      }
      for (bool control : {false, true}) {
        std::string reason = ReasonAgainst(arm, control);
        if (!reason.empty()) {
          out_.left_out.push_back({arm.name, std::move(reason)});
        } else {
          (control ? controlled_ : good_).push_back(&arm);
        }
      }
    }
  }

  Comparison Read() {
    ReadControl();
    for (const std::string& value : values_) {
      if (value != out_.options.baseline) CompareValue(value);
    }
    Adjust();
    for (Compared& row : out_.rows) row.verdict = Judge(row);
    Notes();
    Sentences();
    return std::move(out_);
  }

 private:
  double Alpha() const { return 1 - out_.options.level; }

  static const Arm* Find(const std::vector<const Arm*>& in, const std::string& value,
                         const std::string& slice) {
    for (const Arm* a : in) {
      if (a->value == value && a->slice == slice) return a;
    }
    return nullptr;
  }

  // Its replicates and its control's, where both are sound.
  const Arm* Controlled(const std::string& value, const std::string& slice) const {
    const Arm* a = Find(controlled_, value, slice);
    return a != nullptr && !a->control.empty() && Find(good_, value, slice) == a ? a : nullptr;
  }

  static std::vector<double> Group(const BySeed& own, const BySeed& control) {
    std::vector<double> out = Values(own);
    const std::vector<double> more = Values(control);
    out.insert(out.end(), more.begin(), more.end());
    return out;
  }

  void ReadControl() {
    ControlReading c;
    std::vector<std::vector<double>> groups;
    for (const std::string& value : values_) {
      for (const std::string& slice : slices_) {
        const Arm* a = Controlled(value, slice);
        if (a == nullptr) continue;
        c.rows.push_back({value, slice, UnpairedT(a->values, a->control, out_.options.level)});
        groups.push_back(Group(a->values, a->control));
      }
    }
    const std::optional<SeedNoise> noise = PoolNoise(groups);
    if (!noise) return;
    c.noise = *noise;
    out_.control = std::move(c);
  }

  // Noise of a mean over `slices`, where some value has a control in all of them; else that of one
  // slice, which is no smaller.
  std::optional<SeedNoise> NoiseOver(const std::vector<std::string>& slices) const {
    std::vector<std::vector<double>> groups;
    for (const std::string& value : values_) {
      std::vector<BySeed> own, control;
      for (const std::string& slice : slices) {
        const Arm* a = Controlled(value, slice);
        if (a == nullptr) break;
        own.push_back(a->values), control.push_back(a->control);
      }
      if (own.size() == slices.size())
        groups.push_back(Group(MeanOverSlices(own), MeanOverSlices(control)));
    }
    if (const std::optional<SeedNoise> noise = PoolNoise(groups)) return noise;
    if (out_.control) return out_.control->noise;
    return std::nullopt;
  }

  void Add(Compared row, const BySeed& a, const BySeed& b, const std::vector<const Arm*>& of,
           const std::optional<SeedNoise>& noise) {
    row.difference = CompareArms(a, b, out_.options.level);
    const Difference& d = row.difference;
    if (noise && d.n_a > 0 && d.n_b > 0)
      row.noise_floor = noise->Floor(d.n_a, d.n_b, out_.options.level);
    for (const Arm* arm : of) {
      row.partial |= Planned(*arm, false) > std::ssize(arm->values);
      for (const std::string& flag : arm->flags) AddNew(&row.flags, flag);
    }
    out_.rows.push_back(std::move(row));
  }

  void CompareValue(const std::string& value) {
    std::vector<BySeed> ours, theirs;
    std::vector<const Arm*> both;
    std::vector<std::string> shared;
    std::optional<SeedNoise> noise;
    if (out_.control) noise = out_.control->noise;
    for (const std::string& slice : slices_) {
      const Arm *a = Find(good_, value, slice), *b = Find(good_, out_.options.baseline, slice);
      if (a != nullptr && b == nullptr) {
        out_.left_out.push_back(
            {a->name, absl::StrCat("no sound cell of ", out_.options.baseline, " to compare with",
                                   slice.empty() ? "" : " at ", slice)});
      }
      if (a == nullptr || b == nullptr) continue;
      Add({.value = value, .slice = slice}, a->values, b->values, {a, b}, noise);
      ours.push_back(a->values), theirs.push_back(b->values);
      both.push_back(a), both.push_back(b);
      shared.push_back(slice);
    }
    if (shared.size() > 1) {
      Add({.value = value, .slices = std::ssize(shared), .pooled = true}, MeanOverSlices(ours),
          MeanOverSlices(theirs), both, NoiseOver(shared));
    }
  }

  void Adjust() {
    std::vector<std::optional<double>> p;
    for (const Compared& row : out_.rows) {
      p.push_back(row.difference.p);
      out_.tested += row.difference.p.has_value();
    }
    p = Holm(p);
    for (size_t i = 0; i < out_.rows.size(); ++i) out_.rows[i].p_holm = p[i];
  }

  Verdict Judge(const Compared& row) const {
    const Difference& d = row.difference;
    if (!row.p_holm) return d.SameInAll() ? Verdict::kNoSpread : Verdict::kTooFew;
    if (*row.p_holm > Alpha()) return Verdict::kCannotBeTold;
    if (row.noise_floor && std::abs(d.mean) <= *row.noise_floor) return Verdict::kWithinNoise;
    return d.mean < 0 ? Verdict::kLower : Verdict::kHigher;
  }

  void Notes() {
    std::vector<std::string>& notes = out_.notes;
    const auto any = [&](auto&& what) {
      return std::any_of(out_.rows.begin(), out_.rows.end(), what);
    };
    if (out_.rows.empty()) notes.push_back("Nothing to compare: no slice has both arms.");
    if (any([](const Compared& r) { return r.verdict == Verdict::kTooFew; })) {
      notes.push_back(
          "One run of an arm is no spread to judge by: no interval. Write `replicates: 3` (5 make "
          "intervals narrow) into the sweep file and submit it again; what is done is not computed "
          "again.");
    }
    if (out_.control) {
      for (const ControlReading::Row& row : out_.control->rows) {
        const double among = static_cast<double>(out_.control->rows.size());
        if (row.difference.p && among * *row.difference.p <= Alpha()) {
          notes.push_back(absl::StrFormat(
              "The A/A control differs from itself: %s%s%s on other seeds by %.4g (p = %.2g). More "
              "than the seed moves it, or its seeds are unlucky: run more replicates before any "
              "claim.",
              row.value, row.slice.empty() ? "" : " at ", row.slice, row.difference.mean,
              *row.difference.p));
        }
      }
    } else {
      notes.push_back(
          "No noise floor: add `aa: true` (or `aa: {axis: value}`) to the sweep file, which runs "
          "cells again on other seeds.");
    }
    if (any([](const Compared& r) { return !r.difference.paired; })) {
      notes.push_back(
          "Unpaired (n as 3+3): the arms share fewer than two seeds, so the noise of the seeds "
          "does "
          "not cancel (Welch's test).");
    }
    if (any([](const Compared& r) { return r.partial; })) {
      notes.push_back(
          "Partial: some runs have not ended or failed, and only seeds that both arms have are "
          "compared; read again when all are there.");
    }
    std::vector<std::string> flags;
    for (const Compared& r : out_.rows) {
      for (const std::string& f : r.flags) AddNew(&flags, f);
    }
    if (!flags.empty()) {
      std::string words = absl::StrJoin(flags, ", ");
      std::replace(words.begin(), words.end(), '_', ' ');
      notes.push_back(absl::StrCat("Flagged cells are among the compared: ", words, "."));
    }
  }

  std::string MoreOrLess(double difference) const {
    const std::optional<bool>& lower = out_.options.lower_is_better;
    const bool less = difference < 0;
    return absl::StrCat(less ? "lower" : "higher", !lower           ? ""
                                                   : *lower == less ? " (better)"
                                                                    : " (worse)");
  }

  std::string Sentence(const Compared& row) const {
    const Difference& d = row.difference;
    const std::string& base = out_.options.baseline;
    const std::string level = absl::StrFormat("%.4g %%", 100 * out_.options.level);
    std::string out = row.value;
    if (row.pooled) absl::StrAppend(&out, " over ", row.slices, " slices");
    if (!row.pooled && !row.slice.empty()) absl::StrAppend(&out, " at ", row.slice);
    absl::StrAppend(&out, row.partial ? ", so far: " : ": ");
    const std::string n =
        d.paired ? absl::StrCat("n = ", d.n_a) : absl::StrCat("n = ", d.n_a, " and ", d.n_b);
    switch (row.verdict) {
      case Verdict::kLower:
      case Verdict::kHigher:
        absl::StrAppendFormat(
            &out, "%.4g %s %s than %s (%s interval of the difference %.4g to %.4g, %s)",
            std::abs(d.mean), unit_, MoreOrLess(d.mean), base, level, d.low, d.high, n);
        break;
      case Verdict::kWithinNoise:
        absl::StrAppendFormat(
            &out,
            "differs from %s by %.4g %s in pairs of seeds (p = %.2g, %s), but other "
            "seeds alone move a mean by up to %.4g: inside the noise floor, not "
            "claimed",
            base, d.mean, unit_, *row.p_holm, n, *row.noise_floor);
        break;
      case Verdict::kCannotBeTold:
        absl::StrAppendFormat(&out, "cannot be told from %s at %s", base, n);
        if (d.p && *d.p <= Alpha())
          absl::StrAppendFormat(&out, " among %d comparisons (p = %.2g alone)", out_.tested, *d.p);
        absl::StrAppendFormat(
            &out,
            "; a difference of more than %.4g %s is not compatible with the data (%s interval)",
            LargestCompatible(d), unit_, level);
        break;
      case Verdict::kNoSpread:
        absl::StrAppendFormat(&out,
                              "every one of %d pairs differs by %.4g %s: no spread to judge by",
                              d.n_a, d.mean, unit_);
        break;
      case Verdict::kTooFew:
        if (std::isfinite(d.mean)) {
          absl::StrAppendFormat(&out,
                                "differs from %s by %.4g %s at %s: no interval, nothing is claimed",
                                base, d.mean, unit_, n);
        } else {
          absl::StrAppend(&out, "no common runs with ", base);
        }
        break;
    }
    return out + ".";
  }

  void Sentences() {
    for (const std::string& value : values_) {
      const Compared* row = nullptr;  // the pooled one is the last of its value
      for (const Compared& r : out_.rows) {
        if (r.value == value) row = &r;
      }
      if (row != nullptr) out_.sentences.push_back(Sentence(*row));
    }
    if (out_.tested > 1) {
      const auto told = std::count_if(out_.rows.begin(), out_.rows.end(), [](const Compared& r) {
        return r.verdict == Verdict::kLower || r.verdict == Verdict::kHigher;
      });
      out_.sentences.push_back(
          absl::StrFormat("%d of %d comparisons tell a difference; the chance that any of these is "
                          "false is at most "
                          "%.4g %% (Holm).",
                          told, out_.tested, 100 * Alpha()));
    }
  }

  const std::string unit_;
  std::vector<const Arm*> good_, controlled_;  // sound replicates, sound control
  std::vector<std::string> values_, slices_;
  Comparison out_;
};

}  // namespace

Comparison Compare(const std::vector<Arm>& arms, const CompareOptions& options,
                   const std::string& unit) {
  return Reader(arms, options, unit).Read();
}

std::string VerdictInWords(const Compared& row, const CompareOptions& options) {
  const auto told = [&](bool lower) {
    if (options.lower_is_better) return *options.lower_is_better == lower ? "better" : "worse";
    return lower ? "lower" : "higher";
  };
  std::string out;
  switch (row.verdict) {
    case Verdict::kLower:
      out = told(true);
      break;
    case Verdict::kHigher:
      out = told(false);
      break;
    case Verdict::kWithinNoise:
      out = "inside the noise floor";
      break;
    case Verdict::kCannotBeTold:
      out = "cannot be told";
      break;
    case Verdict::kNoSpread:
      out = "no spread";
      break;
    case Verdict::kTooFew:
      out = "no interval";
      break;
  }
  if (row.partial) out += ", partial";
  if (!row.flags.empty()) out += ", flagged";
  return out;
}

std::string AbsentInWords(const Absent& absent) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> by_words;
  for (const Missing& m : absent.missing) {
    const std::string words = absl::StrCat(m.words, m.control ? " (control)" : "");
    auto it = std::find_if(by_words.begin(), by_words.end(),
                           [&](const auto& w) { return w.first == words; });
    if (it == by_words.end()) it = by_words.insert(by_words.end(), {words, {}});
    it->second.push_back(m.trial);
  }
  return absl::StrJoin(by_words, "; ", [](std::string* out, const auto& w) {
    absl::StrAppend(out, w.second.size() == 1 ? "trial " : "trials ", absl::StrJoin(w.second, ", "),
                    " ", w.first);
  });
}

}  // namespace plumb::analysis
