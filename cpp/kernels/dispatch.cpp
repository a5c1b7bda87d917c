// The levels that were compiled in and that this processor can run.
#include "table.hpp"

namespace l63fast {

int available_kernels(const KernelTable* tables[4]) {
  int count = 0;
#if defined(L63FAST_X86_LEVELS)
  __builtin_cpu_init();
  tables[count++] = &table_v2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    tables[count++] = &table_v3;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      tables[count++] = &table_v4;
    }
  }
#else
  tables[count++] = &table_generic;
#endif
  return count;
}

}  // namespace l63fast
