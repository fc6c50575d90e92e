#include "app/cli.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "app/cli_builder.h"
#include "app/exit_code.h"
#include "app/nearest.h"

namespace plumb::app {

// Help that leads with an example.
class ExampleFirst : public CLI::Formatter {
 public:
  std::map<const CLI::App*, std::string> examples;
  std::string make_description(const CLI::App* app) const override {
    const auto it = examples.find(app);
    return (it == examples.end() ? "" : "Example:\n  " + it->second + "\n\n") +
           app->get_description() + "\n\n";
  }
};

Builder::Builder(CLI::App* root, Line* line)
    : line_(line), help_(std::make_shared<ExampleFirst>()) {
  help_->column_width(34);
  root->formatter(help_);
  help_->examples[root] = "plumb demo";
}

CLI::App* Builder::Group(CLI::App* parent, const std::string& name, const std::string& what,
                         const std::string& example) {
  CLI::App* app = parent->add_subcommand(name, what);
  app->fallthrough();
  app->require_subcommand(1);
  help_->examples[app] = example;
  return app;
}

CLI::App* Builder::Command(CLI::App* parent, const std::string& name, const std::string& what,
                           const std::string& example, std::function<int(const Line&)> run) {
  CLI::App* app = parent->add_subcommand(name, what);
  app->fallthrough();
  help_->examples[app] = example;
  app->callback(
      [line = line_, run = std::move(run)] { line->run = [line, run] { return run(*line); }; });
  return app;
}

namespace {

// Of this program itself, and what files may say.
void AddProgram(Builder& b, CLI::App* root, Line& l) {
  CLI::App* c =
      b.Command(root, "doctor", "Checks this machine and says what to mend", "plumb doctor",
                [](const Line& x) { return RunDoctor(x.context, x.doctor); });
  c->add_option("--trainer", l.doctor.trainer, "plumb-trainer (beside this program)");
  c->add_option("--data-root", l.doctor.data_root, "Where prepared corpora lie");
  c = b.Command(root, "init", "Writes a commented sweep file", "plumb init sweep.yaml",
                [](const Line& x) { return InitSweepFile(x.init_file); });
  c->add_option("file", l.init_file, "File to make (sweep.yaml; -: standard output)");
  CLI::App* g = b.Group(root, "schema", "What files may say", "plumb schema trial --reference");
  c = b.Command(g, "trial", "JSON Schema of a trial's config",
                "plumb schema trial > trial.schema.json",
                [](const Line& x) { return PrintTrialSchema(x.reference, x.context); });
  c->add_flag("--reference", l.reference, "The fields as a table");
  b.Command(g, "sweep", "JSON Schema of a sweep file, for editors",
            "plumb schema sweep > sweep.schema.json",
            [](const Line&) { return PrintSweepSchema(); });
  b.Command(g, "stages", "Settings of the stages that follow a training", "plumb schema stages",
            [](const Line& x) { return PrintStageSettings(x.context); });
  c = b.Command(root, "completion", "A script that completes commands",
                "source <(plumb completion bash)",
                [](const Line& x) { return PrintCompletion(x.shell); });
  c->add_option("shell", l.shell, "bash");
  b.Command(root, "version", "This program's version", "plumb version",
            [](const Line& x) { return PrintVersion(x.context); });
}

// The tags that `plumb sweep|trial tag` is to remove, out of the way of options.
std::vector<std::string> WithTags(std::vector<std::string> words) {
  const auto tag = std::find(words.begin(), words.end(), "tag");
  const bool is_tag =
      tag != words.begin() && tag != words.end() && (tag[-1] == "sweep" || tag[-1] == "trial");
  for (auto it = tag; is_tag && it != words.end(); ++it) {
    const std::string& w = *it;
    const bool dash = w.size() > 1 && w[0] == '-' && w[1] != '-';
    if (dash && w != "-o" && w != "-h") *it = std::string(1, kRemoveTag) + w.substr(1);
  }
  return words;
}

std::vector<std::string> CommandNames(const CLI::App* app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app->get_subcommands(nullptr)) names.push_back(sub->get_name());
  return names;
}

// A command's flags and those of the commands above it.
std::vector<std::string> FlagNames(const CLI::App* app) {
  std::vector<std::string> names;
  for (; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* o : app->get_options()) {
      if (o->get_group().empty()) continue;
      for (const std::string& name : o->get_lnames()) names.push_back("--" + name);
      for (const std::string& name : o->get_snames()) names.push_back("-" + name);
    }
  }
  return names;
}

const CLI::Option* FindFlag(const CLI::App* app, const std::string& name) {
  for (; app != nullptr; app = app->get_parent()) {
    if (const CLI::Option* o = app->get_option_no_throw(name)) return o;
  }
  return nullptr;
}

