#include "trainer/spec/fields.h"

#include <nlohmann/json.hpp>
#include <set>

#include "tests/spec/specs.h"

namespace plumb::spec {
namespace {

using nlohmann::json;

TEST(Fields, TheTableNamesEachFieldOnceWithItsMeaning) {
  TrialSpec s;
  std::set<std::string> paths;
  for (const Field& f : Fields(s)) {
    EXPECT_TRUE(paths.insert(f.path).second) << f.path;
    EXPECT_FALSE(f.doc.empty()) << f.path;
    const bool number = f.type == FieldType::kInteger || f.type == FieldType::kNumber;
    EXPECT_EQ(f.choices.empty(), f.type != FieldType::kChoice) << f.path;
    if (number) {
      EXPECT_LE(f.min, f.max) << f.path;
      EXPECT_GE(f.get().get<double>(), f.min) << f.path;
      EXPECT_LE(f.get().get<double>(), f.max) << f.path;
    }
    EXPECT_EQ(f.set(f.get()), "") << f.path;  // its default is a value that it takes
  }
}

TEST(Fields, ABadValueLeavesTheSpecAsItWas) {
  TrialSpec s;
  for (const Field& f : Fields(s)) {
    const json before = f.get();
    std::vector<json> bad = {json::array(), json::object(), nullptr};
    if (f.type == FieldType::kInteger)
      bad.insert(bad.end(), {json(1.5), json("2"), json(true), json(-1), json(1e300)});
    if (f.type == FieldType::kNumber)
      bad.insert(bad.end(), {json("2"), json(false), json(-1e300), json(1e300)});
    if (f.type == FieldType::kBoolean) bad.insert(bad.end(), {json(1), json("true")});
    if (f.type == FieldType::kChoice) bad.insert(bad.end(), {json("no such choice"), json(0)});
    if (f.type == FieldType::kString)
      bad.insert(bad.end(), {json(3), json(std::string(2000, 'x'))});
    for (const json& v : bad) {
      EXPECT_NE(f.set(v), "") << f.path << " takes " << v;
      EXPECT_EQ(f.get(), before) << f.path;
    }
  }
}

TEST(Fields, WholeFloatsAreIntegers) {
  TrialSpec s;
  for (const Field& f : Fields(s)) {
    if (f.path == "train.tokens") {
      EXPECT_EQ(f.set(1e6), "");
      EXPECT_EQ(s.train.tokens, 1000000);
    }
  }
}

TEST(Fields, TheNearestNameIsFoundAcrossSections) {
  EXPECT_EQ(NearestField("model.d_modle"), "model.d_model");
  EXPECT_EQ(NearestField("d_model"), "model.d_model");
  EXPECT_EQ(NearestField("model.lr"), "train.lr");
  EXPECT_EQ(NearestField("train.learning_rate_of_everything"), "");
}

TEST(Fields, EditDistanceCountsASwapOnce) {
  EXPECT_EQ(EditDistance("", "abc"), 3);
  EXPECT_EQ(EditDistance("ab", "ba"), 1);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
  EXPECT_EQ(EditDistance("same", "same"), 0);
}

}  // namespace
}  // namespace plumb::spec
