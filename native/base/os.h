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

// CPUs that this process may use: its affinity mask, cut by the quotas of its control groups.
int cpu_count();

// CPUs that control groups allow, 0 where they set no limit: the least quota of the process's group and of all above it (v2 cpu.max, v1
// cpu.cfs_quota_us), rounded up. `groups` is a file as /proc/self/cgroup, `mount` the folder where groups are mounted.
int cpu_quota(const std::string& groups, const std::string& mount);

// Asks the system for the registers of AMX tiles, which a process may use only after that. False where there are none.
bool allow_tiles();

// Whether the kernel has NVIDIA's driver; no library is loaded to find out.
bool nvidia_driver();

// A symbol of a library that lies beside the one that this code is in, or in a folder that the environment variable `folder` names; null where
// there is no such library. One that is there and cannot be loaded throws DEVICE.
void* library_symbol(const std::string& library, const char* symbol, const char* folder);

// What the loader finds under a library's name: on its own search path, or where the name has a slash, there. It stays loaded.
struct Library {
  void* handle = nullptr;                                  // null: absent, or cannot be loaded
  bool there = false;
  void* symbol(const char* name) const;                    // null: it has none of that name
};
Library open_library(const std::string& name);

}  // namespace jvlm::os
