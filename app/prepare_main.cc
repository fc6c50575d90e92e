// plumb-prepare: `plumb data prepare` with SentencePiece, in a program without gRPC
// (app/prepare_corpus.h). Started by plumb alone.
#include <cstdio>
#include <exception>

#include "app/exit_code.h"
#include "app/prepare_corpus.h"

int main(int argc, char** argv) {
  plumb::app::DataArgs args;
  bool json = false;
  try {
    if (argc != 2) throw std::runtime_error("one argument expected");
    args = plumb::app::ParsePrepareRequest(argv[1], &json);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "plumb-prepare is started by `plumb data prepare` (%s)\n", e.what());
    return plumb::app::kBadUsage;
  }
  return plumb::app::PrepareCorpus(args, json);
}
