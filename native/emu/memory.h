// The device's memory and pinned memory: every allocation lies between unreadable stretches, so that an access past it is caught at once.
#pragma once
#include <cstddef>
#include <string>

namespace jvlm::emu {

enum class Kind { device, pinned };

// Filled with 0xff (NaN). Null where the device's memory would be exceeded.
void* allocate(size_t bytes, Kind kind, size_t limit);
// False where nothing of this kind starts there. Throws Fault where something wrote between the end and the next page.
bool release(void* memory, Kind kind);
bool contains(const void* p, size_t bytes, Kind kind);
size_t allocated(Kind kind);
void check_margins();                                      // as release does, of everything
size_t count_allocations();
std::string describe(const void* p);                       // "16 bytes past the end of an allocation of 1024 bytes"

}  // namespace jvlm::emu
