#include "app/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "app/commands.h"
#include "app/exit_code.h"
#include "app/nearest.h"

namespace plumb::app {
namespace {

// Help that leads with an example.
class ExampleFirst : public CLI::Formatter {
 public:
  std::map<const CLI::App*, std::string> examples;
  std::string make_description(const CLI::App* app) const override {
    const auto it = examples.find(app);
    return (it == examples.end() ? "" : "Example:\n  " + it->second + "\n\n") +
           app->get_description() + "\n\n";
  }
};

// All options of all commands, in one place that outlives the parse.
struct Line {
  Context context;
  ServerArgs server;
  EventArgs events;
  TopArgs top;
  WorkerArgs worker;
  UserArgs user;
  UpArgs up;
  DemoArgs demo;
  SweepArgs sweep;
  WhatIfArgs what_if;
  ModelArgs model;
  CoordCheckArgs coordcheck;
  SimArgs sim;
  EditArgs edit;
  AnnotateArgs annotate;
  ImportArgs importing;
  RemoveArgs remove;
  TrialArgs trial;
  StageArgs stage;
  PlotArgs plot;
  CompareArgs compare;
  QueryArgs query;
  ExportArgs exporting;
  DoctorArgs doctor;
  DataArgs data;
  ModelFilesArgs model_files;
  BlockArgs block;
  std::string shell = "bash", init_file = "sweep.yaml";
  bool reference = false;
  std::function<int()> run;
};

class Builder {
 public:
  Builder(CLI::App* root, Line* line) : line_(line), help_(std::make_shared<ExampleFirst>()) {
    help_->column_width(34);
    root->formatter(help_);
    help_->examples[root] = "plumb demo";
  }
  CLI::App* Group(CLI::App* parent, const std::string& name, const std::string& what,
                  const std::string& example) {
    CLI::App* app = parent->add_subcommand(name, what);
    app->fallthrough();
    app->require_subcommand(1);
    help_->examples[app] = example;
    return app;
  }
  CLI::App* Command(CLI::App* parent, const std::string& name, const std::string& what,
                    const std::string& example, std::function<int(const Line&)> run) {
    CLI::App* app = parent->add_subcommand(name, what);
    app->fallthrough();
    help_->examples[app] = example;
    app->callback(
        [line = line_, run = std::move(run)] { line->run = [line, run] { return run(*line); }; });
    return app;
  }

