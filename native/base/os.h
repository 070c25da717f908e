// The only POSIX calls.
#pragma once
#include <cstdint>
#include <string>

namespace jvlm::os {

// Reads exactly `bytes` from `offset` of a file; a file that ends before is MODEL_FORMAT. Reading, not mapping: a file that shrinks under
// a mapping kills the process.
void read_file(const std::string& path, int64_t offset, void* out, int64_t bytes);

// Zeroed memory on huge pages where the system gives them: reading weights from them is a third faster. Throws std::bad_alloc.
void* map_memory(int64_t bytes);
void unmap_memory(void* memory, int64_t bytes);

// CPUs that this process may use: its affinity mask, cut by the container's quota (cgroup v2 cpu.max, v1 cpu.cfs_quota_us).
int cpu_count();

}  // namespace jvlm::os
