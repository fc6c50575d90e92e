#include "sweeps/expression.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "sweeps/number.h"

namespace plumb::sweeps {
namespace {

// Below 0, 0 or above 0 as a is less than, equal to or greater than b.
int Order(const Value& a, const Value& b) {
  if (a.exact && b.exact) return a.exact->Compare(*b.exact);
  return a.number < b.number ? -1 : a.number > b.number ? 1 : 0;
}

}  // namespace

// Recursive descent; the first thing that does not fit ends it.
class ExpressionParser {
 public:
  ExpressionParser(const std::string& text, Expression::Error* error)
      : text_(text), error_(error) {}

  std::optional<Expression> Run() {
    if (text_.size() > 4096) {
      Fail(0, "longer than 4096 characters");
      return std::nullopt;
    }
    Or();
    if (!failed_) {
      Blank();
      if (at_ < text_.size()) {
        const bool equals = text_[at_] == '=';
        Fail(at_, equals ? "write == to compare"
                         : absl::StrCat("unexpected \"", text_.substr(at_, 1), "\""));
      }
    }
    if (failed_) return std::nullopt;
    return std::move(out_);
  }

 private:
  static bool IsNameStart(char c) { return absl::ascii_isalpha(c) || c == '_'; }
  static bool IsNamePart(char c) { return absl::ascii_isalnum(c) || c == '_' || c == '.'; }

  int Fail(size_t offset, std::string message) {
    if (!failed_) *error_ = {static_cast<int>(offset), std::move(message)};
    failed_ = true;
    return -1;
  }
  void Blank() {
    while (at_ < text_.size() && absl::ascii_isspace(text_[at_])) ++at_;
  }
  bool Symbol(const char* symbol) {
    Blank();
    const std::string s = symbol;
    if (text_.compare(at_, s.size(), s) != 0) return false;
    at_ += s.size();
    return true;
  }
  bool Word(const char* word) {
    Blank();
    const std::string s = word;
    if (text_.compare(at_, s.size(), s) != 0) return false;
    if (at_ + s.size() < text_.size() && IsNamePart(text_[at_ + s.size()])) return false;
    at_ += s.size();
    return true;
  }
  int Add(Expression::Node node) {
    out_.nodes_.push_back(std::move(node));
    return static_cast<int>(out_.nodes_.size()) - 1;
  }
  int Binary(const char* op, int left, int right) {
    return Add({.op = op, .left = left, .right = right});
  }

