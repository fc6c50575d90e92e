#include "app/model_spec.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "sweeps/number.h"
#include "trainer/spec/fields.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/presets.h"

namespace plumb::app {
namespace {

nlohmann::json ValueOf(const std::string& text) {
  if (text == "true") return true;
  if (text == "false") return false;
  if (const std::optional<double> number = sweeps::ParseNumber(text)) return *number;
  return text;
}

// The field of a short name; where several have it, the first of these sections' (seq_len is
// data.seq_len, not eval.seq_len). What no field has stays as it is, and is refused by name.
std::string PathOf(const std::string& name) {
  spec::TrialSpec spec;
  for (const char* section : {"model.", "data.", "train.", "router.", "eval.", "seed."}) {
    for (const spec::Field& f : spec::Fields(spec)) {
      if (f.path.rfind(section, 0) == 0 && spec::ShortName(f.path) == name) return f.path;
    }
  }
  return name;
}

}  // namespace

absl::StatusOr<spec::TrialSpec> SpecOfPreset(const std::string& preset, const std::string& shape) {
  const std::vector<std::string> presets = spec::PresetNames();
  if (std::find(presets.begin(), presets.end(), preset) == presets.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("no preset \"", preset, "\"; there are ", absl::StrJoin(presets, ", ")));
  }
  nlohmann::json fields = {{"model.preset", preset}, {"train.steps", 1}};
  for (absl::string_view item : absl::StrSplit(shape, ',', absl::SkipWhitespace())) {
    const std::vector<std::string> sides = absl::StrSplit(item, absl::MaxSplits('=', 1));
    if (sides.size() != 2) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", item, "\": write field=value, as n_layers=4,d_model=64"));
    }
    const std::string name(absl::StripAsciiWhitespace(sides[0]));
    fields[PathOf(name)] = ValueOf(sides[1]);
  }
  if (!fields.contains("train.batch_tokens"))
    fields["train.batch_tokens"] = fields.value("data.seq_len", spec::TrialSpec().data.seq_len);
  spec::TrialSpec spec;
  const auto errors = spec::ParseResolved(fields.dump(), &spec);
  if (!errors.empty()) return absl::InvalidArgumentError(spec::Format(errors));
  return spec;
}

}  // namespace plumb::app
