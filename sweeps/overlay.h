// Values of fields as `trial:` and each of `variants:` give them, and the fields that are computed.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sweeps/expression.h"
#include "sweeps/field_values.h"
#include "sweeps/measures.h"
#include "sweeps/problem.h"
#include "sweeps/yaml_reader.h"

namespace plumb::sweeps {

// A value of a field as JSON text: 64, 0.001, "llama", true.
using FieldValue = std::string;

// A field that follows from others: `train.tokens: 20 * params_non_embedding`.
struct Computed {
  Position at;
  std::string field;
  std::string text;
  Expression expression;
};

struct Overlay {
  std::map<std::string, FieldValue> values;  // dotted field -> value
  std::map<std::string, Position> at;        // where each field given stands, computed ones too
  std::map<std::string, Computed> computed;  // by field; never also in `values`
  std::set<std::string> of_shape;            // fields that model.shape gives
};

// The budgets, of which a trial has exactly one.
const std::vector<std::string>& BudgetFields();
constexpr char kBudgetNames[] =
    "train.steps, train.tokens, train.flops, train.epochs, train.seconds, train.tokens_per_param";
bool IsBudget(const std::string& path);
// Of OwnBudget (sweeps/field_values.h).
bool IsOwnBudget(const std::string& path);

// A condition or formula at a node, every name in it checked; nullopt with problems otherwise.
std::optional<Expression> ReadExpression(const YamlNode& node, const NameContext& names,
                                         std::vector<Problem>* problems);

// Adds the fields of a map of sections or dotted paths; model.shape gives the fields of a named
// shape, which the map's others override. A field given twice in one file is a
// problem; one that an included file gave is overridden (`file_of`: which file a line is of; equal
// numbers, one file).
void ReadOverlay(const YamlNode& map, const FieldTable& fields, const NameContext& names,
                 const std::vector<int>& file_starts, Overlay* overlay,
                 std::vector<Problem>* problems);

}  // namespace plumb::sweeps
