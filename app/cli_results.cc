// plumb plot, compare, query, export and import.
#include "app/cli_builder.h"

namespace plumb::app {
namespace {

void AddPlot(Builder& b, CLI::App* root, Line& l) {
  CLI::App* g =
      b.Group(root, "plot", "Figures: terminal, SVG, CSV", "plumb plot grid -o svg --out map.svg");
  const auto figure = [&l](CLI::App* to) {
    to->add_option("--sweep", l.plot.sweep, "Sweep (the newest)");
    to->add_option("--out", l.plot.out, "File to write instead of standard output");
  };
  CLI::App* c =
      b.Command(g, "grid", "The map: a value over two axes, with its spread over seeds",
                "plumb plot grid", [](const Line& x) { return PlotGrid(x.context, x.plot); });
  figure(c);
  c->add_option("--series", l.plot.series, "What to show (the sweep's objective)");
  c->add_option("--rows", l.plot.rows, "Axis down, e.g. model.n_layers");
  c->add_option("--cols", l.plot.cols, "Axis across, e.g. model.d_model");
  c = b.Command(g, "curves", "Curves of a series, one per trial",
                "plumb plot curves --series val/bits_per_byte",
                [](const Line& x) { return PlotCurves(x.context, x.plot); });
  figure(c);
  c->add_option("--series", l.plot.series, "What to show (val/bits_per_byte)");
  c->add_option("--x", l.plot.x, "steps, tokens or flops");
  c->add_flag("--linear", l.plot.linear, "Linear x axis");

  c = b.Command(g, "linearity",
                "How linear each layer is as training goes on, with and without residual",
                "plumb plot linearity --sweep 3 --out linearity.svg",
                [](const Line& x) { return PlotLinearity(x.context, x.plot); });
  figure(c);
  c->add_option("--series", l.plot.series,
                "score, adjusted, held_out or standardized (score: in sample)");
  c->add_option("--stage", l.plot.stage,
                "Of this stage (the training, where it was measured there)");

  c = b.Command(g, "pruning", "What is left of models without layers, a line for each method",
                "plumb plot pruning --sweep 3 --out pruning.svg",
                [](const Line& x) { return PlotPruning(x.context, x.plot); });
  figure(c);
  c->add_option("--series", l.plot.series,
                "perplexity, loss, stream_error, tokens_per_second, parameters, or of a task "
                "NAME/METRIC, as arc/acc (perplexity)");
  c->add_option("--stage", l.plot.stage, "Of this prune stage (the first by name)");

  c = b.Command(g, "probes", "What linear probes read from each state, over seeds",
                "plumb plot probes --series position/ridge/r2 --out position.svg",
                [](const Line& x) { return PlotProbes(x.context, x.plot); });
  figure(c);
  c->add_option("--series", l.plot.series,
                "How the series end: accuracy, logistic/accuracy, position/ridge/r2, … (accuracy)");
  c->add_option("--stage", l.plot.stage,
                "Of this linear_probe stage (the first by name that has the series)");

  c = b.Command(g, "front", "Of several objectives: the cells that nothing else beats in all",
                "plumb plot front --of val/loss,cost/flops --out front.svg",
                [](const Line& x) { return PlotFront(x.context, x.plot); });
  figure(c);
  c->add_option("--of", l.plot.of,
                "Series and costs by plan, as val/loss,cost/flops (the sweep's objectives)");
  c = b.Command(g, "profile", "A value along one axis, a line for each setting of another",
                "plumb plot profile --x n_layers --by train.flops -o svg --out depth.svg",
                [](const Line& x) { return PlotProfile(x.context, x.plot); });
  figure(c);
  c->add_option("--series", l.plot.series, "What to show (the sweep's objective)");
  c->add_option("--x", l.plot.axis, "Axis across (depth, or the first number that varies)");
  c->add_option("--by", l.plot.by, "Axis of the lines (what varies without moving with --x)");
  c->add_flag("--linear", l.plot.linear, "Linear x axis");
}

void AddTables(Builder& b, CLI::App* root, Line& l) {
  CLI::App* c =
      b.Command(root, "compare",
                "Which value of an axis is better? Paired differences, with what may be claimed",
                "plumb compare 3 --by variants --db plumb.db --plot forest.svg",
                [](const Line& x) { return RunCompare(x.context, x.compare); });
  c->add_option("sweep", l.compare.sweep, "Sweep (the newest)");
  c->add_option("--by", l.compare.by,
                "Axis to compare along, e.g. n_layers, or variants; several with commas where they "
                "move together (variants, or the only axis)");
  c->add_option("--baseline", l.compare.baseline, "Value to compare with (the file's first)");
  c->add_option("--metric", l.compare.metric, "Series, e.g. val/loss (the sweep's objective)");
  c->add_option("--at", l.compare.at,
                "last, best, 'mean_last(5)', 'step 1000' (as the sweep's report says, else last)");
  c->add_option("--level", l.compare.level, "Of intervals and of all claims together (0.95)");
  c->add_option("--plot", l.compare.plot, "Also write the forest plot to this SVG file");

  c = b.Command(root, "query", "SQL on the database, read-only",
                "plumb query \"SELECT n_layers, d_model, mean_test_bits_per_byte FROM v_cell\"",
                [](const Line& x) { return RunQuery(x.context, x.query); });
  c->add_option("sql", l.query.sql, "One SELECT; views v_trial, v_cell, v_curve, v_record, …")
      ->required();
  c->add_option("--deadline", l.query.deadline, "Seconds");
  c->add_option("--max-rows", l.query.max_rows, "Rows at most");
}

void AddExport(Builder& b, CLI::App* root, Line& l) {
  CLI::App* g =
      b.Group(root, "export", "Tables to files", "plumb export csv --what trials --out trials.csv");
  for (const char* format : {"csv", "jsonl"}) {
    CLI::App* c =
        b.Command(g, format, std::string("Rows as ") + format,
                  std::string("plumb export ") + format + " --what curves --out curves." + format,
                  [format = std::string(format)](const Line& x) {
                    ExportArgs args = x.exporting;
                    args.format = format;
                    return RunExport(x.context, args);
                  });
    c->add_option("--what", l.exporting.what,
                  "trials, cells, curves, records, linearity, prune, linear_probes, tasks, …");
    c->add_option("--sweep", l.exporting.sweep, "Sweep (all)");
    c->add_option("--out", l.exporting.out, "File instead of standard output");
  }
  CLI::App* c = b.Command(g, "sqlite", "Some sweeps as a database of its own, to hand on",
                          "plumb export sqlite mine.db --sweep 3 --sweep 4",
                          [](const Line& x) { return ExportDatabase(x.context, x.exporting); });
  c->add_option("file", l.exporting.out, "The file to make")->required();
  c->add_option("--sweep", l.exporting.sweeps, "Sweep (all)");
}

void AddImport(Builder& b, CLI::App* root, Line& l) {
  CLI::App* g = b.Group(root, "import", "Results from elsewhere",
                        "plumb import csv results.csv --sweep nanogpt --metric loss=val/loss");
  CLI::App* c =
      b.Command(g, "csv", "A table of results that Plumb did not train; they are marked as foreign",
                "plumb import csv results.csv --sweep nanogpt --axis method --metric loss=val/loss",
                [](const Line& x) { return ImportCsvCommand(x.context, x.importing); });
  c->add_option("file", l.importing.file, "With a header; one row per trial and step")->required();
  c->add_option("--sweep", l.importing.sweep_name, "The sweep's name (the file's)");
  c->add_option("--axis", l.importing.axes,
                "COLUMN or COLUMN=AXIS (columns that name a field of a trial are axes)");
  c->add_option("--metric", l.importing.metrics, "COLUMN=SERIES (columns with a slash are series)");
  c->add_option("--column", l.importing.columns,
                "seed=, replicate=, step= or state=COLUMN (columns of these names)");
  c->add_option("--ignore", l.importing.ignored, "COLUMN that is neither");
  c->add_option("--set", l.importing.sets, "FIELD=VALUE that all trials have, as data.corpus=wiki");
  c->add_option("--objective", l.importing.objective, "Series to judge by (the first)");
  c->add_flag("--tabs", l.importing.tabs, "Cells are apart by tabs");
  c = b.Command(g, "stages", "What stages on models' folders found, as the trials of a sweep",
                "plumb import stages pythia-*.json --sweep pythia",
                [](const Line& x) { return ImportStagesCommand(x.context, x.importing); });
  c->add_option("files", l.importing.files, "Written by plumb stage run --checkpoint … --out")
      ->required();
  c->add_option("--sweep", l.importing.sweep_name, "The sweep's name")->required();
  c->add_option("--objective", l.importing.objective,
                "Series to judge by, as STAGE:SERIES (the first of the first file)");
  c = b.Command(g, "db", "Sweeps of another database; equal trials are joined",
                "plumb import db theirs.db --db plumb.db",
                [](const Line& x) { return ImportDatabaseCommand(x.context, x.importing); });
  c->add_option("file", l.importing.file, "The other database")->required();
  c->add_option("--sweep", l.importing.sweeps, "Its sweep (all)");
}

}  // namespace

void AddResults(Builder& b, CLI::App* root, Line& l) {
  AddPlot(b, root, l);
  AddTables(b, root, l);
  AddExport(b, root, l);
  AddImport(b, root, l);
}

}  // namespace plumb::app
