// The small language of `where:`, `when:` and computed fields.
//
//   d_model % n_heads == 0      params_total <= 2M and not tied_head      round_to(8/3 * d_model,
//   64) 5 * ref(preln).params_non_embedding
//
// + - * / % and unary minus, comparisons, and/or/not, parentheses, min(…), max(…), floor(x),
// ceil(x), round(x), floor_to(x, m), ceil_to(x, m), round_to(x, m), numbers with k/M/G/T, true,
// false, 'text'. A name is what the caller says it is. Numbers are exact fractions as long as they
// fit into 63 bits, and doubles after that.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sweeps/rational.h"

namespace plumb::sweeps {

struct Value {
  enum class Kind { kNumber, kBoolean, kText };
  Kind kind = Kind::kNumber;
  double number = 0;
  bool boolean = false;
  std::string text;
  std::optional<Rational> exact;  // of a number, where it is known exactly

  static Value Number(double v) {
    return {.kind = Kind::kNumber, .number = v, .exact = Rational::Of(v)};
  }
  static Value Exact(Rational v) {
    return {.kind = Kind::kNumber, .number = v.ToDouble(), .exact = v};
  }
  static Value Inexact(double v) { return {.kind = Kind::kNumber, .number = v}; }
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
    std::string text;  // "d_model", "ref(preln).tokens"
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
    Value value;     // of a number
    std::string text;
    int left = -1, right = -1;  // indices into nodes_
  };
  absl::StatusOr<Value> Evaluate(int node, const Lookup& lookup) const;
  static absl::StatusOr<Value> Arithmetic(const std::string& op, const Value& a, const Value& b);

  std::vector<Node> nodes_;  // the last one is the root
  std::vector<Name> names_;
};

// The parts of "ref(preln).tokens"; nullopt for any other name.
struct Reference {
  std::string variant;
  std::string name;
};
std::optional<Reference> AsReference(const std::string& name);

}  // namespace plumb::sweeps
