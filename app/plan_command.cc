// plumb sweep plan, plumb schema trial|sweep, plumb init, plumb version: what needs neither server
// nor database.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "app/calibration.h"
#include "app/children.h"
#include "app/commands.h"
#include "app/database.h"
#include "app/exit_code.h"
#include "app/plane.h"
#include "app/results.h"
#include "app/signals.h"
#include "app/submit.h"
#include "app/table.h"
#include "data/dataset.h"
#include "store/sqlite.h"
#include "sweeps/describe.h"
#include "sweeps/number.h"
#include "sweeps/plan.h"
#include "sweeps/read_calibration.h"
#include "sweeps/schema.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/stage_settings.h"

namespace plumb::app {
namespace {

absl::StatusOr<sweeps::CorpusInfo> LookUp(const std::string& root, const std::string& corpus,
                                          const std::string& tokenizer) {
  const std::string dir = data::DatasetDir(root, corpus, tokenizer);
  if (!std::filesystem::exists(std::filesystem::path(dir) / "manifest.json")) {
    return absl::NotFoundError(
        absl::StrCat("corpus \"", corpus, "\" is not prepared with tokenizer \"", tokenizer,
                     "\"; run `plumb data prepare ", corpus, " --tokenizer ", tokenizer,
                     "`, or plan without it: --assume-tokens 700M"));
  }
  try {
    const data::Manifest m = data::ReadManifest(dir);
    std::vector<spec::CorpusPart> parts;
    for (const data::Part& p : m.parts)
      parts.push_back({p.name, p.split(data::Split::kTrain).tokens});
    return sweeps::CorpusInfo{
        .digest = m.digest,
        .vocab_size = m.vocab_size,
        .train_tokens = m.split(data::Split::kTrain).tokens,
        .overlap_13gram_test = m.overlap_13gram[static_cast<int>(data::Split::kTest)],
        .parts = std::move(parts),
        .splits = {m.split(data::Split::kTune).tokens, m.split(data::Split::kVal).tokens,
                   m.split(data::Split::kTest).tokens}};
  } catch (const std::exception& e) {  // the data room throws; statuses begin here
    return absl::FailedPreconditionError(e.what());
  }
}

// What --assume-tokens says of a corpus that is not there.
absl::StatusOr<sweeps::CorpusInfo> Assumed(const std::string& text, const std::string& tokenizer) {
  sweeps::CorpusInfo info{.vocab_size = spec::TokenizerVocabSize(tokenizer).value_or(0)};
  for (absl::string_view item : absl::StrSplit(text, ',')) {
    const std::vector<std::string> sides = absl::StrSplit(item, absl::MaxSplits('=', 1));
    const std::optional<double> tokens = sweeps::ParseNumber(sides.back());
    if (!tokens || *tokens < 1 || *tokens > 1e15) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--assume-tokens: expected a number (700M) or parts (ja=500M,en=500M), got \"", text,
          "\""));
    }
    info.train_tokens += static_cast<int64_t>(*tokens);
    if (sides.size() == 2) info.parts.push_back({sides[0], static_cast<int64_t>(*tokens)});
  }
  return info;
}

}  // namespace

double MeasuredFlopsPerSecond(const std::string& db_path) {
  if (!std::filesystem::exists(db_path)) return 0;
  absl::StatusOr<store::Database> db = OpenResults(db_path);
  if (!db.ok()) return 0;
  absl::StatusOr<store::Statement> rates = db->Prepare(
      "SELECT m.value FROM series s JOIN measurement m ON m.series_id = s.id "
      "WHERE s.name = 'timing/solo_flops_per_s' AND m.value > 0 ORDER BY m.value");
  if (!rates.ok()) return 0;
  std::vector<double> values;
  for (auto row = rates->Step(); row.ok() && *row; row = rates->Step())
    values.push_back(rates->Double(0));
  return values.empty() ? 0 : values[values.size() / 2];
}

namespace {

absl::StatusOr<double> GiB(double given) {
  if (given < 0 || given > 1e6 || !std::isfinite(given))
    return absl::InvalidArgumentError("--memory-gib: expected the memory of one device, as 24");
  return given * 1073741824.0;
}

}  // namespace

sweeps::CorpusLookup CorporaOf(const std::string& data_root, const std::string& assume_tokens) {
  const std::string root = data_root.empty() ? data::DefaultRoot() : data_root;
  return [root, assume_tokens](const std::string& c, const std::string& t) {
    absl::StatusOr<sweeps::CorpusInfo> info = LookUp(root, c, t);
    const bool assume = absl::IsNotFound(info.status()) && !assume_tokens.empty();
    return assume ? Assumed(assume_tokens, t) : info;
  };
}

