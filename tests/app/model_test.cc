// Models shown: components add up, formulas give their numbers, pictures draw every switch.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "app/model_picture.h"
#include "app/model_spec.h"
#include "app/table.h"
#include "sweeps/expression.h"
#include "tests/app/cli.h"
#include "tests/trainer/every_block.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/presets.h"

namespace plumb::app {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Of arithmetic over the letters.
int64_t Evaluated(const std::string& formula, const spec::ModelSpec& m, int64_t T) {
  sweeps::Expression::Error error;
  const auto e = sweeps::Expression::Parse(formula, &error);
  EXPECT_TRUE(e) << formula << ": " << error.message;
  if (!e) return -1;
  const auto value = e->Evaluate([&](const std::string& letter) -> absl::StatusOr<sweeps::Value> {
    return sweeps::Value::Number(static_cast<double>(LetterValue(m, T, letter)));
  });
  EXPECT_TRUE(value.ok()) << formula << ": " << value.status();
  return value.ok() ? std::llround(value->number) : -1;
}

class ShownModel : public ::testing::TestWithParam<trainer::BlockCase> {};

TEST_P(ShownModel, ComponentsAddUpAndFormulasGiveTheirNumbers) {
  const spec::TrialSpec s = trainer::SpecOf(GetParam());
  const int64_t T = s.data.seq_len;
  int64_t parameters = 0, frozen = 0, flops = 0;
  for (const ComponentRow& r : ComponentRows(s.model, T)) {
    const int64_t times = std::max<int64_t>(1, r.blocks);
    parameters += times * r.parameters, frozen += times * r.frozen, flops += times * r.flops;
    EXPECT_EQ(Evaluated(r.parameters_formula, s.model, T), r.parameters) << r.name;
    EXPECT_EQ(Evaluated(r.flops_formula, s.model, T), r.flops) << r.name;
  }
  const spec::ParameterCounts counts = spec::CountParameters(s.model);
  EXPECT_EQ(parameters, counts.total);
  EXPECT_EQ(frozen, counts.frozen);
  if (!spec::Routed(s.model)) {
    EXPECT_EQ(flops, spec::ForwardFlopsPerToken(s.model, T));
  }
}

TEST_P(ShownModel, IsDrawnWithinAHundredColumns) {
  std::istringstream lines(BlockPicture(trainer::SpecOf(GetParam()).model));
  for (std::string line; std::getline(lines, line);) EXPECT_LE(DisplayWidth(line), 100) << line;
}

INSTANTIATE_TEST_SUITE_P(Blocks, ShownModel, ::testing::ValuesIn(trainer::EveryBlock()),
                         [](const auto& info) { return info.param.name; });

TEST(Picture, ShowsWhatTheSwitchesSay) {
  const auto draw = [](const std::string& preset, const std::string& shape = "") {
    const auto s = SpecOfPreset(preset, shape);
    EXPECT_TRUE(s.ok()) << s.status();
    return BlockPicture(s->model);
  };
  EXPECT_THAT(draw("sas"), HasSubstr("shaped attention"));
  EXPECT_THAT(draw("sas"), HasSubstr("value and output are the identity"));
  EXPECT_THAT(draw("sas_p_nonorm"), Not(HasSubstr("RMSNorm \xe2\x94\x80")));
  EXPECT_THAT(draw("llama", "norm_place=peri"),
              HasSubstr("\xe2\x94\x80 RMSNorm \xe2\x94\x80\xe2\x94\x80"));
  EXPECT_THAT(draw("phi3_dynamic", "router.gate=soft"), HasSubstr("router (soft"));
  EXPECT_NE(draw("llama"), draw("llama", "norm=layernorm"));
}

TEST(SpecOfPreset, NamesWhatIsWrong) {
  EXPECT_THAT(SpecOfPreset("lama", "").status().message(), HasSubstr("there are llama"));
  EXPECT_THAT(SpecOfPreset("llama", "d_modle=3").status().message(),
              HasSubstr("did you mean model.d_model"));
  EXPECT_THAT(SpecOfPreset("llama", "d_model").status().message(), HasSubstr("field=value"));
  EXPECT_EQ(SpecOfPreset("llama", "seq_len=40")->data.seq_len, 40);
  EXPECT_EQ(SpecOfPreset("llama", "d_model=48, head_dim=16,rope_base=1e3")->model.n_heads, 3);
}

class ModelCommand : public CliFixture {};

TEST_F(ModelCommand, ListsAndShowsEveryPreset) {
  const auto list = Plumb("model list -o json");
  ASSERT_EQ(list.code, 0) << list.err;
  EXPECT_EQ(nlohmann::json::parse(list.out).size(), spec::PresetNames().size());
  for (const std::string& preset : spec::PresetNames()) {
    const auto shown = Plumb("model show " + preset + " --shape d_model=64,n_layers=3 -o json");
    ASSERT_EQ(shown.code, 0) << shown.err;
    const auto j = nlohmann::json::parse(shown.out);
    EXPECT_EQ(j["preset"], preset);
    EXPECT_FALSE(j["source"].get<std::string>().empty());
    EXPECT_EQ(Plumb("model show " + preset).code, 0);
  }
  EXPECT_EQ(Plumb("model show nothing").code, 2);
  EXPECT_EQ(Plumb("model coordcheck").code, 2);
}

}  // namespace
}  // namespace plumb::app
