// From a node of the file to the value of a field, checked against the field table.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "sweeps/problem.h"
#include "sweeps/yaml_reader.h"
#include "trainer/spec/fields.h"

namespace plumb::sweeps {

// Budgets that only sweep files know; each becomes steps when a cell is completed.
struct OwnBudget {
  double seconds = 0;           // of one trial, by the file's calibration
  double tokens_per_param = 0;  // of params_total
};
// The fields of a trial and the budgets of `own`. Both must outlive the result.
std::vector<spec::Field> SweepFields(spec::TrialSpec& spec, OwnBudget& own);

class FieldTable {
 public:
  FieldTable();
  FieldTable(const FieldTable&) = delete;
  FieldTable& operator=(const FieldTable&) = delete;

  const spec::Field* Find(const std::string& path) const;  // nullptr for an unknown path
  // The field meant by a full path or a last part that only one field has; nullptr and a problem
  // otherwise.
  const spec::Field* FindOrReport(const YamlNode& name, std::vector<Problem>* problems) const;

 private:
  spec::TrialSpec scratch_;
  OwnBudget own_;
  std::vector<spec::Field> fields_;
};

// The value as JSON text; nullopt and a problem at the node when the field does not take it.
std::optional<std::string> ReadFieldValue(const YamlNode& node, const spec::Field& field,
                                          std::vector<Problem>* problems);
// The same for a number computed from a range: whole for an integer field.
std::optional<std::string> NumberAsFieldValue(double value, Position at, const spec::Field& field,
                                              std::vector<Problem>* problems);

// A plain scalar as a number, or a problem.
std::optional<double> ReadNumber(const YamlNode& node, std::vector<Problem>* problems);
// A whole number in [low, high].
std::optional<int64_t> ReadInteger(const YamlNode& node, int64_t low, int64_t high,
                                   std::vector<Problem>* problems);

// The name in `known` nearest to `given`, as "; did you mean x?", or a list of all where none is
// near.
std::string Suggest(const std::string& given, const std::vector<std::string>& known);
// A problem for each key of the map that is not in `known`.
void ReportUnknownKeys(const YamlNode& map, const std::vector<std::string>& known,
                       std::vector<Problem>* problems);

}  // namespace plumb::sweeps
