// The life of rank 1, 2, … of a trial: started by rank 0 (trainer/ranks/gang.h), with the row's
// weights and moments, doing as it is told over its channel. It writes no file.
#pragma once

#include <string>

#include "trainer/arena.h"

namespace plumb::trainer {

// plumb-trainer __rank CHANNEL …: what a trainer's main() gives to RankMain().
inline constexpr char kRankArgument[] = "__rank";
// In the environment of a rank that is to go to rank 0 on another machine.
inline constexpr char kRankSecret[] = "PLUMB_RANK_SECRET";
// Exit codes beside 0 (rank 0 is gone, or has closed the channel) and 1.
inline constexpr int kRankLost = 3, kRankOutOfMemory = 4;

// `argv[2]` is the channel's descriptor, or tcp:HOST:PORT where rank 0 waits; then `argv[5]` is
// what this machine has for it (trainer/ranks/member.cc). Returns the exit code, once rank 0 is
// gone or something went wrong, which it has then been told.
int RankMain(int argc, char** argv);

// Of the weights of row k, to compare ranks by; not of cryptographic strength.
std::string WeightsDigest(Arena& arena, int64_t k);

}  // namespace plumb::trainer
