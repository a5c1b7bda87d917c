// The tables that table.cpp defines, one per level. Which of them exist depends on the
// machine that the core is built for.
#pragma once

#include "l63fast/kernels.hpp"

namespace l63fast {

extern const KernelTable table_generic;
extern const KernelTable table_v2;
extern const KernelTable table_v3;
extern const KernelTable table_v4;

}  // namespace l63fast