 private:
  Line* line_;
  std::shared_ptr<ExampleFirst> help_;
};

void AddServe(Builder& b, CLI::App* root, Line& l) {
  CLI::App* c =
      b.Command(root, "up", "Server and worker on this machine, until Ctrl-C",
                "plumb up --db plumb.db", [](const Line& x) { return RunUp(x.context, x.up); });
  c->add_option("--slots", l.up.slots, "Trials at once (0: one per core)");
  c->add_option("--dir", l.up.dir, "The worker's folder (\"worker\" beside the database)");
  c->add_option("--data-root", l.up.data_root, "Where prepared corpora lie");
  c->add_option("--trainer", l.up.trainers,
                "NAME=PATH: a trainer of yours (external: {trainer: NAME}); a PATH alone: "
                "plumb-trainer (beside this program)");
  c->add_flag("--allow-commands", l.up.allow_commands,
              "Sweeps may have it run commands as this user (external: {command: …})");
  c->add_option("--listen", l.up.listen, "Loopback address; port 0: any free one");
  c->add_option("--suggester", l.up.suggester,
                "Who chooses the points of searches (plumb-suggest beside this program); none: "
                "nobody from here");

  c = b.Command(root, "sim",
                "What would this cluster do? Coordinator and workers under virtual time",
                "plumb sim --workers 8 --slots 4 --trials 500 --minutes 30 --faults 20",
                [](const Line& x) { return RunSim(x.context, x.sim); });
  c->add_option("--workers", l.sim.workers, "Machines (32)");
  c->add_option("--slots", l.sim.slots, "Trials at once on each (0: drawn, 1 to 8)");
  c->add_option("--trials", l.sim.trials,
                "In sweeps that come over the first 70 % of the time (1000)");
  c->add_option("--minutes", l.sim.minutes, "A trial's mean time (0: half the cluster's)");
  c->add_option("--hours", l.sim.hours, "Until when faults happen (24)");
  c->add_option("--faults", l.sim.faults, "How many, of a mix that the seed draws (40)");
  c->add_option("--lease", l.sim.lease_seconds,
                "Seconds of silence until a worker is lost (0: drawn)");
  c->add_option("--max-failures", l.sim.max_failures, "Without progress, until a trial fails (3)");
  c->add_option("--seed", l.sim.seed, "Names machines, trials and faults (1)");
  c->add_option("--seeds", l.sim.seeds, "As many from --seed on (1)");
  c->add_option("--svg", l.sim.svg, "Draw slots at work and stages waiting, of the first seed");

  c = b.Command(root, "demo", "A depth x width sweep on real text, from nothing to the map",
                "plumb demo", [](const Line& x) { return RunDemo(x.context, x.demo); });
  c->add_option("--dir", l.demo.dir, "Folder for database, figures and checkpoints (plumb-data)");
  c->add_option("--sweep", l.demo.sweep, "Another sweep file than the bundled one");
  c->add_option("--slots", l.demo.slots, "Trials at once");
  c->add_option("--data-root", l.demo.data_root, "Where prepared corpora lie");
  c->add_option("--trainer", l.demo.trainer, "plumb-trainer (beside this program)");

  c = b.Command(root, "server", "The coordinator alone", "plumb server --db plumb.db",
                [](const Line& x) { return RunServerCommand(x.context, x.server); });
  c->add_option("--listen", l.server.listen, "Loopback address; port 0: any free one");
  c->add_option("--data-root", l.server.data_root, "Where prepared corpora lie");
  c->add_option("--lease", l.server.lease_seconds,
                "Seconds of silence after which a worker's trials are lost");
  c->add_option("--report-interval", l.server.report_seconds, "Seconds between a worker's reports");
  c->add_option("--snapshot-dir", l.server.snapshot_dir,
                "Verified copies of the database go to this folder, again and again");
  c->add_option("--snapshot-every", l.server.snapshot_every, "Time between them (10m)");
  c->add_option("--snapshot-keep", l.server.snapshot_keep, "As many stay (24)");
  c->add_option("--blobs-gib", l.server.blobs_gib,
                "Room beside the database for checkpoints that workers send (100; 0: none)");
  c->add_flag("--no-blobs", l.server.no_blobs, "Workers keep their checkpoints to themselves");
  c->add_option("--metrics", l.server.metrics,
                "127.0.0.1:PORT serves /metrics (Prometheus) and /healthz");
  c->add_option("--log-format", l.server.log_format,
                "text, or json: a line for each message and each committed event, with its ids")
      ->check(CLI::IsMember({"text", "json"}));
  c->add_option("--parent", l.server.parent)->group("");
  CLI::App* server = c;
  // CLI11 calls a group's callback after that of its command: alone, it is the server.
  server->callback([server, &l] {
    if (server->get_subcommands().empty())
      l.run = [&l] { return RunServerCommand(l.context, l.server); };
  });
  b.Command(server, "status", "What the server does and has done", "plumb server status",
            [](const Line& x) { return ServerStatus(x.context); });
  c = b.Command(server, "backup", "A verified copy, also while the server runs",
                "plumb server backup backup.db --db plumb.db",
                [](const Line& x) { return BackupDatabase(x.context, x.server.file); });
  c->add_option("file", l.server.file, "The copy to make")->required();
  c = b.Command(server, "restore", "Puts a copy back in the place of the database",
                "plumb server restore backup.db --db plumb.db",
                [](const Line& x) { return RestoreDatabase(x.context, x.server.file); });
  c->add_option("file", l.server.file, "The copy")->required();
  c = b.Command(server, "retain", "Removes sweeps that ended long ago, trial by trial",
                "plumb server retain --older-than 90d --keep-tagged --yes",
                [](const Line& x) { return RemoveSweepsCommand(x.context, x.remove); });
  c->add_option("--older-than", l.remove.older_than, "Since their end, as 90d or 36h")->required();
  c->add_flag("--keep-tagged", l.remove.keep_tagged,
              "Sweeps with any tag stay (those tagged pinned always do)");
  c->add_flag("--yes", l.remove.really, "For good; else it is only said what would go");
  b.Command(server, "check", "Reads all of a database: pages, references, chain of events",
            "plumb server check --db plumb.db",
            [](const Line& x) { return CheckDatabase(x.context); });
  b.Command(server, "migrate", "Brings a database up to this program, after a verified copy",
            "plumb server migrate --db plumb.db",
            [](const Line& x) { return MigrateDatabase(x.context); });

  c = b.Command(root, "events", "What happened: submits, grants, ends, losses, drains",
                "plumb events --sweep 1 --kind 'worker_*' --since 2h",
                [](const Line& x) { return ShowEvents(x.context, x.events); });
  c->add_option("--sweep", l.events.sweep, "Only of this sweep and its trials");
  c->add_option("--trial", l.events.trial, "Only of this trial");
  c->add_option("--kind", l.events.kind, "Only of this kind; * and ? stand for anything");
  c->add_option("--worker", l.events.worker, "Only of this worker, by name");
  c->add_option("--since", l.events.since, "Only the last 90s, 15m, 2h, …");
  c->add_option("--limit", l.events.limit, "The newest so many (100)");

  c = b.Command(root, "top", "The cluster, again and again, until Ctrl-C", "plumb top",
                [](const Line& x) { return RunTop(x.context, x.top); });
  c->add_option("--every", l.top.every, "Seconds between two looks (2)");
  c->add_option("--times", l.top.times, "Looks; 0: until Ctrl-C");

  CLI::App* g =
      b.Group(root, "worker", "Machines that train", "plumb worker start --server 127.0.0.1:4242");
  c = b.Command(g, "start", "Runs a worker here until Ctrl-C",
                "plumb worker start --db plumb.db --slots 2",
                [](const Line& x) { return RunWorkerCommand(x.context, x.worker); });
  c->add_option("--name", l.worker.name, "Its name (the host's)");
  c->add_option("--dir", l.worker.dir, "Its folder (\"worker\" beside the database)");
  c->add_option("--slots", l.worker.slots, "Trials at once (0: one per core)");
  c->add_option("--data-root", l.worker.data_root, "Where prepared corpora lie");
  c->add_option("--trainer", l.worker.trainers,
                "NAME=PATH: a trainer of yours (external: {trainer: NAME}); a PATH alone: "
                "plumb-trainer (beside this program)");
  c->add_flag("--allow-commands", l.worker.allow_commands,
              "Sweeps may have it run commands as this user (external: {command: …})");
  c->add_option("--label", l.worker.labels, "A word that sweeps may ask for (resources: labels)");
  c->add_option("--memory-gib", l.worker.memory_gib,
                "Memory for trials (0: nine tenths of what the devices have)");
  c->add_option("--gpu", l.worker.gpu,
                "The GPU it has to itself, from 0; all: a worker for each GPU of this machine");
  c->add_option("--gang-address", l.worker.gang_address,
                "Where other machines reach this one: it then takes part in trials whose ranks "
                "fit no one worker, and listens there while they meet");
  c->add_option("--corpora-gib", l.worker.corpora_gib,
                "What corpora fetched from the server may take in its folder (50)");
  c->add_flag("--shared-checkpoints", l.worker.shared_checkpoints,
              "All workers see its folder: checkpoints are not sent to the server");
  c->add_option("--until", l.worker.until,
                "When this machine is taken away, as 90m from now or @UNIX_SECONDS: trials "
                "checkpoint and leave before");
  c->add_option("--exit-when-idle", l.worker.exit_when_idle, "Leave after so many idle seconds");
  c->add_option("--parent", l.worker.parent)->group("");
  b.Command(g, "list", "Workers, their slots and devices", "plumb worker list -o json",
            [](const Line& x) { return ListWorkers(x.context); });
  for (const bool drain : {true, false}) {
    c = b.Command(g, drain ? "drain" : "undrain",
                  drain ? "Its trials checkpoint and go elsewhere; it takes no new ones"
                        : "It takes trials again",
                  drain ? "plumb worker drain gpu7" : "plumb worker undrain gpu7",
                  [drain](const Line& x) { return DrainWorker(x.context, x.worker.name, drain); });
    c->add_option("name", l.worker.name, "The worker")->required();
  }
  c = b.Command(g, "explain", "What it has, its bundles, and why it gets nothing",
                "plumb worker explain gpu7",
                [](const Line& x) { return ExplainWorker(x.context, x.worker.name); });
  c->add_option("name", l.worker.name, "The worker")->required();
  g = b.Group(root, "user", "Who shares the cluster, and how", "plumb user list");
  b.Command(g, "list", "Users: what they have, had and may have", "plumb user list",
            [](const Line& x) { return ListUsers(x.context); });
  c = b.Command(g, "set", "Changes a user's share or limit", "plumb user set ann --max-slots 8",
                [](const Line& x) { return SetUser(x.context, x.user); });
  c->add_option("name", l.user.name, "The user")->required();
  c->add_option("--weight", l.user.weight, "Share of device time against others' (1)");
  c->add_option("--max-slots", l.user.max_slots, "Slots at once; 0: no limit");
}

void AddAnnotations(Builder& b, CLI::App* g, Line& l, bool of_trial) {
  const std::string what = of_trial ? "trial" : "sweep";
  CLI::App* c = b.Command(g, "tag", "Adds and removes tags; those with pinned are never removed",
                          "plumb " + what + " tag 3 +baseline -old", [of_trial](const Line& x) {
                            AnnotateArgs args = x.annotate;
                            args.of_trial = of_trial;
                            return TagCommand(x.context, args);
                          });
  c->add_option("id", l.annotate.id, "Which " + what)->required();
  c->add_option(
      "tags", l.annotate.words,
      "+TAG or TAG adds, -TAG removes (1 to 64 letters, digits, - _ . @ : /); none: shows "
      "them");
  c = b.Command(g, "note", "Shows or replaces its note",
                "plumb " + what + " note 3 \"lr too high\"", [of_trial](const Line& x) {
                  AnnotateArgs args = x.annotate;
                  args.of_trial = of_trial;
                  return NoteCommand(x.context, args);
                });
  c->add_option("id", l.annotate.id, "Which " + what)->required();
  c->add_option("text", l.annotate.text, "At most 4 KiB; none: shows it");
  c->add_flag("--clear", l.annotate.clear, "Removes it");
}

void AddEditing(Builder& b, CLI::App* g, Line& l) {
  CLI::App* c = nullptr;
  for (const bool edit : {false, true}) {
    c = b.Command(g, edit ? "edit" : "extend",
                  edit ? "As extend, and takes out cells that have not begun"
                       : "A running or finished sweep gains cells, values, replicates",
                  edit ? "plumb sweep edit 3 --drop model.n_layers=32 --reason \"too slow\""
                       : "plumb sweep extend 3 --replicates 5 --axis model.n_layers=16,32",
                  [edit](const Line& x) { return EditSweepCommand(x.context, x.edit, edit); });
    c->add_option("id", l.edit.id, "Sweep")->required();
    c->add_option("--replicates", l.edit.replicates, "So many in all");
    c->add_option("--axis", l.edit.axes, "FIELD=VALUE,…: more values; a new axis where it is none");
    if (edit) c->add_option("--drop", l.edit.drops, "FIELD=VALUE,…: values to take out of an axis");
    c->add_option("--set", l.edit.sets, "KEY=VALUE of the file, as limits.trials=200");
    c->add_option("--file", l.edit.file, "The whole new text instead (-: standard input)");
    c->add_flag("--dry-run", l.edit.dry_run, "Says what it would gain and lose");
    c->add_option("--reason", l.edit.reason, "Goes into the event");
    c->add_option("--request-id", l.edit.request_id)->group("");
  }
  c = b.Command(g, "retry", "A new budget of attempts for all that failed",
                "plumb sweep retry 3 --state failed --cell \"n_layers=4 d_model=64\"",
                [](const Line& x) { return RetrySweepCommand(x.context, x.edit); });
  c->add_option("id", l.edit.id, "Sweep (the newest)");
  c->add_option("--state", l.edit.states, "failed, cancelled, stopped, diverged (failed)")
      ->delimiter(',');
  c->add_option("--cell", l.edit.cells, "Only trials of this cell, by name");
  c = b.Command(g, "fork", "A copy of its file with changes, its origin in it",
                "plumb sweep fork 3 --set train.lr=0.01 --out new.yaml",
                [](const Line& x) { return ForkSweepCommand(x.context, x.edit); });
  c->add_option("id", l.edit.id, "Sweep (the newest)");
  c->add_option("--set", l.edit.sets,
                "KEY=VALUE: a field of the trial (train.lr=0.01) or a key of the file "
                "(replicates=5, axes.model.n_layers='[2, 4]')");
  c->add_option("--name", l.edit.name, "Its name (the old one and -fork)");
  c->add_option("--out", l.edit.out, "File to make");
  c->add_flag("--submit", l.edit.submit, "Hand it to the server");
  c = b.Command(g, "diff", "What tells two sweeps or files apart, and what they share",
                "plumb sweep diff 3 new.yaml",
                [](const Line& x) { return DiffSweepsCommand(x.context, x.edit); });
  c->add_option("a", l.edit.a, "Sweep or file")->required();
  c->add_option("b", l.edit.b, "Sweep or file")->required();
  c->add_option("--data-root", l.edit.data_root, "Where prepared corpora lie");
  c->add_option("--assume-tokens", l.edit.assume_tokens, "As of plumb sweep plan");
}

void AddSweep(Builder& b, CLI::App* root, Line& l) {
  CLI::App* g =
      b.Group(root, "sweep", "Plan, submit and follow sweeps", "plumb sweep plan sweep.yaml");
  CLI::App* c = b.Command(g, "plan", "What a sweep file means and costs; starts nothing",
                          "plumb sweep plan sweep.yaml",
                          [](const Line& x) { return PlanSweepCommand(x.context, x.sweep); });
  c->add_option("file", l.sweep.file, "Sweep file (-: standard input)")->required();
  c->add_option("--data-root", l.sweep.data_root, "Where prepared corpora lie");
  c->add_option("--flops-per-second", l.sweep.flops_per_second,
                "Of one slot, to predict time without a calibration");
  c->add_flag("--calibrate", l.sweep.calibrate,
              "First measure the sweep's extreme shapes on this machine, as many at once as it "
              "trains; kept beside --db");
  c->add_option("--calibrate-seconds", l.sweep.calibrate_seconds, "Of each shape (1)");
  c->add_option("--calibrate-shapes", l.sweep.calibrate_shapes, "At most so many (16)");
  c->add_option("--memory-gib", l.sweep.memory_gib,
                "Of one device: which cells do not fit (the largest worker's)");
  c->add_flag("--draw", l.sweep.draw,
              "Draw the plane of depth and width with lines of equal size and price");
  c->add_option("--plane", l.sweep.plane, "Write that drawing as SVG");
  c->add_option("--trainer", l.sweep.trainer, "plumb-trainer, to calibrate (beside plumb)");
  c->add_option("--assume-tokens", l.sweep.assume_tokens,
                "Plan for corpora that are not prepared here, as if they had so many training "
                "tokens: 700M, or by part ja=500M,en=500M");
  c = b.Command(g, "simulate",
                "What would searching cost, and how far from the best would it end? Starts nothing",
                "plumb sweep simulate sweep.yaml --workers 4 --slots 2 --seeds 20",
                [](const Line& x) { return SimulateSweep(x.context, x.what_if); });
  WhatIfArgs& w = l.what_if;
  c->add_option("file", w.file, "Sweep file; left out, that of the sweep in --curves-from");
  c->add_option("--workers", w.workers, "Machines (4)");
  c->add_option("--slots", w.slots, "Trials at once on each (2)");
  c->add_option("--speeds", w.speeds, "Of the machines in turn, 1 being the rate given: 1,1,0.5")
      ->delimiter(',');
  c->add_option("--flops-per-second,--flops-per-s", w.flops_per_second,
                "Of one slot; left out, what --db has measured, or 1e10");
  c->add_option("--seeds", w.seeds, "Realisations of the curves (20)");
  c->add_option("--seed", w.seed, "The first of them (1)");
  c->add_option("--searches", w.searches,
                "Which: grid, asha-stop, asha-promote, hyperband, median, random, file (all)")
      ->delimiter(',');
  c->add_option("--share", w.share, "Of the candidates that random tries (1/3)");
  c->add_option("--level", w.level, "Of intervals (0.95)");
  c->add_option("--curves-from", w.curves_from,
                "A results file: what its trials showed, instead of invented curves");
  c->add_option("--sweep", w.sweep, "Which sweep of it (the newest)");
  c->add_option("--crossing", w.crossing,
                "Invented curves: decades by which the best rate falls in training (0.5)");
  c->add_option("--spread", w.spread, "The same: deviation that no law predicts (0.03)");
  c->add_option("--seed-sd", w.seed_sd, "The same: deviation between seeds (0.01)");
  c->add_option("--noise", w.noise, "The same: deviation of an evaluation (0.005)");
  c->add_option("--svg", w.svg, "Draw regret against cost into this file");
  c->add_option("--data-root", w.data_root, "Where prepared corpora lie");
  c->add_option("--assume-tokens", w.assume_tokens, "As for plan");
  const auto waits = [&l](CLI::App* to) {
    to->add_option("--fail-on", l.sweep.fail_on,
                   "Exit with 7 when any, all or never trials failed");
    to->add_option("--timeout", l.sweep.timeout, "Stop watching after so many seconds (exit 8)");
  };
  c = b.Command(g, "submit", "Hands a sweep file to the server",
                "plumb sweep submit sweep.yaml --watch",
                [](const Line& x) { return SubmitSweep(x.context, x.sweep); });
  c->add_option("file", l.sweep.file, "Sweep file (-: standard input)")->required();
  c->add_flag("--watch", l.sweep.watch, "Follow it to its end");
  waits(c);
  c = b.Command(g, "list", "Sweeps, newest first", "plumb sweep list --tag baseline",
                [](const Line& x) { return ListSweeps(x.context, x.sweep); });
  c->add_option("--tag", l.sweep.tag, "Only with this tag");
  const auto id = [&l](CLI::App* to) { to->add_option("id", l.sweep.id, "Sweep (the newest)"); };
  id(b.Command(g, "show", "One sweep and its file", "plumb sweep show 1",
               [](const Line& x) { return ShowSweep(x.context, x.sweep); }));
  c = b.Command(g, "watch", "Follows a sweep to its end; Ctrl-C leaves it running",
                "plumb sweep watch 1",
                [](const Line& x) { return WatchSweepCommand(x.context, x.sweep); });
  id(c);
  waits(c);
  id(b.Command(g, "cancel", "Ends a sweep's live trials", "plumb sweep cancel 1",
               [](const Line& x) { return CancelSweep(x.context, x.sweep); }));
  id(b.Command(g, "pause", "What runs checkpoints and stops; nothing new starts",
               "plumb sweep pause 1",
               [](const Line& x) { return PauseSweep(x.context, x.sweep, true); }));
  id(b.Command(g, "resume", "A paused sweep goes on", "plumb sweep resume 1",
               [](const Line& x) { return PauseSweep(x.context, x.sweep, false); }));
  c = b.Command(g, "priority", "Larger goes first, and takes room from what is smaller",
                "plumb sweep priority 1 10",
                [](const Line& x) { return PrioritiseSweep(x.context, x.sweep); });
  c->add_option("id", l.sweep.id, "Sweep")->required();
  c->add_option("priority", l.sweep.priority, "From -1000 to 1000 (0)")->required();
  AddEditing(b, g, l);
  AddAnnotations(b, g, l, /*of_trial=*/false);
  c = b.Command(g, "remove", "Removes sweeps that ended, and what no other sweep has of them",
                "plumb sweep remove 3 --yes",
                [](const Line& x) { return RemoveSweepsCommand(x.context, x.remove); });
  c->add_option("id", l.remove.ids, "Sweeps")->required();
  c->add_flag("--yes", l.remove.really, "For good; else it is only said what would go");
}

void AddTrial(Builder& b, CLI::App* root, Line& l) {
  CLI::App* g = b.Group(root, "trial", "One computation: state, log, reasons",
                        "plumb trial list --state failed");
  CLI::App* c =
      b.Command(g, "list", "Trials of a sweep", "plumb trial list --sweep 1 --state failed",
                [](const Line& x) { return ListTrials(x.context, x.trial); });
  c->add_option("--sweep", l.trial.sweep, "Sweep (the newest)");
  c->add_option("--state", l.trial.state, "Only trials in this state");
  c->add_option("--tag", l.trial.tag, "Only trials with this tag");
  c->add_option("--limit", l.trial.limit, "At most so many (250); 0: all");
  AddAnnotations(b, g, l, /*of_trial=*/true);
  c = b.Command(g, "remove", "Removes trials with all they measured, from every sweep",
                "plumb trial remove 3 --yes",
                [](const Line& x) { return RemoveTrialsCommand(x.context, x.remove); });
  c->add_option("id", l.remove.ids, "Trials")->required();
  c->add_flag("--yes", l.remove.really, "For good; else it is only said what would go");
  const auto id = [&l](CLI::App* to) { to->add_option("id", l.trial.id, "Trial")->required(); };
  id(b.Command(g, "show", "One trial with stages and attempts", "plumb trial show 3",
               [](const Line& x) { return ShowTrial(x.context, x.trial); }));
  c = b.Command(g, "lineage", "Which trials began from checkpoints of which, as a tree",
                "plumb trial lineage 3",
                [](const Line& x) { return TrialLineage(x.context, x.trial); });
  id(c);
  c->add_flag("--dot", l.trial.dot, "As a graph for Graphviz");
  id(b.Command(g, "logs", "The end of what each attempt printed", "plumb trial logs 3",
               [](const Line& x) { return TrialLogs(x.context, x.trial); }));
  id(b.Command(g, "explain", "Why it waits, was retried, or ended", "plumb trial explain 3",
               [](const Line& x) { return ExplainTrial(x.context, x.trial); }));
  id(b.Command(g, "cancel", "Ends a trial", "plumb trial cancel 3",
               [](const Line& x) { return CancelTrial(x.context, x.trial); }));
  id(b.Command(g, "retry", "A new budget of attempts for what failed", "plumb trial retry 3",
               [](const Line& x) { return RetryTrial(x.context, x.trial); }));
  const auto records = [&](const std::string& name, const std::string& what,
                           const std::string& example) {
    CLI::App* to = b.Command(g, name, what, example, [name](const Line& x) {
      return ShowRecords(x.context, name, x.trial);
    });
    id(to);
    to->add_option("--stage", l.trial.stage, "Only what this stage recorded");
  };
  records("generate", "Texts that its probes generated, prompt by prompt",
          "plumb trial generate 3 --stage probes");
  records("topk", "The likeliest next tokens, raw and renormalised", "plumb trial topk 3 -o csv");
  records("attention", "Attention maps as shaded text, and their quantities",
          "plumb trial attention 3 | less");
  records("routes", "Paths through a routed model, and how often each layer was chosen",
          "plumb trial routes 3");
  records("painters", "Perplexity with the layers executed otherwise", "plumb trial painters 3");
  records("finetune", "Accuracy of each fine-tuning run", "plumb trial finetune 3");
  records("linearity", "How linear each layer is, and what to read it beside",
          "plumb trial linearity 3 -o csv");
  records("pruning", "What was left of it without some of its layers", "plumb trial pruning 3");
  records("tasks", "Scores of its tasks with known answers", "plumb trial tasks 3");
  records("probes", "What linear probes read from each layer, beside chance and control",
          "plumb trial probes 3 --stage linear_probe");
}

void AddStage(Builder& b, CLI::App* root, Line& l) {
  CLI::App* g = b.Group(root, "stage", "Stages of trials: list, retry, and add to what has ended",
                        "plumb stage run evaluate --where 'n_layers >= 4' --dry-run");
  CLI::App* c = b.Command(g, "list", "Stages of a sweep's trials",
                          "plumb stage list --sweep 1 --kind evaluate --state failed",
                          [](const Line& x) { return ListStages(x.context, x.stage); });
  c->add_option("--sweep", l.stage.sweep, "Sweep (the newest)");
  c->add_option("--trial", l.stage.trials, "Of these trials instead")->delimiter(',');
  c->add_option("--kind", l.stage.kind, "Only of this kind");
  c->add_option("--name", l.stage.name, "Only of this name");
  c->add_option("--state", l.stage.state, "Only in this state");
  c->add_option("--limit", l.stage.limit, "At most so many (500); 0: all");
  const auto one = [&l](CLI::App* to) {
    to->add_option("trial", l.stage.trial, "Trial")->required();
    to->add_option("name", l.stage.name, "Stage")->required();
  };
  one(b.Command(g, "show", "One stage: settings, state, attempts", "plumb stage show 3 glue",
                [](const Line& x) { return ShowStage(x.context, x.stage); }));
  one(b.Command(g, "retry", "A new budget of attempts for it alone, and what waited for it",
                "plumb stage retry 3 glue",
                [](const Line& x) { return RetryStage(x.context, x.stage); }));
  c = b.Command(g, "run", "Adds a stage to trials, finished or not; or runs it on a model's folder",
                "plumb stage run evaluate --where 'n_layers >= 4 and variant == sas' --settings "
                "'splits: [test]' --dry-run\n"
                "  plumb stage run linearity --checkpoint TinyLlama-1.1B --text book.txt",
                [](const Line& x) { return RunStage(x.context, x.stage); });
  c->add_option("kind", l.stage.kind, "Of plumb schema stages");
  c->add_option("--where", l.stage.where,
                "Which trials, in the words of a sweep file's where: fields, axes, variant, state, "
                "replicate, aa, objective");
  c->add_option("--sweep", l.stage.sweep, "Sweep (the newest)");
  c->add_option("--trial", l.stage.trials, "These trials instead")->delimiter(',');
  c->add_flag("--tune", l.stage.tune, "Also trials that tuned a nuisance value");
  c->add_option("--from", l.stage.from, "The stage that it follows (the first)");
  c->add_option("--name", l.stage.name, "What it is called (its kind)");
  c->add_option("--settings", l.stage.settings, "As in a sweep file: 'splits: [test], tokens: 1M'");
  c->add_option("--file", l.stage.file, "All of it from a file: {NAME: {from: PARENT, KIND: {…}}}");
  c->add_flag("--dry-run", l.stage.dry_run, "Only say which trials get it");
  c->add_option("--checkpoint", l.stage.checkpoint,
                "Of this folder instead, here and without a sweep: a Hugging Face model, or a "
                "checkpoint of Plumb");
  const char* on = "With --checkpoint";
  c->add_option("--text", l.stage.text, "Text to read: files, or folders of them")->group(on);
  c->add_option("--tokenizer", l.stage.tokenizer,
                "bytes, a SentencePiece model, a tokenizer.json of byte-level BPE, or llama2.c's "
                "tokenizer.bin (the folder's)")
      ->group(on);
  c->add_option("--data", l.stage.prepared,
                "Instead of --text: the folder of a corpus that plumb data prepare made")
      ->group(on);
  c->add_option("--data-root", l.stage.data_root, "Where corpora lie (plumb data prepare)")
      ->group(on);
  c->add_option("--seq-len", l.stage.seq_len,
                "Tokens of a text (as trained; of Hugging Face models at most 1024)")
      ->group(on);
  c->add_option("--out", l.stage.out, "Write all of the result there, as JSON")->group(on);
  c->add_option("--model", l.stage.model, "What the result calls the model (the folder's name)")
      ->group(on);
  c->add_option("--step", l.stage.step, "The step that the result says it is of (the checkpoint's)")
      ->group(on);
  c->add_option("--replicate", l.stage.replicate,
                "Which of several trainings of one model it is (0)")
      ->group(on);
  c->add_option("--threads", l.stage.threads, "Of the trainer (all cores)")->group(on);
  c->add_option("--device", l.stage.device, "cpu or cuda (as trained; else cpu)")->group(on);
  c->add_option("--trainer", l.stage.trainer, "plumb-trainer (beside this program)")->group(on);
}

void AddResults(Builder& b, CLI::App* root, Line& l) {
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

  c = b.Command(root, "compare",
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

  g = b.Group(root, "export", "Tables to files", "plumb export csv --what trials --out trials.csv");
  for (const char* format : {"csv", "jsonl"}) {
    c = b.Command(g, format, std::string("Rows as ") + format,
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
  c = b.Command(g, "sqlite", "Some sweeps as a database of its own, to hand on",
                "plumb export sqlite mine.db --sweep 3 --sweep 4",
                [](const Line& x) { return ExportDatabase(x.context, x.exporting); });
  c->add_option("file", l.exporting.out, "The file to make")->required();
  c->add_option("--sweep", l.exporting.sweeps, "Sweep (all)");

  g = b.Group(root, "import", "Results from elsewhere",
              "plumb import csv results.csv --sweep nanogpt --metric loss=val/loss");
  c = b.Command(g, "csv", "A table of results that Plumb did not train; they are marked as foreign",
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

void AddRest(Builder& b, CLI::App* root, Line& l) {
  CLI::App* g = b.Group(root, "data", "Corpora", "plumb data prepare python-docs-en");
  CLI::App* c = b.Command(g, "prepare", "Reads, splits and tokenizes a corpus",
                          "plumb data prepare python-docs-en --tokenizer bytes",
                          [](const Line& x) { return PrepareData(x.context, x.data); });
  c->add_option("corpus", l.data.corpus, "A bundled corpus, or a name of your own with --text")
      ->required();
  c->add_option("--tokenizer", l.data.tokenizer,
                "bytes, sentencepiece:SIZE, or a path: a SentencePiece model, a tokenizer.json of "
                "byte-level BPE, llama2.c's tokenizer.bin");
  c->add_option("--text", l.data.files, "Files and folders of text");
  c->add_option("--part", l.data.parts,
                "NAME=SOURCE, twice or more: a mixed corpus of named parts, each a file, a folder "
                "or a bundled corpus");
  c->add_option("--nanogpt", l.data.nanogpt, "A folder with nanoGPT's train.bin and val.bin");
  c->add_option("--vocab", l.data.vocab_size,
                "Vocabulary of --nanogpt's ids (0: the largest id + 1)");
  c->add_option("--split-seed", l.data.split_seed, "Another split of the same documents");
  c->add_flag("--disjoint", l.data.disjoint,
              "Cut out of train what tune, val and test have too; a bundled corpus is asked for by "
              "its name instead, as python-docs-en-disjoint");
  const auto root_option = [&l](CLI::App* to) {
    to->add_option("--data-root", l.data.data_root, "Where prepared corpora lie");
  };
  root_option(c);
  root_option(b.Command(g, "list", "Prepared corpora", "plumb data list",
                        [](const Line& x) { return ListData(x.context, x.data); }));
  c = b.Command(g, "show", "One corpus: splits, overlap, compressor",
                "plumb data show python-docs-en",
                [](const Line& x) { return ShowData(x.context, x.data); });
  c->add_option("corpus", l.data.corpus, "Its name")->required();
  c->add_option("--tokenizer", l.data.tokenizer, "bytes, sentencepiece:SIZE");
  root_option(c);

  c = b.Command(root, "doctor", "Checks this machine and says what to mend", "plumb doctor",
                [](const Line& x) { return RunDoctor(x.context, x.doctor); });
  c->add_option("--trainer", l.doctor.trainer, "plumb-trainer (beside this program)");
  c->add_option("--data-root", l.doctor.data_root, "Where prepared corpora lie");
  c = b.Command(root, "init", "Writes a commented sweep file", "plumb init sweep.yaml",
                [](const Line& x) { return InitSweepFile(x.init_file); });
  c->add_option("file", l.init_file, "File to make (sweep.yaml; -: standard output)");
  g = b.Group(root, "schema", "What files may say", "plumb schema trial --reference");
  c = b.Command(g, "trial", "JSON Schema of a trial's config",
                "plumb schema trial > trial.schema.json",
                [](const Line& x) { return PrintTrialSchema(x.reference, x.context); });
  c->add_flag("--reference", l.reference, "The fields as a table");
  b.Command(g, "sweep", "JSON Schema of a sweep file, for editors",
            "plumb schema sweep > sweep.schema.json",
            [](const Line&) { return PrintSweepSchema(); });
  b.Command(g, "stages", "Settings of the stages that follow a training", "plumb schema stages",
            [](const Line& x) { return PrintStageSettings(x.context); });
  c = b.Command(root, "completion", "A script that completes commands",
                "source <(plumb completion bash)",
                [](const Line& x) { return PrintCompletion(x.shell); });
  c->add_option("shell", l.shell, "bash");
  b.Command(root, "version", "This program's version", "plumb version",
            [](const Line& x) { return PrintVersion(x.context); });
}

void AddModelFiles(Builder& b, CLI::App* group, Line& l) {
  CLI::App* c = b.Command(group, "import", "A Hugging Face model to a checkpoint to start from",
                          "plumb model import TinyLlama-1.1B --out checkpoints/tinyllama",
                          [](const Line& x) { return ImportModel(x.context, x.model_files); });
  c->add_option("folder", l.model_files.from, "config.json, safetensors, tokenizer")->required();
  c->add_option("--out", l.model_files.out, "Folder for the checkpoint")->required();

  c = b.Command(group, "export", "A checkpoint to a folder that transformers loads",
                "plumb model export --trial 3 --out my-model",
                [](const Line& x) { return ExportModel(x.context, x.model_files); });
  c->add_option("checkpoint", l.model_files.from, "A folder step-… (or give --trial)");
  c->add_option("--trial", l.model_files.trial, "The trial's last checkpoint");
  c->add_option("--stage", l.model_files.stage, "Which of its stages (the first with one)");
  c->add_option("--out", l.model_files.out, "A new or empty folder")->required();
  c->add_option("--layout", l.model_files.layout,
                "llama, mistral, phi3, olmo2, gemma2, gpt2, gpt_neox, gptj (the first that fits)");
  c->add_option("--data-root", l.model_files.data_root, "Where prepared corpora lie");
}

void AddModel(Builder& b, CLI::App* root, Line& l) {
  CLI::App* g = b.Group(root, "model", "The catalogue of blocks, and models as files",
                        "plumb model show sas_p --shape d_model=64,n_layers=4");
  b.Command(g, "list", "Presets: what each is and where it comes from", "plumb model list",
            [](const Line& x) { return ListModels(x.context); });
  CLI::App* c = b.Command(g, "show", "A block drawn, its parameters and FLOPs by component",
                          "plumb model show sas_p --shape d_model=64,n_layers=4,seq_len=128",
                          [](const Line& x) { return ShowModel(x.context, x.model); });
  c->add_option("preset", l.model.preset, "One of plumb model list")->required();
  c->add_option("--shape", l.model.shape, "Fields: d_model=64,n_layers=4,vocab_size=32000,…");
  c = b.Command(g, "coordcheck",
                "Do activations and their change in training depend on width or depth?",
                "plumb model coordcheck --widths 32,64,128 --parametrization mup",
                [](const Line& x) { return CoordCheck(x.context, x.coordcheck); });
  c->add_option("preset", l.coordcheck.preset, "One of plumb model list (llama)");
  c->add_option("--widths", l.coordcheck.widths, "d_model of each run; the first is muP's base");
  c->add_option("--depths", l.coordcheck.depths, "n_layers of each run; the first is the base");
  c->add_option("--parametrization", l.coordcheck.parametrization, "sp, mup, mup_repo, completep");
  c->add_option("--shape", l.coordcheck.shape, "Other fields, as lr=0.01,head_dim=16");
  c->add_option("--seeds", l.coordcheck.seeds, "Runs of each size (3)");
  c->add_option("--steps", l.coordcheck.steps, "Updates before the look (10)");
  c->add_option("--svg", l.coordcheck.svg, "Write the figure too; two axes make two files");
  c->add_option("--trainer", l.coordcheck.trainer, "plumb-trainer (beside this program)");
  AddModelFiles(b, g, l);
}

void AddBlock(Builder& b, CLI::App* root, Line& l) {
  CLI::App* g = b.Group(root, "block", "Blocks from outside the tree", "plumb block new my_block");
  CLI::App* c = b.Command(g, "new", "Writes a folder with a block that works, to change",
                          "plumb block new my_block",
                          [](const Line& x) { return NewBlock(x.context, x.block); });
  c->add_option("name", l.block.name, "Lower-case letters, digits, _")->required();
  c->add_option("--dir", l.block.dir, "Where the folder goes (here)");
  c = b.Command(g, "test", "Builds it; checks counts, causality, gradients, arrays",
                "plumb block test my_block",
                [](const Line& x) { return TestBlock(x.context, x.block); });
  c->add_option("folder", l.block.name, "The block's folder")->required();
  c->add_option("--trainer", l.block.trainer, "plumb-trainer (beside this program)");
}

// The tags that `plumb sweep|trial tag` is to remove, out of the way of options.
std::vector<std::string> WithTags(std::vector<std::string> words) {
  const auto tag = std::find(words.begin(), words.end(), "tag");
  const bool is_tag =
      tag != words.begin() && tag != words.end() && (tag[-1] == "sweep" || tag[-1] == "trial");
  for (auto it = tag; is_tag && it != words.end(); ++it) {
    const std::string& w = *it;
    const bool dash = w.size() > 1 && w[0] == '-' && w[1] != '-';
    if (dash && w != "-o" && w != "-h") *it = std::string(1, kRemoveTag) + w.substr(1);
  }
  return words;
}

std::vector<std::string> CommandNames(const CLI::App* app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app->get_subcommands(nullptr)) names.push_back(sub->get_name());
  return names;
}

// A command's flags and those of the commands above it.
std::vector<std::string> FlagNames(const CLI::App* app) {
  std::vector<std::string> names;
  for (; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* o : app->get_options()) {
      if (o->get_group().empty()) continue;
      for (const std::string& name : o->get_lnames()) names.push_back("--" + name);
      for (const std::string& name : o->get_snames()) names.push_back("-" + name);
    }
  }
  return names;
}

const CLI::Option* FindFlag(const CLI::App* app, const std::string& name) {
  for (; app != nullptr; app = app->get_parent()) {
    if (const CLI::Option* o = app->get_option_no_throw(name)) return o;
  }
  return nullptr;
}

std::string Path(const CLI::App* app) {
  std::string path;
  for (; app != nullptr; app = app->get_parent())
    path = app->get_name() + (path.empty() ? "" : " " + path);
  return path;
}

const CLI::App* Child(const CLI::App* app, const std::string& name) {
  for (const CLI::App* sub : app->get_subcommands(nullptr)) {
    if (sub->get_name() == name) return sub;
  }
  return nullptr;
}

struct Walked {
  const CLI::App* app;
  std::string error;
};

// Follows the words to the command they name. CLI11 says only that a subcommand is required; this
// names the word that is wrong and the nearest right one.
Walked Walk(const CLI::App* root, const std::vector<std::string>& words) {
  const CLI::App* app = root;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--") break;
    if (word.size() > 1 && word[0] == '-') {
      const bool is_long = word[1] == '-';
      if (!is_long && (std::isdigit(static_cast<unsigned char>(word[1])) || word[1] == '.'))
        continue;
      const std::string name = is_long ? word.substr(0, word.find('=')) : word.substr(0, 2);
      const CLI::Option* o = FindFlag(app, name);
      if (o == nullptr) {
        const std::string near = Nearest(name, FlagNames(app));
        return {app, "unknown option " + name + " for " + Path(app) +
                         (near.empty() ? "" : "; did you mean " + near + "?") +
                         "\nsee: " + Path(app) + " --help"};
      }
      const bool inside = is_long ? word.find('=') != std::string::npos : word.size() > 2;
      if (o->get_expected_max() > 0 && !inside) ++i;  // its value
      continue;
    }
    const std::vector<std::string> names = CommandNames(app);
    if (names.empty()) continue;  // a positional
    if (const CLI::App* sub = Child(app, word)) {
      app = sub;
      continue;
    }
    const std::string near = Nearest(word, names);
    std::string list;
    for (const std::string& n : names) list += (list.empty() ? "" : ", ") + n;
    return {app, "unknown command \"" + word + "\" for " + Path(app) +
                     (near.empty() ? "; one of: " + list
                                   : "; did you mean " + Path(app) + " " + near + "?")};
  }
  return {app, ""};
}

int Complete(const CLI::App* root, std::vector<std::string> words) {
  const std::string current = words.empty() ? "" : words.back();
  if (!words.empty()) words.pop_back();
  const Walked at = Walk(root, words);
  if (!at.error.empty()) return kDone;
  std::vector<std::string> found =
      current.rfind('-', 0) == 0 ? FlagNames(at.app) : CommandNames(at.app);
  std::sort(found.begin(), found.end());
  for (const std::string& name : found) {
    if (name.rfind(current, 0) == 0) std::printf("%s\n", name.c_str());
  }
  return kDone;
}

}  // namespace

int RunCli(int argc, char** argv) {
  CLI::App root("Sweeps of transformer architectures: planned, trained, kept in one SQLite file.",
                "plumb");
  Line line;
  Builder builder(&root, &line);
  root.require_subcommand(1);
  CLI::Option* db = root.add_option("--db", line.context.db, "Database file (plumb.db)");
  root.add_option("--server", line.context.server, "HOST:PORT (else found through <db>.address)")
      ->envname("PLUMB_SERVER");
  root.add_option("-o,--output", line.context.format, "table, json, jsonl or csv; svg for figures");
  AddServe(builder, &root, line);
  AddSweep(builder, &root, line);
  AddTrial(builder, &root, line);
  AddStage(builder, &root, line);
  AddResults(builder, &root, line);
  AddModel(builder, &root, line);
  AddBlock(builder, &root, line);
  AddRest(builder, &root, line);

  std::vector<std::string> words = WithTags({argv + 1, argv + argc});
  if (!words.empty() && words[0] == "__complete")
    return Complete(&root, {words.begin() + 1, words.end()});
  if (words.empty()) {
    std::fputs(root.help().c_str(), stdout);
    return kBadUsage;
  }
  if (words.size() == 1 && words[0] == "--version") return PrintVersion(line.context);
  const Walked walked = Walk(&root, words);
  if (!walked.error.empty()) {
    std::fprintf(stderr, "plumb: %s\n", walked.error.c_str());
    return kBadUsage;
  }
  try {
    root.parse(std::vector<std::string>(words.rbegin(), words.rend()));  // as CLI11 wants them
  } catch (const CLI::CallForHelp&) {
    std::fputs(walked.app->help(walked.app == &root ? "" : Path(walked.app->get_parent())).c_str(),
               stdout);
    return kDone;
  } catch (const CLI::ParseError& e) {
    std::fprintf(stderr, "plumb: %s\nsee: %s --help\n", e.what(), Path(walked.app).c_str());
    return kBadUsage;
  }
  line.context.db_given = db->count() > 0;
  return line.run ? line.run() : kBadUsage;
}

}  // namespace plumb::app
