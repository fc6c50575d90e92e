// SIGINT, SIGTERM and SIGCHLD as values: blocked in every thread, taken where the program waits.
#pragma once

#include <atomic>
#include <chrono>

namespace plumb::app {

// Call before any thread starts; threads inherit the mask. SIGPIPE is ignored, so that writes fail
// instead.
void BlockSignals();

// Sleeps until a stop signal, a child's end or the time. Returns SIGINT, SIGTERM, SIGCHLD, or 0.
int WaitForSignal(std::chrono::milliseconds time);

// Sets *stop at the first SIGINT or SIGTERM (and calls wake), from a thread of its own; the second
// ends the process with 130. Both must outlive the process's other threads.
void StopOnSignal(std::atomic<bool>* stop, void (*wake)());

// The child ends with SIGTERM when the program that started it (process `parent`) dies. 0: does
// nothing.
void DieWith(int parent);

bool StdoutIsTerminal();
bool UseColor();      // a terminal, and NO_COLOR is not set
int TerminalWidth();  // of stdout; 80 where it is none

}  // namespace plumb::app
