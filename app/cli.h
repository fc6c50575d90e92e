// The command line: cli*.cc, the only place that knows CLI11.
#pragma once

namespace plumb::app {

int RunCli(int argc, char** argv);  // returns the exit code

}  // namespace plumb::app
