// Threads that share the loops of an operation. A token's step has a hundred loops of tens of microseconds with little between them: whoever
// waits stays awake for a moment before it sleeps. OpenMP of gcc knows only two ways: its threads wait awake for milliseconds, which starves them
// when anything else runs on the machine (a step took ten times as long), or, once it has more threads than the machine has cores, they sleep at once,
// and waking them took a third of each step. So only oneDNN's products are left to it (gemm.cc).
//
// Every thread that calls has a team of its own, made when it first needs it, of as many threads as the process may use cores.
#pragma once
#include <algorithm>
#include <cstdint>

namespace jvlm::cpu {

int team_size();
// Which of them runs here: 0 (the caller) to team_size() - 1.
int team_member();

// body(data, first, last) over the items 0 to before `count` in pieces of `piece`, each taken by whoever is free. Returns when all are done. Inside
// a body it is a plain loop. Bodies do not throw.
void run_team(int64_t count, int64_t piece, void (*body)(void*, int64_t, int64_t), void* data);

// Whoever waits awake for the next loop goes to sleep: other threads are about to compute.
void rest_team();

template <class Body>
void parallel_pieces(int64_t count, int64_t piece, Body&& body) {
  run_team(count, piece, [](void* data, int64_t first, int64_t last) { (*static_cast<std::remove_reference_t<Body>*>(data))(first, last); }, &body);
}

// body(i), one at a time to whoever is free.
template <class Body>
void parallel_each(int64_t count, Body&& body) {
  parallel_pieces(count, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) body(i);
  });
}

// body(i), an equal part to each; what is less than `least` items is not worth a thread.
template <class Body>
void parallel_parts(int64_t count, int64_t least, Body&& body) {
  parallel_pieces(count, std::max(least, (count + team_size() - 1) / team_size()), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) body(i);
  });
}

}  // namespace jvlm::cpu
