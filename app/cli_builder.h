// The command line while it is built: the options of all commands, and who adds which. For cli*.cc,
// which alone know CLI11.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>

#include "app/commands.h"

namespace plumb::app {

// Help that leads with an example.
class ExampleFirst;

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
  // Both must outlive the parse.
  Builder(CLI::App* root, Line* line);
  CLI::App* Group(CLI::App* parent, const std::string& name, const std::string& what,
                  const std::string& example);
  // `run` is what the command does; it returns the exit code.
  CLI::App* Command(CLI::App* parent, const std::string& name, const std::string& what,
                    const std::string& example, std::function<int(const Line&)> run);

 private:
  Line* line_;
  std::shared_ptr<ExampleFirst> help_;
};

// Each adds commands to the root, in the order in which help shows them.
void AddCluster(Builder& b, CLI::App* root, Line& l);  // up, server, worker, …
void AddSweeps(Builder& b, CLI::App* root, Line& l);   // sweep, trial, stage
void AddResults(Builder& b, CLI::App* root, Line& l);  // plot, compare, query, export, import
void AddModels(Builder& b, CLI::App* root, Line& l);   // model, block, data

}  // namespace plumb::app
