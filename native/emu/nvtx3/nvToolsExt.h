// NVTX as device.cu uses it, and what was said of it.
#pragma once
#include <string>
#include <vector>

int nvtxRangePushA(const char* name);
int nvtxRangePop();

namespace jvlm::emu {

// Names as ranges were opened, "" where one was closed, since the last call.
std::vector<std::string> take_ranges();

}  // namespace jvlm::emu
