// The commands: each takes what was parsed, prints, and returns the exit code (app/exit_code.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/context.h"

namespace plumb::app {

struct ServerArgs {
  std::string listen = "127.0.0.1:0", data_root;
  double lease_seconds = 60, report_seconds = 1;
  int parent = 0;
  std::string snapshot_dir, snapshot_every = "10m", metrics, log_format = "text";
  int64_t snapshot_keep = 24;
  double blobs_gib = 100;  // 0: none
  bool no_blobs = false;
  std::string file;  // of backup and restore
};
int RunServerCommand(const Context& context, const ServerArgs& args);
int ServerStatus(const Context& context);
int BackupDatabase(const Context& context, const std::string& dest);
int RestoreDatabase(const Context& context, const std::string& backup);
int CheckDatabase(const Context& context);
int MigrateDatabase(const Context& context);

struct EventArgs {
  int64_t sweep = 0, trial = 0, limit = 100;
  std::string kind, worker, since;
};
int ShowEvents(const Context& context, const EventArgs& args);

struct TopArgs {
  double every = 2;   // seconds
  int64_t times = 0;  // 0: until Ctrl-C
};
int RunTop(const Context& context, const TopArgs& args);

struct WorkerArgs {
  std::string name, dir, data_root, trainer;
  int slots = 0, exit_when_idle = 0, parent = 0;
  std::vector<std::string> labels, trainers;  // trainers: NAME=PATH
  bool allow_commands = false;
  bool shared_checkpoints = false;
  std::string gang_address;
  std::string gpu;        // "", a number, or "all": a worker for each
  double memory_gib = 0;  // 0: nine tenths of the devices'
  double corpora_gib = 50;
  std::string until;  // "", "90m" from now, or seconds since 1970 with an @ before
};
int RunWorkerCommand(const Context& context, const WorkerArgs& args);
int ListWorkers(const Context& context);
int ExplainWorker(const Context& context, const std::string& name);
int DrainWorker(const Context& context, const std::string& name, bool drain);

struct UserArgs {
  std::string name;
  double weight = 0;       // 0: as it is
  int64_t max_slots = -1;  // -1: as it is
};
int ListUsers(const Context& context);
int SetUser(const Context& context, const UserArgs& args);

struct UpArgs {
  std::string dir, data_root, trainer, listen = "127.0.0.1:0";
  std::string suggester;              // "": beside this program; "none": there is to be none
  std::vector<std::string> trainers;  // NAME=PATH
  bool allow_commands = false;
  int slots = 0;
};
int RunUp(const Context& context, const UpArgs& args);

struct DemoArgs {
  std::string dir = "plumb-data", sweep, data_root, trainer;
  int slots = 2;
};
int RunDemo(const Context& context, const DemoArgs& args);

enum class FailOn { kAny, kAll, kNever };
struct ModelArgs {
  std::string preset, shape;
};
int ListModels(const Context& context);
int ShowModel(const Context& context, const ModelArgs& args);

struct CoordCheckArgs {
  std::string preset = "llama", shape, widths, depths, parametrization, svg, trainer;
  int64_t seeds = 3, steps = 10;
};
int CoordCheck(const Context& context, const CoordCheckArgs& args);

struct SimArgs {
  int64_t workers = 32, slots = 0, trials = 1000, faults = 40, seed = 1, seeds = 1,
          max_failures = 3;
  double hours = 24, minutes = 0, lease_seconds = 0;
  std::string svg;
};
int RunSim(const Context& context, const SimArgs& args);

struct SweepArgs {
  std::string file, data_root, fail_on = "any";
  int64_t id = 0;  // 0: the newest
  bool watch = false;
  int64_t priority = 0;
  double timeout = 0;           // seconds to wait; 0: no limit
  double flops_per_second = 0;  // for plan
  std::string assume_tokens;    // for plan: "700M", "ja=500M,en=500M"
  bool calibrate = false, draw = false;
  double calibrate_seconds = 1;  // of each shape
  int64_t calibrate_shapes = 16;
  double memory_gib = 0;  // of the device to fit on; 0: of the largest worker
  std::string plane;      // an SVG file
  std::string trainer;
  std::string tag;  // for list
};
int PlanSweepCommand(const Context& context, const SweepArgs& args);
int SubmitSweep(const Context& context, const SweepArgs& args);
struct WhatIfArgs {
  std::string file, data_root, assume_tokens, svg, curves_from;
  std::vector<std::string> searches;
  int64_t sweep = 0;  // of curves_from; 0: the newest
  int64_t workers = 4, slots = 2, seeds = 20, seed = 1;
  std::vector<double> speeds;
  double flops_per_second = 0;  // of a slot; 0: as measured, or assumed
  double level = 0.95;
  std::string share = "1/3";  // of the candidates, for random
  double crossing = 0.5, spread = 0.03, seed_sd = 0.01, noise = 0.005;
};
int SimulateSweep(const Context& context, const WhatIfArgs& args);
int ListSweeps(const Context& context, const SweepArgs& args);
int ShowSweep(const Context& context, const SweepArgs& args);
int WatchSweepCommand(const Context& context, const SweepArgs& args);
int CancelSweep(const Context& context, const SweepArgs& args);
int PauseSweep(const Context& context, const SweepArgs& args, bool pause);
int PrioritiseSweep(const Context& context, const SweepArgs& args);

// What changes a sweep that is there, and what is made of one.
struct EditArgs {
  int64_t id = 0;  // 0: the newest, of retry and fork
  std::string file, reason, request_id;
  std::vector<std::string> axes, drops, sets;
  int64_t replicates = 0;
  bool dry_run = false;
  std::vector<std::string> states, cells;  // of retry
  std::string out, name;                   // of fork
  bool submit = false;
  std::string a, b, data_root, assume_tokens;  // of diff
};
int EditSweepCommand(const Context& context, const EditArgs& args, bool may_remove);
int RetrySweepCommand(const Context& context, const EditArgs& args);
int ForkSweepCommand(const Context& context, const EditArgs& args);
int DiffSweepsCommand(const Context& context, const EditArgs& args);

// "-old" after `tag` comes as kRemoveTag + "old", since a dash begins options.
inline constexpr char kRemoveTag = '\x01';
struct AnnotateArgs {
  int64_t id = 0;
  bool of_trial = false, clear = false;
  std::vector<std::string> words;
  std::string text;
};
int TagCommand(const Context& context, const AnnotateArgs& args);
int NoteCommand(const Context& context, const AnnotateArgs& args);

struct TrialArgs {
  int64_t sweep = 0, id = 0;
  std::string state, stage, tag;
  int64_t limit = 250;
  bool dot = false;
};
int ListTrials(const Context& context, const TrialArgs& args);
int ShowTrial(const Context& context, const TrialArgs& args);
int TrialLineage(const Context& context, const TrialArgs& args);
int TrialLogs(const Context& context, const TrialArgs& args);
int ExplainTrial(const Context& context, const TrialArgs& args);
int CancelTrial(const Context& context, const TrialArgs& args);
int RetryTrial(const Context& context, const TrialArgs& args);
// `command`: of app/records.h's FindRecordView.
int ShowRecords(const Context& context, const std::string& command, const TrialArgs& args);

struct StageArgs {
  int64_t sweep = 0, trial = 0;
  std::vector<int64_t> trials;
  std::string kind, name, from, settings, file, where, state;
  int64_t limit = 500;
  bool tune = false, dry_run = false;
  // Of run, without a server: a model's folder and what it reads.
  std::string checkpoint, tokenizer, prepared, data_root, out, trainer, device, model;
  std::vector<std::string> text;
  int64_t seq_len = 0, threads = 0, replicate = 0, step = -1;
};
int ListStages(const Context& context, const StageArgs& args);
int ShowStage(const Context& context, const StageArgs& args);
int RetryStage(const Context& context, const StageArgs& args);
int RunStage(const Context& context, const StageArgs& args);

struct PlotArgs {
  int64_t sweep = 0;
  std::string series, x = "steps", rows, cols, axis, by, out, of, stage;
  bool linear = false;
};
int PlotLinearity(const Context& context, const PlotArgs& args);
int PlotPruning(const Context& context, const PlotArgs& args);
int PlotProbes(const Context& context, const PlotArgs& args);
int PlotGrid(const Context& context, const PlotArgs& args);
int PlotCurves(const Context& context, const PlotArgs& args);
int PlotFront(const Context& context, const PlotArgs& args);
int PlotProfile(const Context& context, const PlotArgs& args);

struct CompareArgs {
  int64_t sweep = 0;  // 0: the newest
  std::string by, baseline, metric, at, plot;
  double level = 0.95;
};
int RunCompare(const Context& context, const CompareArgs& args);

struct QueryArgs {
  std::string sql;
  double deadline = 5;
  int64_t max_rows = 10000;
};
int RunQuery(const Context& context, const QueryArgs& args);

struct ExportArgs {
  std::string format, what = "trials", out;
  int64_t sweep = 0;            // 0: all
  std::vector<int64_t> sweeps;  // of sqlite; none: all
};
int RunExport(const Context& context, const ExportArgs& args);
int ExportDatabase(const Context& context, const ExportArgs& args);

struct ImportArgs {
  std::string file, sweep_name, objective;
  std::vector<std::string> files;  // of stages
  std::vector<std::string> axes, metrics, columns, ignored, sets;
  bool tabs = false;
  std::vector<int64_t> sweeps;  // of a database; none: all
};
int ImportCsvCommand(const Context& context, const ImportArgs& args);
int ImportStagesCommand(const Context& context, const ImportArgs& args);
int ImportDatabaseCommand(const Context& context, const ImportArgs& args);

struct RemoveArgs {
  std::vector<int64_t> ids;
  std::string older_than;
  bool keep_tagged = false, really = false;
};
int RemoveSweepsCommand(const Context& context, const RemoveArgs& args);
int RemoveTrialsCommand(const Context& context, const RemoveArgs& args);

struct DoctorArgs {
  std::string trainer, data_root;
};
int RunDoctor(const Context& context, const DoctorArgs& args);

struct DataArgs {
  std::string corpus, tokenizer = "bytes", data_root, nanogpt;
  int64_t vocab_size = 0, split_seed = 0;
  std::vector<std::string> files, parts;
  bool disjoint = false;
  std::vector<double> shares;  // of the splits; none: as data::PrepareOptions has them
};
int PrepareData(const Context& context, const DataArgs& args);
int ListData(const Context& context, const DataArgs& args);
int ShowData(const Context& context, const DataArgs& args);

struct ModelFilesArgs {
  std::string from, out, layout, stage, data_root;
  int64_t trial = 0;
};
int ImportModel(const Context& context, const ModelFilesArgs& args);
int ExportModel(const Context& context, const ModelFilesArgs& args);

struct BlockArgs {
  std::string name, dir = ".", trainer;
};
int NewBlock(const Context& context, const BlockArgs& args);
int TestBlock(const Context& context, const BlockArgs& args);

int PrintTrialSchema(bool reference, const Context& context);
int PrintSweepSchema();
int PrintStageSettings(const Context& context);
int PrintCompletion(const std::string& shell);
int PrintVersion(const Context& context);
int InitSweepFile(const std::string& file);

}  // namespace plumb::app
