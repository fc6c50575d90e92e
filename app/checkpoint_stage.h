// plumb stage run KIND --checkpoint DIR: a stage on a model's folder, without a sweep.
#pragma once

#include "app/commands.h"
#include "app/context.h"
#include "sweeps/read_stages.h"

namespace plumb::app {

// "format" of what it writes as JSON (docs/how-to/stages-on-a-model.md).
inline constexpr char kStageResultFormat[] = "plumb stage result 1";

// Prints the result as the context says, and writes it to args.out; returns the exit code. Nothing
// else is left.
int RunStageOnCheckpoint(const Context& context, const StageArgs& args,
                         const sweeps::LoneStage& stage);

}  // namespace plumb::app
