// plumb up, sim, demo, server, events, top, worker and user.
#include "app/cli_builder.h"

namespace plumb::app {
namespace {

void AddUp(Builder& b, CLI::App* root, Line& l) {
  CLI::App* c =
      b.Command(root, "up", "Server and worker on this machine, until Ctrl-C",
                "plumb up --db plumb.db", [](const Line& x) { return RunUp(x.context, x.up); });
  c->add_option("--slots", l.up.slots, "Trials at once (0: one per core)");
  c->add_option("--dir", l.up.dir, "The worker's folder (\"worker\" beside the database)");
  c->add_option("--data-root", l.up.data_root, "Where prepared corpora lie");
  c->add_option("--trainer", l.up.trainers,
                "NAME=PATH: a trainer of yours (external: {trainer: NAME}); a PATH alone: "
                "plumb-trainer (beside this program)");
  c->add_flag("--allow-commands", l.up.allow_commands,
              "Sweeps may have it run commands as this user (external: {command: …})");
  c->add_option("--listen", l.up.listen, "Loopback address; port 0: any free one");
  c->add_option("--suggester", l.up.suggester,
                "Who chooses the points of searches (plumb-suggest beside this program); none: "
                "nobody from here");

  c = b.Command(root, "sim",
                "What would this cluster do? Coordinator and workers under virtual time",
                "plumb sim --workers 8 --slots 4 --trials 500 --minutes 30 --faults 20",
                [](const Line& x) { return RunSim(x.context, x.sim); });
  c->add_option("--workers", l.sim.workers, "Machines (32)");
  c->add_option("--slots", l.sim.slots, "Trials at once on each (0: drawn, 1 to 8)");
  c->add_option("--trials", l.sim.trials,
                "In sweeps that come over the first 70 % of the time (1000)");
  c->add_option("--minutes", l.sim.minutes, "A trial's mean time (0: half the cluster's)");
  c->add_option("--hours", l.sim.hours, "Until when faults happen (24)");
  c->add_option("--faults", l.sim.faults, "How many, of a mix that the seed draws (40)");
  c->add_option("--lease", l.sim.lease_seconds,
                "Seconds of silence until a worker is lost (0: drawn)");
  c->add_option("--max-failures", l.sim.max_failures, "Without progress, until a trial fails (3)");
  c->add_option("--seed", l.sim.seed, "Names machines, trials and faults (1)");
  c->add_option("--seeds", l.sim.seeds, "As many from --seed on (1)");
  c->add_option("--svg", l.sim.svg, "Draw slots at work and stages waiting, of the first seed");

  c = b.Command(root, "demo", "A depth x width sweep on real text, from nothing to the map",
                "plumb demo", [](const Line& x) { return RunDemo(x.context, x.demo); });
  c->add_option("--dir", l.demo.dir, "Folder for database, figures and checkpoints (plumb-data)");
  c->add_option("--sweep", l.demo.sweep, "Another sweep file than the bundled one");
  c->add_option("--slots", l.demo.slots, "Trials at once");
  c->add_option("--data-root", l.demo.data_root, "Where prepared corpora lie");
  c->add_option("--trainer", l.demo.trainer, "plumb-trainer (beside this program)");
}

void AddServer(Builder& b, CLI::App* root, Line& l) {
  CLI::App* c = b.Command(root, "server", "The coordinator alone", "plumb server --db plumb.db",
                          [](const Line& x) { return RunServerCommand(x.context, x.server); });
  c->add_option("--listen", l.server.listen, "Loopback address; port 0: any free one");
  c->add_option("--data-root", l.server.data_root, "Where prepared corpora lie");
  c->add_option("--lease", l.server.lease_seconds,
                "Seconds of silence after which a worker's trials are lost");
  c->add_option("--report-interval", l.server.report_seconds, "Seconds between a worker's reports");
  c->add_option("--snapshot-dir", l.server.snapshot_dir,
                "Verified copies of the database go to this folder, again and again");
  c->add_option("--snapshot-every", l.server.snapshot_every, "Time between them (10m)");
  c->add_option("--snapshot-keep", l.server.snapshot_keep, "As many stay (24)");
  c->add_option("--blobs-gib", l.server.blobs_gib,
                "Room beside the database for checkpoints that workers send (100; 0: none)");
  c->add_flag("--no-blobs", l.server.no_blobs, "Workers keep their checkpoints to themselves");
  c->add_option("--metrics", l.server.metrics,
                "127.0.0.1:PORT serves /metrics (Prometheus) and /healthz");
  c->add_option("--log-format", l.server.log_format,
                "text, or json: a line for each message and each committed event, with its ids")
      ->check(CLI::IsMember({"text", "json"}));
  c->add_option("--parent", l.server.parent)->group("");
  CLI::App* server = c;
  // CLI11 calls a group's callback after that of its command: alone, it is the server.
  server->callback([server, &l] {
    if (server->get_subcommands().empty())
      l.run = [&l] { return RunServerCommand(l.context, l.server); };
  });
  b.Command(server, "status", "What the server does and has done", "plumb server status",
            [](const Line& x) { return ServerStatus(x.context); });
  c = b.Command(server, "backup", "A verified copy, also while the server runs",
                "plumb server backup backup.db --db plumb.db",
                [](const Line& x) { return BackupDatabase(x.context, x.server.file); });
  c->add_option("file", l.server.file, "The copy to make")->required();
  c = b.Command(server, "restore", "Puts a copy back in the place of the database",
                "plumb server restore backup.db --db plumb.db",
                [](const Line& x) { return RestoreDatabase(x.context, x.server.file); });
  c->add_option("file", l.server.file, "The copy")->required();
  c = b.Command(server, "retain", "Removes sweeps that ended long ago, trial by trial",
                "plumb server retain --older-than 90d --keep-tagged --yes",
                [](const Line& x) { return RemoveSweepsCommand(x.context, x.remove); });
  c->add_option("--older-than", l.remove.older_than, "Since their end, as 90d or 36h")->required();
  c->add_flag("--keep-tagged", l.remove.keep_tagged,
              "Sweeps with any tag stay (those tagged pinned always do)");
  c->add_flag("--yes", l.remove.really, "For good; else it is only said what would go");
  b.Command(server, "check", "Reads all of a database: pages, references, chain of events",
            "plumb server check --db plumb.db",
            [](const Line& x) { return CheckDatabase(x.context); });
  b.Command(server, "migrate", "Brings a database up to this program, after a verified copy",
            "plumb server migrate --db plumb.db",
            [](const Line& x) { return MigrateDatabase(x.context); });
}

void AddWatching(Builder& b, CLI::App* root, Line& l) {
  CLI::App* c = b.Command(root, "events", "What happened: submits, grants, ends, losses, drains",
                          "plumb events --sweep 1 --kind 'worker_*' --since 2h",
                          [](const Line& x) { return ShowEvents(x.context, x.events); });
  c->add_option("--sweep", l.events.sweep, "Only of this sweep and its trials");
  c->add_option("--trial", l.events.trial, "Only of this trial");
  c->add_option("--kind", l.events.kind, "Only of this kind; * and ? stand for anything");
  c->add_option("--worker", l.events.worker, "Only of this worker, by name");
  c->add_option("--since", l.events.since, "Only the last 90s, 15m, 2h, …");
  c->add_option("--limit", l.events.limit, "The newest so many (100)");

  c = b.Command(root, "top", "The cluster, again and again, until Ctrl-C", "plumb top",
                [](const Line& x) { return RunTop(x.context, x.top); });
  c->add_option("--every", l.top.every, "Seconds between two looks (2)");
  c->add_option("--times", l.top.times, "Looks; 0: until Ctrl-C");
}

void AddWorker(Builder& b, CLI::App* root, Line& l) {
  CLI::App* g =
      b.Group(root, "worker", "Machines that train", "plumb worker start --server 127.0.0.1:4242");
  CLI::App* c = b.Command(g, "start", "Runs a worker here until Ctrl-C",
                          "plumb worker start --db plumb.db --slots 2",
                          [](const Line& x) { return RunWorkerCommand(x.context, x.worker); });
  c->add_option("--name", l.worker.name, "Its name (the host's)");
  c->add_option("--dir", l.worker.dir, "Its folder (\"worker\" beside the database)");
  c->add_option("--slots", l.worker.slots, "Trials at once (0: one per core)");
  c->add_option("--data-root", l.worker.data_root, "Where prepared corpora lie");
  c->add_option("--trainer", l.worker.trainers,
                "NAME=PATH: a trainer of yours (external: {trainer: NAME}); a PATH alone: "
                "plumb-trainer (beside this program)");
  c->add_flag("--allow-commands", l.worker.allow_commands,
              "Sweeps may have it run commands as this user (external: {command: …})");
  c->add_option("--label", l.worker.labels, "A word that sweeps may ask for (resources: labels)");
  c->add_option("--memory-gib", l.worker.memory_gib,
                "Memory for trials (0: nine tenths of what the devices have)");
  c->add_option("--gpu", l.worker.gpu,
                "The GPU it has to itself, from 0; all: a worker for each GPU of this machine");
  c->add_option("--gang-address", l.worker.gang_address,
                "Where other machines reach this one: it then takes part in trials whose ranks "
                "fit no one worker, and listens there while they meet");
  c->add_option("--corpora-gib", l.worker.corpora_gib,
                "What corpora fetched from the server may take in its folder (50)");
  c->add_flag("--shared-checkpoints", l.worker.shared_checkpoints,
              "All workers see its folder: checkpoints are not sent to the server");
  c->add_option("--until", l.worker.until,
                "When this machine is taken away, as 90m from now or @UNIX_SECONDS: trials "
                "checkpoint and leave before");
  c->add_option("--exit-when-idle", l.worker.exit_when_idle, "Leave after so many idle seconds");
  c->add_option("--parent", l.worker.parent)->group("");
  b.Command(g, "list", "Workers, their slots and devices", "plumb worker list -o json",
            [](const Line& x) { return ListWorkers(x.context); });
  for (const bool drain : {true, false}) {
    c = b.Command(g, drain ? "drain" : "undrain",
                  drain ? "Its trials checkpoint and go elsewhere; it takes no new ones"
                        : "It takes trials again",
                  drain ? "plumb worker drain gpu7" : "plumb worker undrain gpu7",
                  [drain](const Line& x) { return DrainWorker(x.context, x.worker.name, drain); });
    c->add_option("name", l.worker.name, "The worker")->required();
  }
  c = b.Command(g, "explain", "What it has, its bundles, and why it gets nothing",
                "plumb worker explain gpu7",
                [](const Line& x) { return ExplainWorker(x.context, x.worker.name); });
  c->add_option("name", l.worker.name, "The worker")->required();
}

void AddUser(Builder& b, CLI::App* root, Line& l) {
  CLI::App* g = b.Group(root, "user", "Who shares the cluster, and how", "plumb user list");
  b.Command(g, "list", "Users: what they have, had and may have", "plumb user list",
            [](const Line& x) { return ListUsers(x.context); });
  CLI::App* c =
      b.Command(g, "set", "Changes a user's share or limit", "plumb user set ann --max-slots 8",
                [](const Line& x) { return SetUser(x.context, x.user); });
  c->add_option("name", l.user.name, "The user")->required();
  c->add_option("--weight", l.user.weight, "Share of device time against others' (1)");
  c->add_option("--max-slots", l.user.max_slots, "Slots at once; 0: no limit");
}

}  // namespace

void AddCluster(Builder& b, CLI::App* root, Line& l) {
  AddUp(b, root, l);
  AddServer(b, root, l);
  AddWatching(b, root, l);
  AddWorker(b, root, l);
  AddUser(b, root, l);
}

}  // namespace plumb::app
