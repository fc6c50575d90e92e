// What a run reads of a corpus of several parts, and when: data.mix and data.phases.
//
// Text and canonical form: a mix is "en=0.7,ja=0.3", parts sorted by name; phases are
// "0.5:ja=1;0.5:en=0.5,ja=0.5", each a fraction of the steps and a mix. Weights and fractions are
// whole millionths that add up to exactly one, so that who counts samples counts exactly, and equal
// mixtures have equal text. Empty means: parts in proportion to their training tokens; one phase.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "trainer/spec/trial_spec.h"

namespace plumb::spec {

inline constexpr int64_t kMillionths = 1000000;
inline constexpr size_t kMaxParts = 64;
inline constexpr size_t kMaxPhases = 64;

using Mix = std::vector<std::pair<std::string, int64_t>>;  // part, millionths above 0; by name

struct MixPhase {
  int64_t share = kMillionths;  // of the steps
  Mix mix;
};

// 1 to 32 lower-case letters, digits, '_', '-': it becomes part of series' names.
bool IsPartName(const std::string& name);

// Read the text of a mix or of phases. Weights may be any numbers of at least 0, and are divided by
// their sum; parts of weight 0 are left out. Fractions must add up to 1, and neighbours of one mix
// are one phase. Return "" or what is wrong; `out` is written only then.
std::string ParseMix(const std::string& text, Mix* out);
std::string ParsePhases(const std::string& text, std::vector<MixPhase>* out);

std::string MixText(const Mix& mix);
std::string PhasesText(const std::vector<MixPhase>& phases);

// Canonical forms of the two fields; the empty text is its own. Return "" or what is wrong.
std::string CanonicalMix(const std::string& text, std::string* canonical);
std::string CanonicalPhases(const std::string& text, std::string* canonical);

// `values` (finite, at least 0, one above 0) divided by their sum, as millionths that add up to
// exactly one: by largest remainder, the first of equal ones. What is above 0 gets at least one
// millionth.
std::vector<int64_t> Millionths(const std::vector<double>& values);

struct CorpusPart {
  std::string name;
  int64_t train_tokens = 0;
};

// Steps [begin_step, end_step), of which a part has weights[i] millionths of the samples.
struct PartPhase {
  int64_t begin_step = 0, end_step = 0;
  std::vector<int64_t> weights;  // by part of the corpus
};

// The phases of a resolved spec on the parts of its corpus; a phase that rounds to no step is left
// out. Returns "" or what is wrong: a part that the corpus lacks is named, and those it has.
std::string PhasesOn(const TrialSpec& resolved, const std::vector<CorpusPart>& parts,
                     std::vector<PartPhase>* phases);

// Training tokens of each part, to within a sample a phase.
std::vector<double> TokensByPart(const TrialSpec& resolved, const std::vector<PartPhase>& phases);

}  // namespace plumb::spec