std::string Path(const CLI::App* app) {
  std::string path;
  for (; app != nullptr; app = app->get_parent())
    path = app->get_name() + (path.empty() ? "" : " " + path);
  return path;
}

const CLI::App* Child(const CLI::App* app, const std::string& name) {
  for (const CLI::App* sub : app->get_subcommands(nullptr)) {
    if (sub->get_name() == name) return sub;
  }
  return nullptr;
}

struct Walked {
  const CLI::App* app;
  std::string error;
};

// Follows the words to the command they name. CLI11 says only that a subcommand is required; this
// names the word that is wrong and the nearest right one.
Walked Walk(const CLI::App* root, const std::vector<std::string>& words) {
  const CLI::App* app = root;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--") break;
    if (word.size() > 1 && word[0] == '-') {
      const bool is_long = word[1] == '-';
      if (!is_long && (std::isdigit(static_cast<unsigned char>(word[1])) || word[1] == '.'))
        continue;
      const std::string name = is_long ? word.substr(0, word.find('=')) : word.substr(0, 2);
      const CLI::Option* o = FindFlag(app, name);
      if (o == nullptr) {
        const std::string near = Nearest(name, FlagNames(app));
        return {app, "unknown option " + name + " for " + Path(app) +
                         (near.empty() ? "" : "; did you mean " + near + "?") +
                         "\nsee: " + Path(app) + " --help"};
      }
      const bool inside = is_long ? word.find('=') != std::string::npos : word.size() > 2;
      if (o->get_expected_max() > 0 && !inside) ++i;  // its value
      continue;
    }
    const std::vector<std::string> names = CommandNames(app);
    if (names.empty()) continue;  // a positional
    if (const CLI::App* sub = Child(app, word)) {
      app = sub;
      continue;
    }
    const std::string near = Nearest(word, names);
    std::string list;
    for (const std::string& n : names) list += (list.empty() ? "" : ", ") + n;
    return {app, "unknown command \"" + word + "\" for " + Path(app) +
                     (near.empty() ? "; one of: " + list
                                   : "; did you mean " + Path(app) + " " + near + "?")};
  }
  return {app, ""};
}

int Complete(const CLI::App* root, std::vector<std::string> words) {
  const std::string current = words.empty() ? "" : words.back();
  if (!words.empty()) words.pop_back();
  const Walked at = Walk(root, words);
  if (!at.error.empty()) return kDone;
  std::vector<std::string> found =
      current.rfind('-', 0) == 0 ? FlagNames(at.app) : CommandNames(at.app);
  std::sort(found.begin(), found.end());
  for (const std::string& name : found) {
    if (name.rfind(current, 0) == 0) std::printf("%s\n", name.c_str());
  }
  return kDone;
}

}  // namespace

int RunCli(int argc, char** argv) {
  CLI::App root("Sweeps of transformer architectures: planned, trained, kept in one SQLite file.",
                "plumb");
  Line line;
  Builder builder(&root, &line);
  root.require_subcommand(1);
  CLI::Option* db = root.add_option("--db", line.context.db, "Database file (plumb.db)");
  root.add_option("--server", line.context.server, "HOST:PORT (else found through <db>.address)")
      ->envname("PLUMB_SERVER");
  root.add_option("-o,--output", line.context.format, "table, json, jsonl or csv; svg for figures");
  AddCluster(builder, &root, line);
  AddSweeps(builder, &root, line);
  AddResults(builder, &root, line);
  AddModels(builder, &root, line);
  AddProgram(builder, &root, line);

  std::vector<std::string> words = WithTags({argv + 1, argv + argc});
  if (!words.empty() && words[0] == "__complete")
    return Complete(&root, {words.begin() + 1, words.end()});
  if (words.empty()) {
    std::fputs(root.help().c_str(), stdout);
    return kBadUsage;
  }
  if (words.size() == 1 && words[0] == "--version") return PrintVersion(line.context);
  const Walked walked = Walk(&root, words);
  if (!walked.error.empty()) {
    std::fprintf(stderr, "plumb: %s\n", walked.error.c_str());
    return kBadUsage;
  }
  try {
    root.parse(std::vector<std::string>(words.rbegin(), words.rend()));  // as CLI11 wants them
  } catch (const CLI::CallForHelp&) {
    std::fputs(walked.app->help(walked.app == &root ? "" : Path(walked.app->get_parent())).c_str(),
               stdout);
    return kDone;
  } catch (const CLI::ParseError& e) {
    std::fprintf(stderr, "plumb: %s\nsee: %s --help\n", e.what(), Path(walked.app).c_str());
    return kBadUsage;
  }
  line.context.db_given = db->count() > 0;
  return line.run ? line.run() : kBadUsage;
}

}  // namespace plumb::app
