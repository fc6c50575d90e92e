#include "app/signals.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <thread>

namespace plumb::app {
namespace {

sigset_t Set(bool with_child) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  if (with_child) sigaddset(&set, SIGCHLD);
  return set;
}

}  // namespace

void BlockSignals() {
  const sigset_t set = Set(true);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

int WaitForSignal(std::chrono::milliseconds time) {
  const sigset_t set = Set(true);
  timespec t = {.tv_sec = time.count() / 1000, .tv_nsec = time.count() % 1000 * 1'000'000};
  const int signal = sigtimedwait(&set, nullptr, &t);
  return signal > 0 ? signal : 0;
}

void StopOnSignal(std::atomic<bool>* stop, void (*wake)()) {
  std::thread([stop, wake] {
    const sigset_t set = Set(false);
    int signal = 0;
    sigwait(&set, &signal);
    stop->store(true);
    if (wake) wake();
    sigwait(&set, &signal);
    _exit(130);
  }).detach();
}

void DieWith(int parent) {
  if (parent <= 0) return;
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) raise(SIGTERM);  // it died before the line above
}

bool StdoutIsTerminal() {
  const char* term = std::getenv("TERM");
  return isatty(STDOUT_FILENO) && !(term && std::strcmp(term, "dumb") == 0);
}

bool UseColor() {
  const char* no_color = std::getenv("NO_COLOR");
  return StdoutIsTerminal() && (no_color == nullptr || *no_color == '\0');
}

int TerminalWidth() {
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

}  // namespace plumb::app
