// plumb sweep|trial tag, plumb sweep|trial note.
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/commands.h"
#include "app/exit_code.h"
#include "app/results.h"
#include "app/submit.h"
#include "app/writer.h"

namespace plumb::app {
namespace {

using Stub = v1::SweepService::Stub;

int Say(const Context& context, const AnnotateArgs& args, v1::AnnotateRequest request) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  if (args.of_trial) {
    request.set_trial_id(args.id);
  } else {
    request.set_sweep_id(args.id);
  }
  request.set_user(ThisUser());
  absl::StatusOr<Writer> writer = Writer::Open(context);
  if (!writer.ok()) return Finish(writer.status());
  auto response = writer->client().Call(&Stub::Annotate, request, std::chrono::seconds(60));
  if (!response.ok()) return Finish(response.status());
  return Show({.columns = {{args.of_trial ? "trial" : "sweep"}, {"tags"}, {"note"}},
               .rows = {{args.id, absl::StrJoin(response->tags(), ","), response->note()}}},
              context);
}

}  // namespace

int TagCommand(const Context& context, const AnnotateArgs& args) {
  v1::AnnotateRequest request;
  for (const std::string& word : args.words) {
    const char first = word.empty() ? ' ' : word[0];
    if (first == '-' || first == kRemoveTag) {
      request.add_remove_tags(word.substr(1));
    } else {
      request.add_add_tags(first == '+' ? word.substr(1) : word);
    }
  }
  return Say(context, args, std::move(request));
}

int NoteCommand(const Context& context, const AnnotateArgs& args) {
  v1::AnnotateRequest request;
  if (args.clear) {
    request.set_note("");
  } else if (!args.text.empty()) {
    request.set_note(args.text);
  }
  return Say(context, args, std::move(request));
}

}  // namespace plumb::app
