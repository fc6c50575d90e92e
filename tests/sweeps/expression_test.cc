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
  EXPECT_EQ(Result("sqrt(a)"),
            "0: no function sqrt; there are min, max, floor, ceil, round, floor_to, ceil_to and "
            "round_to");
  EXPECT_EQ(Result("3q"), "0: \"3q\" is no number (64, 1e-3, 300k, 2M, 1G)");
  EXPECT_EQ(Result("a / (b - 2)"), "division by zero");
  EXPECT_EQ(Result("a and b"), "`and` needs a condition, not a number");
  EXPECT_EQ(Result("a == tied"), "== compares a number with something else");
  EXPECT_EQ(Result(std::string(100, '(') + "1"), "64: nested deeper than 64 levels");
  EXPECT_EQ(Result(std::string(100, '-') + "1"), "65: nested deeper than 64 levels");
}

TEST(Expression, CountsInExactFractions) {
  EXPECT_EQ(Result("8/3 * 96"), "256");
  EXPECT_EQ(Result("0.1 + 0.2 == 0.3"), "true");
  EXPECT_EQ(Result("1/3 * 3 == 1"), "true");
  EXPECT_EQ(Result("1e-3 * 1000 - 1"), "0");
  EXPECT_EQ(Result("7.5 % 2"), "1.5");
  EXPECT_EQ(Result("-7 % 3"), "-1");
  EXPECT_EQ(Result("9007199254740993 - 9007199254740992"), "1");  // 2^53 + 1 is no double
  EXPECT_EQ(Result("1e30 / 1e29"), "10.000000000000002");         // beyond 63 bits: doubles
}

TEST(Expression, RoundsToMultiples) {
  EXPECT_EQ(Result("round_to(8/3 * 128, 64)"), "320");
  EXPECT_EQ(Result("ceil_to(8/3 * 128, 64)"), "384");
  EXPECT_EQ(Result("floor_to(8/3 * 128, 64)"), "320");
  EXPECT_EQ(Result("ceil_to(256, 64)"), "256");
  EXPECT_EQ(Result("ceil_to(8/3 * 96, 64)"), "256");  // in doubles this is a step too far
  EXPECT_EQ(Result("round(2.5) + round(-2.5)"), "0");
  EXPECT_EQ(Result("floor(-1/3) + 10 * ceil(1/3)"), "9");
  EXPECT_EQ(Result("round_to(a, 0)"), "round_to needs a step above 0");
  EXPECT_EQ(Result("ceil_to(a)"), "0: ceil_to takes two values, as ceil_to(x, 64)");
  EXPECT_EQ(Result("round(a, b)"), "0: round takes one value");
  EXPECT_EQ(Result("min(a)"), "0: min takes two values or more");
}

TEST(Expression, NamesValuesOfOtherVariants) {
  Expression::Error error;
  const auto e = Expression::Parse("5 * ref(pre-ln).model.d_model + b", &error);
  ASSERT_TRUE(e) << error.message;
  ASSERT_EQ(e->names().size(), 2u);
  EXPECT_EQ(e->names()[0].text, "ref(pre-ln).model.d_model");
  EXPECT_EQ(AsReference(e->names()[0].text)->variant, "pre-ln");
  EXPECT_EQ(AsReference(e->names()[0].text)->name, "model.d_model");
  EXPECT_FALSE(AsReference("b"));
  for (const char* bad : {"ref", "ref(", "ref(x)", "ref(x).", "ref().tokens", "ref(x).3"}) {
    EXPECT_NE(Result(bad).find("write ref(VARIANT).NAME"), std::string::npos) << bad;
  }
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
