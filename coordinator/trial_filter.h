// Which trials an expression means: `n_layers >= 4 and variant == sas and state == succeeded`, in
// the language of `where:`, over a trial's config, its cell's axes and how it stands.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "store/read.h"
#include "sweeps/expression.h"

namespace plumb::coordinator {

class TrialFilter {
 public:
  // An empty text takes every trial. InvalidArgument says what is wrong, with a caret; `among`: the
  // trials that will be asked about, whose axes and variants the text may name.
  static absl::StatusOr<TrialFilter> Create(const std::string& text,
                                            const std::vector<store::TrialView>& among);
  absl::StatusOr<bool> Takes(const store::TrialView& trial) const;

 private:
  std::string text_;
  std::optional<sweeps::Expression> expression_;
};

}  // namespace plumb::coordinator
