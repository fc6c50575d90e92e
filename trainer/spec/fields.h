// The one table of all fields of a TrialSpec.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "trainer/spec/trial_spec.h"

namespace plumb::spec {

enum class FieldType { kInteger, kNumber, kBoolean, kString, kChoice };
enum class Identity {
  kResult,     // changes what is computed: part of the trial's key
  kExecution,  // changes only how (threads, micro-batch, checkpoint cadence)
};
enum class Fusion {
  kKey,   // must be equal for all rows of a bundle
  kRow,   // may differ from row to row
  kFree,  // irrelevant to fusion
};

// One field, bound to a TrialSpec it reads and writes.
struct Field {
  std::string path;  // "model.d_model"
  FieldType type = FieldType::kNumber;
  std::string doc;
  std::string unit;                  // "" where there is none
  double min = 0, max = 0;           // inclusive; numbers only
  std::vector<std::string> choices;  // kChoice only
  Identity identity = Identity::kResult;
  Fusion fusion = Fusion::kKey;
  std::function<nlohmann::json()> get;
  // Sets the field. Returns "" or what is wrong with the value (the spec is then unchanged).
  std::function<std::string(const nlohmann::json&)> set;
};

// The fields of `spec`, in the order of the reference page. `spec` must outlive the result.
std::vector<Field> Fields(TrialSpec& spec);

// The name under which a field may be meant without its path: its last part ("d_model" for
// "model.d_model"); "" for base.…, the shape that others are compared with, which has no short
// name.
std::string ShortName(const std::string& path);

// The path in the table nearest to `path` by edit distance, or "" when none is near.
std::string NearestField(const std::string& path);

// Edit distance (insert, delete, substitute, swap neighbours).
int EditDistance(const std::string& a, const std::string& b);

}  // namespace plumb::spec