  int Or() {
    int left = And();
    while (!failed_ && Word("or")) left = Binary("or", left, And());
    return left;
  }
  int And() {
    int left = Not();
    while (!failed_ && Word("and")) left = Binary("and", left, Not());
    return left;
  }
  int Not() {
    if (!Word("not")) return Comparison();
    if (++depth_ > 64) return Fail(at_, "nested deeper than 64 levels");
    const int inner = Not();
    --depth_;
    return Add({.op = "not", .left = inner});
  }
  int Comparison() {
    const int left = Sum();
    for (const char* op : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (failed_ || !Symbol(op)) continue;
      const int result = Binary(op, left, Sum());
      Blank();
      if (!failed_ && at_ < text_.size() &&
          std::string("=!<>").find(text_[at_]) != std::string::npos) {
        return Fail(at_, "comparisons do not chain; join two with `and`");
      }
      return result;
    }
    return left;
  }
  int Sum() {
    int left = Product();
    while (!failed_) {
      if (Symbol("+"))
        left = Binary("+", left, Product());
      else if (Symbol("-"))
        left = Binary("-", left, Product());
      else
        break;
    }
    return left;
  }
  int Product() {
    int left = Unary();
    while (!failed_) {
      if (Symbol("*"))
        left = Binary("*", left, Unary());
      else if (Symbol("/"))
        left = Binary("/", left, Unary());
      else if (Symbol("%"))
        left = Binary("%", left, Unary());
      else
        break;
    }
    return left;
  }
  int Unary() {
    if (!Symbol("-")) return Primary();
    if (++depth_ > 64) return Fail(at_, "nested deeper than 64 levels");
    const int inner = Unary();
    --depth_;
    return Add({.op = "neg", .left = inner});
  }
  int Primary() {
    Blank();
    const size_t begin = at_;
    if (at_ >= text_.size()) return Fail(at_, "the expression ends too early");
    const char c = text_[at_];
    if (c == '(') {
      if (++depth_ > 64) return Fail(at_, "nested deeper than 64 levels");
      ++at_;
      const int inner = Or();
      --depth_;
      if (!failed_ && !Symbol(")")) return Fail(at_, "expected \")\"");
      return inner;
    }
    if (c == '\'' || c == '"') {
      const size_t end = text_.find(c, at_ + 1);
      if (end == std::string::npos) return Fail(at_, "the quote is not closed");
      at_ = end + 1;
      return Add({.op = "text", .text = text_.substr(begin + 1, end - begin - 1)});
    }
    if (absl::ascii_isdigit(c) || c == '.') return Number();
    if (!IsNameStart(c))
      return Fail(at_, absl::StrCat("expected a value, got \"", std::string(1, c), "\""));
    while (at_ < text_.size() && IsNamePart(text_[at_])) ++at_;
    const std::string name = text_.substr(begin, at_ - begin);
    if (name == "true" || name == "false") return Add({.op = name});
    if (name == "and" || name == "or" || name == "not")
      return Fail(begin, absl::StrCat("expected a value, got \"", name, "\""));
    if (name == "ref") return Ref(begin);
    if (Symbol("(")) return Call(name, begin);
    out_.names_.push_back({static_cast<int>(begin), name});
    return Add({.op = "name", .text = name});
  }
  int Number() {
    const size_t begin = at_;
    while (at_ < text_.size() && (absl::ascii_isdigit(text_[at_]) || text_[at_] == '.')) ++at_;
    if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
      size_t next = at_ + 1;
      if (next < text_.size() && (text_[next] == '+' || text_[next] == '-')) ++next;
      if (next < text_.size() && absl::ascii_isdigit(text_[next])) {
        at_ = next;
        while (at_ < text_.size() && absl::ascii_isdigit(text_[at_])) ++at_;
      }
    }
    while (at_ < text_.size() && IsNamePart(text_[at_]))
      ++at_;  // a suffix, or what does not belong there
    const std::string text = text_.substr(begin, at_ - begin);
    const std::optional<double> value = ParseNumber(text);
    if (!value)
      return Fail(begin, absl::StrCat("\"", text, "\" is no number (64, 1e-3, 300k, 2M, 1G)"));
    Value v = Value::Inexact(*value);
    v.exact = Rational::Parse(text);
    return Add({.op = "number", .value = std::move(v)});
  }
  // ref(VARIANT).NAME
  int Ref(size_t begin) {
    const auto usage = [&](size_t at) {
      return Fail(at, "write ref(VARIANT).NAME, as ref(baseline).params_non_embedding");
    };
    if (!Symbol("(")) return usage(begin);
    Blank();
    const size_t variant = at_;
    while (at_ < text_.size() && (IsNamePart(text_[at_]) || text_[at_] == '-')) ++at_;
    const std::string which = text_.substr(variant, at_ - variant);
    if (which.empty() || !Symbol(")") || !Symbol(".")) return usage(at_);
    const size_t name = at_;
    if (at_ >= text_.size() || !IsNameStart(text_[at_])) return usage(at_);
    while (at_ < text_.size() && IsNamePart(text_[at_])) ++at_;
    const std::string text = absl::StrCat("ref(", which, ").", text_.substr(name, at_ - name));
    out_.names_.push_back({static_cast<int>(begin), text});
    return Add({.op = "name", .text = text});
  }
  int Call(const std::string& name, size_t begin) {
    struct Function {
      const char* name;
      int least, most;  // values that it takes
    };
    static constexpr Function kFunctions[] = {
        {"min", 2, 64},  {"max", 2, 64},     {"floor", 1, 1},   {"ceil", 1, 1},
        {"round", 1, 1}, {"floor_to", 2, 2}, {"ceil_to", 2, 2}, {"round_to", 2, 2}};
    const Function* function = nullptr;
    for (const Function& f : kFunctions) {
      if (name == f.name) function = &f;
    }
    if (function == nullptr) {
      return Fail(begin, absl::StrCat("no function ", name,
                                      "; there are min, max, floor, ceil, round, floor_to, "
                                      "ceil_to and round_to"));
    }
    if (++depth_ > 64) return Fail(begin, "nested deeper than 64 levels");
    int left = Or();
    int count = 1;
    if (function->most == 1 && !failed_) left = Add({.op = name, .left = left});
    while (!failed_ && Symbol(",")) left = Binary(name.c_str(), left, Or()), ++count;
    --depth_;
    if (!failed_ && !Symbol(")")) return Fail(at_, "expected \",\" or \")\"");
    if (!failed_ && (count < function->least || count > function->most)) {
      return Fail(begin, absl::StrCat(name, " takes ",
                                      function->most == 1   ? "one value"
                                      : function->most == 2 ? "two values, as " + name + "(x, 64)"
                                                            : "two values or more"));
    }
    return left;
  }

  const std::string& text_;
  Expression::Error* error_;
  Expression out_;
  size_t at_ = 0;
  int depth_ = 0;
  bool failed_ = false;
};

std::optional<Expression> Expression::Parse(const std::string& text, Error* error) {
  return ExpressionParser(text, error).Run();
}

absl::StatusOr<Value> Expression::Evaluate(const Lookup& lookup) const {
  return Evaluate(static_cast<int>(nodes_.size()) - 1, lookup);
}

