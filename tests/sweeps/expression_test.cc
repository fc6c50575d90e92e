#include "sweeps/expression.h"

#include "gtest/gtest.h"
#include "sweeps/measures.h"
#include "sweeps/number.h"

namespace plumb::sweeps {
namespace {

absl::StatusOr<Value> Variables(const std::string& name) {
  if (name == "a") return Value::Number(7);
  if (name == "b") return Value::Number(2);
  if (name == "norm") return Value::Text("rmsnorm");
  if (name == "tied") return Value::Boolean(true);
  return absl::NotFoundError(name);
}

std::string Result(const std::string& text) {
  Expression::Error error;
  const auto e = Expression::Parse(text, &error);
  if (!e) return std::to_string(error.offset) + ": " + error.message;
  const auto v = e->Evaluate(Variables);
  if (!v.ok()) return std::string(v.status().message());
  if (v->kind == Value::Kind::kBoolean) return v->boolean ? "true" : "false";
  return v->kind == Value::Kind::kText ? v->text : FormatNumber(v->number);
}

TEST(Expression, FollowsTheUsualPrecedence) {
  EXPECT_EQ(Result("1 + 2 * 3"), "7");
  EXPECT_EQ(Result("(1 + 2) * 3"), "9");
  EXPECT_EQ(Result("10 - 3 - 2"), "5");
  EXPECT_EQ(Result("-a + b"), "-5");
  EXPECT_EQ(Result("a % b == 1 and not a < b"), "true");
  EXPECT_EQ(Result("false and false or true"), "true");
  EXPECT_EQ(Result("max(a, b, 9) - min(a, b)"), "7");
  EXPECT_EQ(Result("2M / 1k"), "2000");
  EXPECT_EQ(Result("1e13 >= 1e-3"), "true");
  EXPECT_EQ(Result("norm == 'rmsnorm' and tied"), "true");
  EXPECT_EQ(Result("norm != 'rmsnorm'"), "false");
}

TEST(Expression, SaysWhereItStopsMakingSense) {
  EXPECT_EQ(Result("a + "), "4: the expression ends too early");
  EXPECT_EQ(Result("a = b"), "2: write == to compare");
  EXPECT_EQ(Result("1 < a < 3"), "6: comparisons do not chain; join two with `and`");
  EXPECT_EQ(Result("(a + b"), "6: expected \")\"");
  EXPECT_EQ(Result("sqrt(a)"), "0: no function sqrt; there are min and max");
  EXPECT_EQ(Result("3q"), "0: \"3q\" is no number (64, 1e-3, 300k, 2M, 1G)");
  EXPECT_EQ(Result("a / (b - 2)"), "division by zero");
  EXPECT_EQ(Result("a and b"), "`and` needs a condition, not a number");
  EXPECT_EQ(Result("a == tied"), "== compares a number with something else");
  EXPECT_EQ(Result(std::string(100, '(') + "1"), "64: nested deeper than 64 levels");
  EXPECT_EQ(Result(std::string(100, '-') + "1"), "65: nested deeper than 64 levels");
}

TEST(Names, ABareLastPartMeansTheOnlyFieldThatHasIt) {
  EXPECT_EQ(*ResolveName("d_model"), "model.d_model");
  EXPECT_EQ(*ResolveName("model.d_model"), "model.d_model");
  EXPECT_EQ(*ResolveName("tokens"), "tokens");  // the measure, not one of the two fields
  EXPECT_EQ(*ResolveName("rmsnorm"), "'rmsnorm'");
}

TEST(Names, AmbiguousAndUnknownNamesNameTheFix) {
  EXPECT_EQ(ResolveName("params").status().message(),
            "bare `params` is ambiguous: write params_total or params_non_embedding");
  EXPECT_EQ(ResolveName("seq_len").status().message(),
            "\"seq_len\" could be data.seq_len or eval.seq_len; write the full path");
  EXPECT_EQ(ResolveName("d_modle").status().message(),
            "no field or measure \"d_modle\"; did you mean d_model?");
  EXPECT_EQ(ResolveName("param_total").status().message(),
            "no field or measure \"param_total\"; did you mean params_total?");
}

TEST(Numbers, AreReadAsPeopleWriteThem) {
  EXPECT_EQ(ParseNumber("1e-3"), 1e-3);
  EXPECT_EQ(ParseNumber("1e13"), 1e13);
  EXPECT_EQ(ParseNumber("3e-4"), 3e-4);
  EXPECT_EQ(ParseNumber("300k"), 300000.0);
  EXPECT_EQ(ParseNumber("1M"), 1e6);
  EXPECT_EQ(ParseNumber("2G"), 2e9);
  EXPECT_EQ(ParseNumber("5%"), 0.05);
  EXPECT_EQ(ParseNumber("1/3"), 1.0 / 3);
  EXPECT_EQ(ParseNumber("+2"), 2.0);
  for (const char* not_one : {"", "k", "%", "1/0", "1e999", "nan", "inf", ".inf", "-inf", "0x10",
                              "1_000", "1 000", "--1", "+-1", "1:30", "5 %", "1/2/3"}) {
    EXPECT_EQ(ParseNumber(not_one), std::nullopt) << not_one;
  }
}

TEST(Numbers, AreWrittenShortAndReadBackTheSame) {
  EXPECT_EQ(FormatNumber(64), "64");
  EXPECT_EQ(FormatNumber(1e13), "1e+13");
  EXPECT_EQ(FormatNumber(0.001), "0.001");
  EXPECT_EQ(Grouped(104094144), "104,094,144");
  EXPECT_EQ(Grouped(-1000), "-1,000");
  EXPECT_EQ(Short(300000), "300k");
  EXPECT_EQ(Short(999999), "1M");
}

}  // namespace
}  // namespace plumb::sweeps
