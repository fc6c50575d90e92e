// The small language of `where:` and of computed budgets.
//
//   d_model % n_heads == 0      params_total <= 2M and not tied_head      max(n_layers, 4) *
//   d_model < 4096
//
// + - * / % and unary minus, comparisons, and/or/not, parentheses, min(…), max(…), numbers with
// k/M/G/T, true, false, 'text'. A name is what the caller says it is.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace plumb::sweeps {

struct Value {
  enum class Kind { kNumber, kBoolean, kText };
  Kind kind = Kind::kNumber;
  double number = 0;
  bool boolean = false;
  std::string text;

  static Value Number(double v) { return {.kind = Kind::kNumber, .number = v}; }
  static Value Boolean(bool v) { return {.kind = Kind::kBoolean, .boolean = v}; }
  static Value Text(std::string v) { return {.kind = Kind::kText, .text = std::move(v)}; }
};

class Expression {
 public:
  struct Error {
    int offset = 0;  // characters from the start of the text
    std::string message;
  };
  struct Name {
    int offset = 0;
    std::string text;
  };

  // nullopt and `*error` when the text is no expression.
  static std::optional<Expression> Parse(const std::string& text, Error* error);

  const std::vector<Name>& names() const {
    return names_;
  }  // in order of appearance, repeated ones too

  // InvalidArgument for operands of the wrong kind, division by zero, and a result that is not
  // finite.
  using Lookup = std::function<absl::StatusOr<Value>(const std::string& name)>;
  absl::StatusOr<Value> Evaluate(const Lookup& lookup) const;

 private:
  friend class ExpressionParser;
  struct Node {
    std::string op;  // "number", "name", "text", "true", "neg", "+", "and", "min", …
    double number = 0;
    std::string text;
    int left = -1, right = -1;  // indices into nodes_
  };
  absl::StatusOr<Value> Evaluate(int node, const Lookup& lookup) const;

  std::vector<Node> nodes_;  // the last one is the root
  std::vector<Name> names_;
};

}  // namespace plumb::sweeps