namespace {

// Some prices, where any will do that refuse nothing: evaluations are free.
sweeps::Prices Guess(int64_t threads) {
  sweeps::Prices p{.device = "any", .threads = threads};
  p.seconds[static_cast<size_t>(sweeps::Unit::kStepFlops)] = 2e-11;
  return p;
}

absl::Status Calibrate(const Context& context, const SweepArgs& args,
                       const sweeps::SweepPlan& plan) {
  if (!(args.calibrate_seconds > 0 && args.calibrate_seconds <= 600))
    return absl::InvalidArgumentError("--calibrate-seconds: from above 0 to 600");
  if (args.calibrate_shapes < 3 || args.calibrate_shapes > 200)
    return absl::InvalidArgumentError("--calibrate-shapes: from 3 to 200");
  const auto shapes = ShapesToMeasure(plan, static_cast<size_t>(args.calibrate_shapes));
  if (shapes.empty())
    return absl::FailedPreconditionError("nothing is trained here that could be measured");
  const std::string trainer =
      args.trainer.empty()
          ? (std::filesystem::path(ThisProgram()).parent_path() / "plumb-trainer").string()
          : args.trainer;
  absl::StatusOr<std::vector<ShapeRun>> runs =
      MeasureShapes(trainer, shapes, args.calibrate_seconds);
  if (!runs.ok()) return runs.status();
  const absl::StatusOr<std::string> path = DatabasePath(context);
  return AddShapeRuns(CalibrationPath(path.ok() ? *path : context.db), *runs);
}

constexpr char kInitFile[] =
    R"(# A sweep: one trial, the axes that vary it, and how often each point is repeated.
#   plumb sweep plan FILE               what it costs, what is refused and why
#   plumb sweep submit FILE --watch
# Every field: plumb schema trial --reference
sweep: my-sweep
trial:                                  # what all trials share
  model: {head_dim: 16}                 # preset llama: RMSNorm, RoPE, SwiGLU
  data: {corpus: python-docs-en, tokenizer: bytes, seq_len: 64}   # plumb data prepare python-docs-en
  train: {flops: 5e10, batch_tokens: 1024, lr: 3e-3, warmup_fraction: 5%}
  eval: {points: 4, tokens: 8192, final_tokens: 65536, train_tokens: 8192}
axes:                                   # every combination is a cell
  model.n_layers: [1, 2]
  model.d_model: [32, 64]
replicates: 2                           # seeds per cell; intervals need at least 2, and 5 make them narrow
aa: {model.n_layers: 1}                 # these cells once more on other seeds: the noise floor
report: {metric: test/bits_per_byte, at: last}
limits: {trials: 50}
)";

}  // namespace

absl::StatusOr<sweeps::SweepPlan> PlanText(const std::string& yaml, const std::string& file,
                                           const std::string& data_root,
                                           const std::string& assume_tokens) {
  return sweeps::PlanSweep(yaml, file, CorporaOf(data_root, assume_tokens));
}

int PlanSweepCommand(const Context& context, const SweepArgs& args) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  absl::StatusOr<double> memory = GiB(args.memory_gib);
  if (!memory.ok()) return Finish(memory.status());
  absl::StatusOr<std::string> yaml = ReadSweepFile(args.file);
  if (!yaml.ok()) return Finish(yaml.status());
  const sweeps::CorpusLookup corpora = CorporaOf(args.data_root, args.assume_tokens);
  if (args.calibrate) {
    // A file that counts in seconds cannot be planned before; its shapes do not depend on how long
    // they take, unless they are solved for that.
    const auto wanted = sweeps::WantsPrices(*yaml);
    const auto shapes = sweeps::PlanSweep(
        wanted ? sweeps::WithPrices(*yaml, Guess(wanted->threads)) : *yaml, args.file, corpora);
    if (!shapes.ok()) return Finish(shapes.status());
    if (const absl::Status done = Calibrate(context, args, *shapes); !done.ok())
      return Finish(done);
  }
  yaml = WithCalibration(context, *yaml, corpora);
  if (!yaml.ok()) return Finish(yaml.status());
  auto plan = sweeps::PlanSweep(*yaml, args.file, corpora);
  if (!plan.ok()) return Finish(plan.status());
  absl::StatusOr<sweeps::Surroundings> around = LookAround(context, corpora);
  if (!around.ok()) return Finish(around.status());
  around->memory_bytes = static_cast<int64_t>(*memory);
  if (args.flops_per_second > 0) {  // said by hand: it is meant
    around->prices.clear(), around->measured.clear();
    around->flops_per_second = args.flops_per_second;
  } else if (plan->prices) {  // what the file's seconds mean
    std::erase_if(around->prices,
                  [&](const sweeps::Prices& p) { return p.device == plan->prices->device; });
    around->prices.insert(around->prices.begin(), *plan->prices);
    around->device = plan->prices->device;
  }
  const sweeps::PlanSummary summary = sweeps::Summarize(*plan, *around);
  if (!args.plane.empty()) {
    if (const absl::Status drawn = DrawPlane(*plan, summary, args.plane); !drawn.ok())
      return Finish(drawn);
  }
  if (*format == Format::kJson || *format == Format::kJsonl) {
    std::string json = sweeps::SummaryJson(summary);
    if (json.empty() || json.back() != '\n') json += '\n';
    std::fputs(json.c_str(), stdout);
  } else if (*format == Format::kCsv) {
    Table table{.columns = {{"cell"},
                            {"trials"},
                            {"params_total"},
                            {"params_non_embedding"},
                            {"flops_per_token"},
                            {"steps"},
                            {"tokens"},
                            {"epochs"},
                            {"flops"},
                            {"predicted_peak_bytes"},
                            {"seconds"},
                            {"seconds_band"},
                            {"seconds_basis"},
                            {"memory_bytes"},
                            {"memory_basis"},
                            {"disk_bytes"},
                            {"known_trials"}}};
    for (const sweeps::CellCost& c : summary.cells) {
      table.rows.push_back(
          {c.name, c.trials, c.params.total, c.params.non_embedding, c.flops_per_token, c.steps,
           c.tokens, c.epochs, c.flops, c.predicted_peak_bytes, c.seconds.value, c.seconds.band,
           std::string(sweeps::Name(c.seconds.basis)), c.memory.value,
           std::string(sweeps::Name(c.memory.basis)), c.disk_bytes, c.known_trials});
    }
    std::fputs(TableCsv(table).c_str(), stdout);
  } else {
    std::fputs(sweeps::SummaryText(summary).c_str(), stdout);
    const bool known = std::any_of(
        summary.cells.begin(), summary.cells.end(),
        [](const sweeps::CellCost& c) { return c.seconds.basis != sweeps::Basis::kNone; });
    if (!known && summary.total_flops > 0) {
      std::printf(
          "\nTime: unknown. `plumb sweep plan --calibrate %s` measures a few shapes on this "
          "machine; finished "
          "trials of --db count too.\n",
          args.file.c_str());
    } else if (!summary.calibrated_device.empty()) {
      std::printf(
          "\nTime: of a slot while the machine's others are busy; evaluation, checkpoints and "
          "start included.\n");
    }
    if (args.draw) std::printf("\n%s", PlaneText(*plan, summary).c_str());
  }
  return Finish(sweeps::CheckRepeats(*plan));
}

