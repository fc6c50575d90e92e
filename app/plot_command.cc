// plumb plot grid|curves|linearity|pruning|probes|profile.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "app/commands.h"
#include "app/database.h"
#include "app/exit_code.h"
#include "app/nearest.h"
#include "app/signals.h"
#include "app/tables.h"
#include "app/write_file.h"
#include "domain/status_macros.h"

namespace plumb::app {
namespace {

enum class Drawing { kText, kSvg, kCsv };

// "-o"; where it is not given, the ending of --out.
absl::StatusOr<Drawing> DrawingOf(const Context& context, const std::string& out) {
  std::string name = context.format;
  if (name == "table")
    name = std::filesystem::path(out).extension() == ".svg"   ? "svg"
           : std::filesystem::path(out).extension() == ".csv" ? "csv"
                                                              : "table";
  if (name == "table" || name == "text") return Drawing::kText;
  if (name == "svg") return Drawing::kSvg;
  if (name == "csv") return Drawing::kCsv;
  const std::string near = Nearest(name, {"table", "svg", "csv"});
  return absl::InvalidArgumentError(
      absl::StrCat("-o ", name, ": a figure is one of table (in the terminal), svg, csv",
                   near.empty() ? "" : absl::StrCat("; did you mean ", near, "?")));
}

analysis::TerminalOptions Options(const PlotArgs& args) {
  return {.width = args.out.empty() ? TerminalWidth() : 80,
          .color = args.out.empty() && UseColor()};
}

absl::Status Put(const std::string& text, const std::string& out) {
  if (out.empty() || out == "-") {
    std::fputs(text.c_str(), stdout);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(WriteFile(out, text));
  std::fprintf(stderr, "%s\n", out.c_str());
  return absl::OkStatus();
}

// Of any kind that analysis/figure.h draws.
template <typename Figure>
absl::Status PutFigure(const Figure& figure, Drawing drawing, const PlotArgs& args) {
  switch (drawing) {
    case Drawing::kText:
      return Put(analysis::Terminal(figure, Options(args)), args.out);
    case Drawing::kSvg:
      return Put(analysis::Svg(figure), args.out);
    case Drawing::kCsv:
      return Put(analysis::Csv(figure), args.out);
  }
  return absl::OkStatus();
}

absl::Status Grid(const Context& context, const PlotArgs& args) {
  ASSIGN_OR_RETURN(const Drawing drawing, DrawingOf(context, args.out));
  ASSIGN_OR_RETURN(store::Database db, OpenResults(context.db));
  ASSIGN_OR_RETURN(const SweepResults results, LoadResults(db, args.sweep, args.series));
  ASSIGN_OR_RETURN(const auto figures, MapFigures(results, args.rows, args.cols));
  if (drawing == Drawing::kSvg && figures.size() > 1) {
    // One picture a file: the others get numbers.
    if (args.out.empty() || args.out == "-") {
      return absl::InvalidArgumentError(
          absl::StrCat("the sweep varies more than two axes: ", figures.size(),
                       " maps; give --out FILE.svg for files with numbers"));
    }
  }
  std::string all;
  for (size_t i = 0; i < figures.size(); ++i) {
    switch (drawing) {
      case Drawing::kText:
        all += (i ? "\n" : "") + analysis::Terminal(figures[i], Options(args));
        break;
      case Drawing::kCsv: {
        const std::string text = analysis::Csv(figures[i]);
        all += i ? text.substr(text.find('\n') + 1) : text;
        break;
      }
      case Drawing::kSvg:
        if (figures.size() > 1) {
          std::filesystem::path file = args.out;
          file.replace_filename(
              absl::StrCat(file.stem().string(), "-", i + 1, file.extension().string()));
          RETURN_IF_ERROR(Put(analysis::Svg(figures[i]), file.string()));
        } else {
          all = analysis::Svg(figures[i]);
        }
        break;
    }
  }
  return all.empty() ? absl::OkStatus() : Put(all, args.out);
}

absl::Status Curves(const Context& context, const PlotArgs& args) {
  ASSIGN_OR_RETURN(const Drawing drawing, DrawingOf(context, args.out));
  ASSIGN_OR_RETURN(store::Database db, OpenResults(context.db));
  CurveRequest request{.sweep = args.sweep, .x = args.x, .linear = args.linear};
  if (!args.series.empty()) request.series = args.series;
  ASSIGN_OR_RETURN(const analysis::CurvesFigure figure, LoadCurves(db, request));
  return PutFigure(figure, drawing, args);
}

// Of what a stage after the training found. `which`: the field of the request that --series names.
template <typename Request, typename Figure>
absl::Status OfStage(const Context& context, const PlotArgs& args, std::string Request::*which,
                     absl::StatusOr<Figure> (*load)(store::Database&, const Request&)) {
  ASSIGN_OR_RETURN(const Drawing drawing, DrawingOf(context, args.out));
  ASSIGN_OR_RETURN(store::Database db, OpenResults(context.db));
  Request request{.sweep = args.sweep, .stage = args.stage};
  if (!args.series.empty()) request.*which = args.series;
  ASSIGN_OR_RETURN(const Figure figure, load(db, request));
  return PutFigure(figure, drawing, args);
}

absl::Status Profile(const Context& context, const PlotArgs& args) {
  ASSIGN_OR_RETURN(const Drawing drawing, DrawingOf(context, args.out));
  ASSIGN_OR_RETURN(store::Database db, OpenResults(context.db));
  ASSIGN_OR_RETURN(const SweepResults results, LoadResults(db, args.sweep, args.series));
  ASSIGN_OR_RETURN(analysis::ProfileFigure figure, LoadProfile(results, args.axis, args.by));
  figure.log_x = figure.log_x && !args.linear;
  return PutFigure(figure, drawing, args);
}

}  // namespace

absl::Status WriteFile(const std::string& path, const std::string& text) {
  const std::string part = path + ".part";
  std::ofstream out(part, std::ios::binary);
  out << text;
  out.close();
  std::error_code error;
  if (!out) return absl::NotFoundError(absl::StrCat("cannot write ", path));
  std::filesystem::rename(part, path, error);
  if (error) return absl::InternalError(absl::StrCat("cannot write ", path, ": ", error.message()));
  return absl::OkStatus();
}

int PlotGrid(const Context& context, const PlotArgs& args) { return Finish(Grid(context, args)); }
int PlotCurves(const Context& context, const PlotArgs& args) {
  return Finish(Curves(context, args));
}
int PlotLinearity(const Context& context, const PlotArgs& args) {
  return Finish(OfStage(context, args, &LayersRequest::score, LoadLayers));
}
int PlotPruning(const Context& context, const PlotArgs& args) {
  return Finish(OfStage(context, args, &PruningRequest::metric, LoadPruning));
}
int PlotProbes(const Context& context, const PlotArgs& args) {
  return Finish(OfStage(context, args, &ProbesRequest::series, LoadProbes));
}
int PlotProfile(const Context& context, const PlotArgs& args) {
  return Finish(Profile(context, args));
}

}  // namespace plumb::app
