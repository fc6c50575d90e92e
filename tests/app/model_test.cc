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

class CoordCheckCommand : public CliFixture {
 protected:
  void SetUp() override {
    CliFixture::SetUp();
    std::filesystem::create_directory(dir_ + "/tmp");
    setenv("TMPDIR", (dir_ + "/tmp").c_str(), 1);
  }
  void TearDown() override {
    unsetenv("TMPDIR");
    CliFixture::TearDown();
  }
  void WriteTrainer(const std::string& script) {
    std::ofstream(dir_ + "/trainer") << "#!/bin/sh\n" << script << "\n";
    std::filesystem::permissions(dir_ + "/trainer", std::filesystem::perms::owner_all);
  }
  bool NothingIsLeft() const { return std::filesystem::is_empty(dir_ + "/tmp"); }

  const std::string command_ = "model coordcheck --widths 32 --seeds 1 --trainer ./trainer";
};

TEST_F(CoordCheckCommand, ReadsTheTrainersAnswer) {
  WriteTrainer(
      "[ $1 = coordcheck ] && grep -q '\"d_model\":32' && echo '{\"coordinates\": "
      "[{\"name\": \"stream\", \"step\": 10, \"rms\": 0.5, \"moved\": 0.25}]}'");
  Ran r = Plumb(command_ + " -o csv");
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out, "axis,size,seed,coordinate,step,rms,moved\nwidth,32,0,stream,10,0.5,0.25\n");
  WriteTrainer("echo too small >&2; exit 3");
  r = Plumb(command_);
  EXPECT_EQ(r.code, 1);
  EXPECT_EQ(r.err, "plumb: plumb-trainer coordcheck failed: too small\n\n");
  std::filesystem::remove(dir_ + "/trainer");
  r = Plumb(command_);
  EXPECT_EQ(r.code, 3);
  EXPECT_EQ(r.err, "plumb: ./trainer cannot be started; give --trainer /path/to/plumb-trainer\n");
  EXPECT_TRUE(NothingIsLeft());
}

TEST_F(CoordCheckCommand, EndsTheTrainerThatAKilledOneLeft) {
  WriteTrainer("exec sleep 1000");
  const std::string start =
      "cd '" + dir_ + "'; '" PLUMB_BINARY_DIR "/bin/plumb' " + command_ + " &";
  const std::string until_asked =
      " for i in $(seq 1000); do [ -s tmp/*/pid ] && break; sleep 0.01; done; kill -9 $!; wait";
  ASSERT_EQ(std::system((start + until_asked).c_str()), 0);
  ASSERT_FALSE(NothingIsLeft());
  const std::string folder = std::filesystem::directory_iterator(dir_ + "/tmp")->path();
  const std::string left = "/proc/" + Slurp(folder + "/pid") + "/cmdline";
  ASSERT_THAT(Slurp(left), HasSubstr("1000"));
  WriteTrainer("echo '{\"coordinates\": []}'");
  EXPECT_EQ(Plumb(command_).code, 0);
  EXPECT_TRUE(NothingIsLeft());
  for (int i = 0; i < 1000 && !Slurp(left).empty(); ++i) usleep(10'000);
  EXPECT_EQ(Slurp(left), "");
}

}  // namespace
}  // namespace plumb::app