int PrintTrialSchema(bool reference, const Context& context) {
  if (!reference) {
    std::printf("%s\n", spec::Schema().dump(2).c_str());
    return kDone;
  }
  const nlohmann::json fields = spec::FieldReference();
  if (context.format == "json") {
    std::printf("%s\n", fields.dump(2).c_str());
    return kDone;
  }
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  const auto text = [](const nlohmann::json& j, const char* key) -> std::string {
    if (!j.contains(key) || j[key].is_null()) return "";
    return j[key].is_string() ? j[key].get<std::string>() : j[key].dump();
  };
  Table table{.columns = {{"path"}, {"type"}, {"default"}, {"doc"}}};
  for (const auto& f : fields) {
    table.rows.push_back({text(f, "path"), text(f, "type"), text(f, "default"), text(f, "doc")});
  }
  std::fputs(Print(table, *format).c_str(), stdout);
  return kDone;
}

int PrintSweepSchema() {
  std::printf("%s\n", sweeps::SweepSchema().dump(1).c_str());
  return kDone;
}

int PrintStageSettings(const Context& context) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  const nlohmann::json settings = spec::StageSettingReference();
  if (*format == Format::kJson) {
    std::printf("%s\n", settings.dump(2).c_str());
    return kDone;
  }
  Table table{.columns = {{"kind"}, {"setting"}, {"type"}, {"default"}, {"choices"}, {"doc"}}};
  for (const auto& s : settings) {
    std::string choices;
    for (const auto& c : s.value("choices", nlohmann::json::array()))
      absl::StrAppend(&choices, choices.empty() ? "" : " ", c.get<std::string>());
    table.rows.push_back({s["kind"].get<std::string>(), s["path"].get<std::string>(),
                          s["type"].get<std::string>(),
                          s["required"] ? std::string("(required)") : s["default"].dump(), choices,
                          s["doc"].get<std::string>()});
  }
  std::fputs(Print(table, *format, StdoutIsTerminal() ? TerminalWidth() : 0).c_str(), stdout);
  return kDone;
}

int InitSweepFile(const std::string& file) {
  if (file == "-") {
    std::fputs(kInitFile, stdout);
    return kDone;
  }
  if (std::filesystem::exists(file)) {
    return Finish(absl::FailedPreconditionError(
        absl::StrCat(file, " exists; give another name: plumb init other.yaml")));
  }
  std::ofstream out(file);
  out << kInitFile;
  out.close();
  if (!out) return Finish(absl::NotFoundError(absl::StrCat("cannot write ", file)));
  std::printf("%s\nnext: plumb sweep plan %s\n", file.c_str(), file.c_str());
  return kDone;
}

int PrintVersion(const Context& context) {
  if (context.format == "json") {
    std::printf("{\"version\": \"%s\"}\n", PLUMB_VERSION);
  } else {
    std::printf("plumb %s\n", PLUMB_VERSION);
  }
  return kDone;
}

}  // namespace plumb::app
