// The work of `plumb data prepare`, and how plumb hands it to plumb-prepare.
//
// Debian's SentencePiece carries a protobuf of its own, of another version than gRPC's; in one
// process the two take each other's symbols and abort. So where a tokenizer needs SentencePiece,
// plumb becomes plumb-prepare, which links no gRPC.
#pragma once

#include <string>

#include "app/commands.h"

namespace plumb::app {

// Prepares, tells the steps on stderr and the result on stdout; returns the exit code. `args` has
// its data_root.
int PrepareCorpus(const DataArgs& args, bool json);

// The same as one argument of plumb-prepare, and back; throws std::exception for what is none.
std::string PrepareRequest(const DataArgs& args, bool json);
DataArgs ParsePrepareRequest(const std::string& request, bool* json);

}  // namespace plumb::app