absl::StatusOr<Value> Expression::Evaluate(int index, const Lookup& lookup) const {
  const Node& n = nodes_[index];
  if (n.op == "number") return n.value;
  if (n.op == "text") return Value::Text(n.text);
  if (n.op == "true" || n.op == "false") return Value::Boolean(n.op == "true");
  if (n.op == "name") return lookup(n.text);

  const auto wrong = [](std::string message) { return absl::InvalidArgumentError(message); };
  absl::StatusOr<Value> left = Evaluate(n.left, lookup);
  if (!left.ok()) return left;
  if (n.op == "not" || n.op == "and" || n.op == "or") {
    if (left->kind != Value::Kind::kBoolean)
      return wrong(absl::StrCat("`", n.op, "` needs a condition, not a number"));
    if (n.op == "not") return Value::Boolean(!left->boolean);
    if (left->boolean == (n.op == "or")) return left;
    absl::StatusOr<Value> right = Evaluate(n.right, lookup);
    if (right.ok() && right->kind != Value::Kind::kBoolean) {
      return wrong(absl::StrCat("`", n.op, "` needs a condition, not a number"));
    }
    return right;
  }
  if (n.op == "neg") {
    if (left->kind != Value::Kind::kNumber) return wrong("- needs a number");
    return Arithmetic("-", Value::Exact(Rational(0)), *left);
  }
  if (n.right < 0) {  // floor, ceil, round
    if (left->kind != Value::Kind::kNumber) return wrong(n.op + " needs a number");
    return Arithmetic(n.op + "_to", *left, Value::Exact(Rational(1)));
  }
  absl::StatusOr<Value> right = Evaluate(n.right, lookup);
  if (!right.ok()) return right;
  if (n.op == "==" || n.op == "!=") {
    if (left->kind != right->kind)
      return wrong(absl::StrCat(n.op, " compares a number with something else"));
    const bool same = left->kind == Value::Kind::kNumber    ? Order(*left, *right) == 0
                      : left->kind == Value::Kind::kBoolean ? left->boolean == right->boolean
                                                            : left->text == right->text;
    return Value::Boolean(same == (n.op == "=="));
  }
  if (left->kind != Value::Kind::kNumber || right->kind != Value::Kind::kNumber) {
    return wrong(absl::StrCat(n.op, " needs numbers on both sides"));
  }
  const int order = Order(*left, *right);
  if (n.op == "<") return Value::Boolean(order < 0);
  if (n.op == "<=") return Value::Boolean(order <= 0);
  if (n.op == ">") return Value::Boolean(order > 0);
  if (n.op == ">=") return Value::Boolean(order >= 0);
  if (n.op == "min") return order <= 0 ? left : right;
  if (n.op == "max") return order >= 0 ? left : right;
  return Arithmetic(n.op, *left, *right);
}

absl::StatusOr<Value> Expression::Arithmetic(const std::string& op, const Value& x,
                                             const Value& y) {
  const double a = x.number, b = y.number;
  const bool to = op == "floor_to" || op == "ceil_to" || op == "round_to";
  if (b == 0 && (op == "/" || op == "%")) return absl::InvalidArgumentError("division by zero");
  if (b <= 0 && to) return absl::InvalidArgumentError(op + " needs a step above 0");
  if (x.exact && y.exact) {
    std::optional<Rational> exact;
    if (op == "+") exact = Rational::Add(*x.exact, *y.exact);
    if (op == "-") exact = Rational::Subtract(*x.exact, *y.exact);
    if (op == "*") exact = Rational::Multiply(*x.exact, *y.exact);
    if (op == "/") exact = Rational::Divide(*x.exact, *y.exact);
    if (op == "%") exact = Rational::Remainder(*x.exact, *y.exact);
    if (const auto steps = to ? Rational::Divide(*x.exact, *y.exact) : std::nullopt) {
      const int64_t whole = op == "floor_to"  ? steps->Floor()
                            : op == "ceil_to" ? steps->Ceil()
                                              : steps->Round();
      exact = Rational::Multiply(Rational(whole), *y.exact);
    }
    if (exact) return Value::Exact(*exact);
  }
  const double result = op == "+"          ? a + b
                        : op == "-"        ? a - b
                        : op == "*"        ? a * b
                        : op == "/"        ? a / b
                        : op == "%"        ? std::fmod(a, b)
                        : op == "floor_to" ? std::floor(a / b) * b
                        : op == "ceil_to"  ? std::ceil(a / b) * b
                                           : std::round(a / b) * b;
  if (!std::isfinite(result)) return absl::InvalidArgumentError("the result is too large");
  return Value::Inexact(result);
}

std::optional<Reference> AsReference(const std::string& name) {
  const size_t close = name.find(").");
  if (name.rfind("ref(", 0) != 0 || close == std::string::npos) return std::nullopt;
  return Reference{name.substr(4, close - 4), name.substr(close + 2)};
}

}  // namespace plumb::sweeps
