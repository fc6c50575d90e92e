// plumb demo: from nothing to the map. A second run resumes, or shows what is done.
#include <signal.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "app/calibration.h"
#include "app/client.h"
#include "app/commands.h"
#include "app/database.h"
#include "app/demo_sweep.h"
#include "app/exit_code.h"
#include "app/signals.h"
#include "app/submit.h"
#include "app/table.h"
#include "app/tables.h"
#include "app/up.h"
#include "app/watch.h"
#include "app/write_file.h"
#include "data/dataset.h"
#include "data/prepare.h"
#include "domain/status_macros.h"

namespace plumb::app {
namespace {

constexpr char kCorpus[] = "python-docs-en";

absl::Status PrepareCorpus(const std::string& root) {
  const std::string dir = data::DatasetDir(root, kCorpus, "bytes");
  if (std::filesystem::exists(dir + "/manifest.json")) return absl::OkStatus();
  std::printf("Preparing the corpus %s (once)\n", kCorpus);
  std::fflush(stdout);
  try {
    data::PrepareOptions options;
    options.corpus = kCorpus;
    options.tokenizer = "bytes";
    options.root = root;
    data::Prepare(options);
  } catch (const std::exception& e) {
    return absl::FailedPreconditionError(e.what());
  }
  return absl::OkStatus();
}

void PrintCosts(const SweepResults& results) {
  Table table{.columns = {{"cell"},
                          {"parameters"},
                          {"no embedding"},
                          {"FLOPs"},
                          {"seconds", 1},
                          {"solo tokens/s", 0}}};
  for (const SweepResults::Cell& cell : results.cells) {
    const analysis::CellResult& c = cell.result;
    table.rows.push_back({c.name, c.params_total, c.params_non_embedding, Scaled(c.flops),
                          c.wall_seconds,
                          c.solo_tokens_per_s > 0 ? Value(c.solo_tokens_per_s) : Value()});
  }
  std::printf(
      "\nCost of one trial of each cell\n%s"
      "FLOPs of training (multiply-add: 2; attention over the full square); seconds beside other "
      "trials;\n"
      "solo tokens/s: timed alone, the figure to compare\n",
      TableText(table).c_str());
}

absl::Status ShowResult(const std::string& db_path, int64_t sweep, const std::string& data_root) {
  ASSIGN_OR_RETURN(store::Database db, OpenResults(db_path));
  ASSIGN_OR_RETURN(const SweepResults results, LoadResults(db, sweep, ""));
  ASSIGN_OR_RETURN(const auto maps, MapFigures(results, "", ""));
  const std::filesystem::path folder = std::filesystem::path(db_path).parent_path();
  const analysis::TerminalOptions options{.width = TerminalWidth(), .color = UseColor()};
  const std::string stem = std::filesystem::path(db_path).stem().string();
  std::vector<std::string> files;

  std::string yardstick;
  try {
    const data::Manifest m =
        data::ReadManifest(data::DatasetDir(data_root, results.corpus, results.tokenizer));
    if (m.compressor_bits_per_byte > 0)
      yardstick =
          absl::StrCat("Yardstick, same test text: xz -9e takes ",
                       Number(m.compressor_bits_per_byte, 3), " bits per byte alone, ",
                       Number(m.compressor_bits_per_byte_primed, 3), " after seeing train text");
  } catch (const std::exception&) {  // no corpus (a sweep of no-ops): no yardstick
  }
  for (size_t i = 0; i < maps.size(); ++i) {
    analysis::MapFigure map = maps[i];
    if (!yardstick.empty()) map.notes.push_back(yardstick);
    std::printf("\n%s", analysis::Terminal(map, options).c_str());
    const std::string file =
        (folder /
         absl::StrCat(stem, "-map", maps.size() > 1 ? absl::StrCat("-", i + 1) : "", ".svg"))
            .string();
    RETURN_IF_ERROR(WriteFile(file, analysis::Svg(map)));
    files.push_back(file);
  }
  auto curves = LoadCurves(db, {.sweep = sweep, .x = "flops"});
  if (curves.ok()) {
    std::printf("\n%s", analysis::Terminal(*curves, options).c_str());
    const std::string file = (folder / (stem + "-curves.svg")).string();
    RETURN_IF_ERROR(WriteFile(file, analysis::Svg(*curves)));
    files.push_back(file);
  }
  PrintCosts(results);
  std::printf("\nFigures:");
  for (const std::string& f : files) std::printf(" %s", f.c_str());
  std::printf(
      "\nAsk the file yourself:\n"
      "  plumb query --db %s \"SELECT n_layers, d_model, n, mean_test_bits_per_byte FROM v_cell "
      "ORDER BY 4\"\n"
      "  plumb plot curves --db %s --series train/loss --x flops\n"
      "Bring server and worker up again for sweeps of your own:\n"
      "  plumb up --db %s\n",
      db_path.c_str(), db_path.c_str(), db_path.c_str());
  return absl::OkStatus();
}

// The newest sweep made from this text; 0: none. `done`: it has ended.
int64_t FindEarlier(const std::string& db_path, const std::string& yaml, bool* done) {
  if (!std::filesystem::exists(db_path)) return 0;
  auto db = OpenResults(db_path);
  if (!db.ok()) return 0;
  auto find = db->Prepare(
      "SELECT id, state FROM sweep WHERE sweep_yaml = ? AND state <> 'cancelled' ORDER BY id DESC "
      "LIMIT 1");
  if (!find.ok()) return 0;
  find->Bind(1, yaml);
  auto row = find->Step();
  if (!row.ok() || !*row) return 0;
  *done = find->Text(1) == "completed";
  return find->Int(0);
}

absl::StatusOr<int> Run(const Context& context, const DemoArgs& args, const std::string& db_path) {
  std::string yaml = kDemoSweep;
  if (!args.sweep.empty()) {
    ASSIGN_OR_RETURN(yaml, ReadSweepFile(args.sweep));
    ASSIGN_OR_RETURN(yaml, WithCalibration(context, yaml, CorporaOf(args.data_root, "")));
  }
  const std::string data_root = args.data_root.empty() ? data::DefaultRoot() : args.data_root;
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(db_path).parent_path(), error);
  if (error) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot make the folder of ", db_path, ": ", error.message(), "; give another: --dir DIR"));
  }
  bool done = false;
  int64_t sweep = FindEarlier(db_path, yaml, &done);
  if (sweep > 0 && done) {
    std::printf(
        "All trials of the demo are done already; its result again.\n"
        "(A new one: plumb demo --dir OTHER)\n");
    RETURN_IF_ERROR(ShowResult(db_path, sweep, data_root));
    return kDone;
  }
  RETURN_IF_ERROR(PrepareCorpus(data_root));
  Context local = context;
  local.db = db_path;
  local.db_given = true;
  local.server.clear();
  Children children;
  std::string address;
  UpArgs up{.dir = (std::filesystem::path(db_path).parent_path() / "worker").string(),
            .data_root = data_root,
            .trainer = args.trainer,
            .slots = args.slots};
  absl::Status s = StartCluster(local, up, &children, &address);
  absl::StatusOr<int> code = kDone;
  if (!s.ok()) {
    code = s;
  } else {
    code = [&]() -> absl::StatusOr<int> {
      ASSIGN_OR_RETURN(Client client, Client::Connect(local));
      if (sweep == 0) {
        ASSIGN_OR_RETURN(auto submitted, Submit(client, yaml, "demo.yaml", NewRequestId()));
        sweep = submitted.sweep_id();
        std::printf("Sweep %lld: %lld trials on %s; everything goes to %s\n",
                    static_cast<long long>(sweep), static_cast<long long>(submitted.trials()),
                    kCorpus, db_path.c_str());
      } else {
        std::printf("Sweep %lld goes on where it was\n", static_cast<long long>(sweep));
      }
      std::fflush(stdout);
      WatchOptions watch{.fail_on = FailOn::kAll,
                         .after_interrupt = absl::StrCat(
                             "Stopped; trainers write checkpoints. Go on: plumb demo --dir ",
                             std::filesystem::path(db_path).parent_path().string())};
      watch.tick = [&children] { return children.Reap(); };
      return Watch(client, sweep, watch);
    }();
  }
  children.Stop();
  if (!code.ok() || *code == kInterrupted) return code;
  RETURN_IF_ERROR(ShowResult(db_path, sweep, data_root));
  return code;
}

}  // namespace

int RunDemo(const Context& context, const DemoArgs& args) {
  BlockSignals();
  const std::string db_path =
      context.db_given ? context.db : (std::filesystem::path(args.dir) / "demo.db").string();
  const std::string shown = std::filesystem::absolute(db_path).lexically_normal().string();
  absl::StatusOr<int> code = Run(context, args, shown);
  if (!code.ok()) return Finish(code.status());
  std::printf("%s%s\n", StdoutIsTerminal() ? "Database: " : "", shown.c_str());
  return *code;
}

}  // namespace plumb::app
