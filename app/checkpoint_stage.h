// plumb stage run KIND --checkpoint DIR: a stage on a model's folder, without a sweep.
#pragma once

#include "app/commands.h"
#include "app/context.h"
#include "sweeps/read_stages.h"

namespace plumb::app {

// Prints the result as the context says, and writes it to args.out; returns the exit code. Nothing
// else is left.
int RunStageOnCheckpoint(const Context& context, const StageArgs& args,
                         const sweeps::LoneStage& stage);

}  // namespace plumb::app
