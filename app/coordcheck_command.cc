// plumb model coordcheck: the trainer measures each width and depth; slopes and pictures are made
// here.
#include <sys/wait.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "analysis/figure.h"
#include "analysis/statistics.h"
#include "app/children.h"
#include "app/commands.h"
#include "app/exit_code.h"
#include "app/model_spec.h"
#include "app/signals.h"
#include "app/table.h"
#include "app/trainer_question.h"
#include "app/write_file.h"
#include "domain/status_macros.h"
#include "trainer/spec/parse.h"

namespace plumb::app {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Runs the trainer with `request` on its standard input; returns what it wrote.
absl::StatusOr<json> Ask(const std::string& trainer, const json& request) {
  ASSIGN_OR_RETURN(const TrainerQuestion question,
                   TrainerQuestion::Ask(trainer, "coordcheck", request, "plumb-coordcheck-"));
  int status = 0;
  waitpid(question.pid(), &status, 0);
  json answer = question.Answer();
  if (status != 0 || !answer.is_object()) {
    return absl::InternalError(absl::StrCat("plumb-trainer coordcheck failed: ", question.Wrong()));
  }
  return answer;
}

absl::StatusOr<std::vector<int64_t>> Numbers(const std::string& text, const char* flag) {
  std::vector<int64_t> out;
  for (absl::string_view item : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    int64_t n = 0;
    if (!absl::SimpleAtoi(item, &n) || n < 1 || n > 1 << 20) {
      return absl::InvalidArgumentError(
          absl::StrCat(flag, ": expected numbers like 32,64,128; got \"", text, "\""));
    }
    out.push_back(n);
  }
  return out;
}

// Slope of log y over log x by least squares; NaN for fewer than two points.
double Slope(const std::vector<std::pair<double, double>>& points) {
  double n = 0, x = 0, y = 0, xx = 0, xy = 0;
  for (const auto& [px, py] : points) {
    const double lx = std::log(px), ly = std::log(py);
    n += 1, x += lx, y += ly, xx += lx * lx, xy += lx * ly;
  }
  return n < 2 ? NAN : (n * xy - x * y) / (n * xx - x * x);
}

struct Series {
  std::string axis;  // "width" or "depth"
  std::string name;  // of the coordinate
  std::string what;  // "rms" or "moved"
  // [seed] → (size, value) after the last step.
  std::vector<std::vector<std::pair<double, double>>> by_seed;
};

absl::Status Run(const Context& context, const CoordCheckArgs& args) {
  ASSIGN_OR_RETURN(const Format format, ParseFormat(context.format));
  ASSIGN_OR_RETURN(const auto widths, Numbers(args.widths, "--widths"));
  ASSIGN_OR_RETURN(const auto depths, Numbers(args.depths, "--depths"));
  if (widths.empty() && depths.empty())
    return absl::InvalidArgumentError("give --widths 32,64,128 or --depths 2,4,8, or both");
  if (args.seeds < 1 || args.seeds > 100 || args.steps < 1 || args.steps > 1000)
    return absl::InvalidArgumentError("--seeds from 1 to 100, --steps from 1 to 1000");
  const std::string trainer =
      args.trainer.empty() ? (fs::path(ThisProgram()).parent_path() / "plumb-trainer").string()
                           : args.trainer;
  std::vector<Series> all;
  Table table{
      .columns = {{"axis"}, {"size"}, {"seed"}, {"coordinate"}, {"step"}, {"rms"}, {"moved"}}};
  const int64_t runs = args.seeds * static_cast<int64_t>(widths.size() + depths.size());
  int64_t done = 0;
  for (const bool width : {true, false}) {
    const std::vector<int64_t>& sizes = width ? widths : depths;
    for (const int64_t size : sizes) {
      for (int64_t seed = 0; seed < args.seeds; ++seed) {
        // The base is the smallest of each axis; what is not varied is the preset's or --shape's.
        std::string shape =
            absl::StrCat("seq_len=32,batch_tokens=512,lr=0.01,weight_decay=0,steps=", args.steps,
                         ",n_layers=", depths.empty() ? 2 : depths.front(),
                         ",d_model=", widths.empty() ? 64 : widths.front(), ",head_dim=16,",
                         args.parametrization.empty()
                             ? ""
                             : absl::StrCat("parametrization=", args.parametrization, ","),
                         args.shape, ",", width ? "d_model=" : "n_layers=", size,
                         ",seed.init=", seed, ",seed.data=", seed);
        if (!args.parametrization.empty() && args.parametrization != "sp") {
          absl::StrAppend(&shape, ",base.d_model=", widths.empty() ? 64 : widths.front(),
                          ",base.n_layers=", depths.empty() ? 2 : depths.front());
        }
        ASSIGN_OR_RETURN(const spec::TrialSpec spec, SpecOfPreset(args.preset, shape));
        ASSIGN_OR_RETURN(const json answer,
                         Ask(trainer, {{"spec", spec::Canonical(spec, spec::With::kExecution)},
                                       {"steps", args.steps}}));
        for (const json& c : answer.at("coordinates")) {
          const std::string name = c.at("name");
          const auto number = [&](const char* key) {
            return c.at(key).is_number() ? c.at(key).get<double>() : NAN;
          };
          table.rows.push_back({std::string(width ? "width" : "depth"), size, seed, name,
                                c.at("step").get<int64_t>(), number("rms"), number("moved")});
          if (c.at("step") != args.steps) continue;
          for (const char* what : {"rms", "moved"}) {
            auto it = std::find_if(all.begin(), all.end(), [&](const Series& s) {
              return s.axis == (width ? "width" : "depth") && s.name == name && s.what == what;
            });
            if (it == all.end()) it = all.insert(it, {width ? "width" : "depth", name, what, {}});
            it->by_seed.resize(args.seeds);
            it->by_seed[seed].emplace_back(static_cast<double>(size), number(what));
          }
        }
        ++done;
        if (StdoutIsTerminal())
          std::fprintf(stderr, "\r%ld of %ld runs", static_cast<long>(done),
                       static_cast<long>(runs));
      }
    }
  }
  if (StdoutIsTerminal()) std::fprintf(stderr, "\r                        \r");
  Table slopes{
      .columns = {
          {"axis"}, {"coordinate"}, {"of"}, {"slope", 3}, {"low", 3}, {"high", 3}, {"seeds"}}};
  std::map<std::string, analysis::CurvesFigure> figures;
  for (const Series& s : all) {
    std::vector<double> by_seed;
    analysis::CurvesFigure& figure = figures[s.axis];
    figure.title =
        absl::StrCat(args.preset, args.parametrization.empty() ? "" : ", ", args.parametrization,
                     ": moved by ", args.steps, " steps, over ", s.axis);
    figure.x_label = s.axis == "width" ? "d_model" : "n_layers";
    figure.y_label = "RMS of the change", figure.log_y = true;
    int group = 0;
    for (const char* name : {"embedding", "stream", "logits"}) {
      if (s.name == name) break;
      ++group;
    }
    for (const auto& points : s.by_seed) {
      by_seed.push_back(Slope(points));
      if (s.what == "moved")
        figure.curves.push_back({.label = s.name, .group = group, .points = points});
    }
    const analysis::Interval i = analysis::MeanInterval(by_seed, 0.95);
    slopes.rows.push_back(
        {s.axis, s.name, s.what, i.mean, i.low, i.high, static_cast<int64_t>(by_seed.size())});
  }
  if (format != Format::kTable) {
    std::fputs(Print(table, format).c_str(), stdout);
  } else {
    for (const auto& [axis, figure] : figures)
      std::printf(
          "%s\n",
          analysis::Terminal(figure, {.width = StdoutIsTerminal() ? TerminalWidth() : 80}).c_str());
    std::fputs(TableText(slopes).c_str(), stdout);
    std::printf(
        "Slope of log RMS over log size after %ld steps, mean over seeds and its 95 %% interval; "
        "0 is flat.\n",
        static_cast<long>(args.steps));
  }
  for (const auto& [axis, figure] : figures) {
    if (args.svg.empty()) break;
    fs::path file = args.svg;
    if (figures.size() > 1)
      file.replace_filename(absl::StrCat(file.stem().string(), "-", axis, ".svg"));
    RETURN_IF_ERROR(WriteFile(file.string(), analysis::Svg(figure)));
    std::fprintf(stderr, "%s\n", file.c_str());
  }
  return absl::OkStatus();
}

}  // namespace

int CoordCheck(const Context& context, const CoordCheckArgs& args) {
  return Finish(Run(context, args));
}

}  // namespace plumb::app
