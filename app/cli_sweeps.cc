// plumb sweep, trial and stage.
#include "app/cli_builder.h"

namespace plumb::app {
namespace {

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

}  // namespace

void AddSweeps(Builder& b, CLI::App* root, Line& l) {
  AddSweep(b, root, l);
  AddTrial(b, root, l);
  AddStage(b, root, l);
}

}  // namespace plumb::app
