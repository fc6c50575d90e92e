// From a point of the space to the cells it means: one for each variant, or one.
//
// A cell is computed in phases, each on what the ones before it know: the values of the axes, the
// formulas of shape fields, the solved field, counts, the formulas of the budget and of rates,
// `where`.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sweeps/field_values.h"
#include "sweeps/formulas.h"
#include "sweeps/plan.h"
#include "sweeps/solve.h"
#include "sweeps/space.h"
#include "sweeps/sweep_file.h"
#include "trainer/spec/fields.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {

// Thrown away as a point, or kept as a cell.
struct Candidate {
  PlannedCell cell;
  spec::TrialSpec config;  // resolved; of replicate 0, with the first value of what is tuned
  spec::TrialSpec recipe;  // the same before Resolve: a tuned value may still be set
  std::vector<SolveResidual> residuals;
  std::string refused;       // why it is no cell; "" where it is one
  std::string arm;           // its variant, or matched arm; "" without variants
  std::vector<bool> active;  // by axis of the file: it exists here
};

class Completer {
 public:
  // All must outlive it. Problems are those of the file as a whole: a corpus that is not there, a
  // condition that is none.
  Completer(const SweepFile& file, const CorpusLookup& corpora, std::vector<Problem>* problems);
  Completer(const Completer&) = delete;
  Completer& operator=(const Completer&) = delete;

  // In the order of the variants, each with its matched arms behind it. Empty for a point that
  // differs from another only on axes that do not exist here.
  std::vector<Candidate> Complete(const SpacePoint& point);

  // Not InvalidArgument when a corpus could not be had.
  absl::StatusCode code() const { return code_; }

 private:
  // A variant, or a variant matched to the baseline.
  struct Arm {
    size_t variant = 0;
    const Match* match = nullptr;
    std::string name;  // "sas", "sas@flops"; "" without variants
  };
  // What is known of an arm at the point at hand.
  struct Work {
    bool shaped = false, budgeted = false;
    std::string refused;
    spec::TrialSpec spec;      // before Resolve
    spec::TrialSpec shape;     // resolved with any budget: for counts
    spec::TrialSpec resolved;  // with its budget
    std::vector<SolveResidual> residuals;
    std::string solved;  // the solved axis's value
    OwnBudget own;       // not in `spec` yet
  };

  void Wrong(Position at, std::string message) { problems_->push_back({at, std::move(message)}); }
  Work& Shape(size_t arm);
  Work& Budget(size_t arm);
  std::string ShapeOf(size_t arm, Work* work);
  std::string BudgetOf(size_t arm, Work* work);
  std::string MatchShape(const Arm& arm, const spec::TrialSpec& raw, Work* work);
  Candidate Finish(size_t arm);

  // Which axes exist at the point; nullopt for a point that stands for another.
  std::optional<std::vector<bool>> ActiveAxes(size_t arm);
  std::string ApplyFormulas(const std::vector<Computed>& formulas, size_t arm,
                            const spec::TrialSpec* counted, spec::TrialSpec* spec);
  absl::StatusOr<Value> Lookup(const std::string& name, size_t arm, const spec::TrialSpec& own);
  std::optional<Solution> SolveField(const std::string& field, int64_t multiple_of,
                                     const std::string& measure, double target, size_t arm,
                                     const spec::TrialSpec& raw);
  // By the file's prices; FailedPrecondition without the trial's corpus.
  absl::StatusOr<double> SecondsOf(const spec::TrialSpec& resolved);
  SpecValues ValuesOf(const spec::TrialSpec& resolved) {
    return SpecValues(resolved, [this, &resolved] { return SecondsOf(resolved); });
  }
  // Sets the steps or tokens that a budget of the sweep file's own means for the trial's shape.
  std::string SetOwnBudget(const OwnBudget& own, spec::TrialSpec* s);
  std::string SetField(spec::TrialSpec* s, const std::string& field, const FieldValue& value);

  std::string AddCorpus(spec::TrialSpec* s, PlannedCell* cell);
  const CorpusInfo* Corpus(const std::string& corpus, const std::string& tokenizer);
  void NameAxes();
  void Describe(const Arm& arm, const std::string& solved, PlannedCell* cell) const;

  const SweepFile& file_;
  const CorpusLookup& corpora_;
  std::vector<Problem>* problems_;
  NameContext names_;
  std::vector<Arm> arms_;
  std::vector<Overlay> fields_;     // by variant
  std::vector<Formulas> formulas_;  // by variant
  std::optional<size_t> solved_axis_;
  std::map<std::pair<std::string, std::string>, CorpusInfo> corpus_;
  std::map<std::string, std::string> name_of_;  // field -> its name in cells
  spec::TrialSpec bound_;                       // what bound_fields_ are bound to
  std::vector<spec::Field> bound_fields_;
  std::string why_invalid_;
  absl::StatusCode code_ = absl::StatusCode::kInvalidArgument;

  // Of the point at hand.
  const SpacePoint* point_ = nullptr;
  std::vector<std::vector<bool>> active_;  // by variant, by axis
  std::vector<Work> work_;                 // by arm
};

// Sets tuned values on a recipe and resolves it; "" or what is wrong.
std::string ResolveRecipe(const Tune& tune, const std::vector<FieldValue>& values,
                          int64_t train_tokens, const spec::TrialSpec& recipe,
                          spec::TrialSpec* out);

}  // namespace plumb::sweeps
