// Threads, started for each call: static blocks of members, cancellation, and
// everything that can throw.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "calls.hpp"

namespace l63fast {
namespace {

constexpr std::int64_t members_per_block = 320;  // whole groups of packs at every level
constexpr double small_job = 2e6;                // jobs of fewer steps run on the
                                                 // calling thread
constexpr auto poll_interval = std::chrono::milliseconds(50);

// Runs body(i) for i in [0, n_workers) on new threads while the calling thread polls,
// and joins them all. Rethrows the first exception.
template <class Body>
void run_workers(int n_workers, int* cancel, Poll poll, void* poll_data, Body body) {
  std::mutex mutex;
  std::condition_variable finished;
  int running = 0;
  std::exception_ptr error;
  std::vector<std::thread> threads;
  const auto work = [&](int i) {
    std::exception_ptr caught;
    try {
      body(i);
    } catch (...) {
      caught = std::current_exception();
      __atomic_store_n(cancel, 1, __ATOMIC_RELAXED);
    }
    const std::lock_guard<std::mutex> lock(mutex);
    if (caught && !error) error = caught;
    --running;
    finished.notify_one();
  };
  try {
    threads.reserve(static_cast<std::size_t>(n_workers));
    for (int i = 0; i < n_workers; ++i) {
      {
        const std::lock_guard<std::mutex> lock(mutex);
        ++running;
      }
      try {
        threads.emplace_back(work, i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        --running;
        throw;
      }
    }
  } catch (...) {
    const std::lock_guard<std::mutex> lock(mutex);
    error = std::current_exception();
    __atomic_store_n(cancel, 1, __ATOMIC_RELAXED);
  }
  {
    std::unique_lock<std::mutex> lock(mutex);
    while (!finished.wait_for(lock, poll_interval, [&] { return running == 0; })) {
      lock.unlock();
      if (poll != nullptr && poll(poll_data))
        __atomic_store_n(cancel, 1, __ATOMIC_RELAXED);
      lock.lock();
    }
  }
  for (std::thread& thread : threads) thread.join();
  if (error) std::rethrow_exception(error);
}

// Splits n members into whole blocks, evenly over the workers; returns where the
// members of a worker begin.
std::int64_t bound(std::int64_t n, int worker, int n_workers) {
  const std::int64_t blocks = (n + members_per_block - 1) / members_per_block;
  const std::int64_t edge = blocks / n_workers * worker * members_per_block +
                            blocks % n_workers * worker / n_workers * members_per_block;
  return worker == n_workers || edge > n ? n : edge;
}

// Calls body(begin, end, cancel) over all members, on the calling thread for a small
// job.
template <class Body>
void over_members(std::int64_t n, double steps, int n_threads, Poll poll,
                  void* poll_data, Body body) {
  const DefaultArithmetic arithmetic;
  int cancel = 0;
  if (steps < small_job) {
    body(std::int64_t{0}, n, &cancel);
    return;
  }
  const std::int64_t blocks = (n + members_per_block - 1) / members_per_block;
  const std::int64_t wanted = n_threads < 1 ? 1 : n_threads;
  const int n_workers = static_cast<int>(blocks < wanted ? blocks : wanted);
  run_workers(n_workers, &cancel, poll, poll_data, [&](int i) {
    body(bound(n, i, n_workers), bound(n, i + 1, n_workers), &cancel);
  });
}

const auto& integrate_entry(const KernelTable& k, double) { return k.integrate_f64; }
const auto& integrate_entry(const KernelTable& k, float) { return k.integrate_f32; }
const auto& analyse_entry(const KernelTable& k, double) { return k.analyse_f64; }
const auto& analyse_entry(const KernelTable& k, float) { return k.analyse_f32; }
const auto& tangent_entry(const KernelTable& k, double) { return k.tangent_f64; }
const auto& tangent_entry(const KernelTable& k, float) { return k.tangent_f32; }
const auto& adjoint_entry(const KernelTable& k, double) { return k.adjoint_f64; }
const auto& adjoint_entry(const KernelTable& k, float) { return k.adjoint_f32; }

// Returns the number of model steps that cost as much as this job.
template <class T>
double equivalent_steps(const Linearised<T>& job, std::int64_t n) {
  return static_cast<double>(n) * static_cast<double>(job.n_steps) *
         static_cast<double>(1 + job.n_vectors);
}

}  // namespace

template <class T>
std::int64_t integrate(const KernelTable& kernels, const Integration<T>& job,
                       std::int64_t n, int n_threads, Poll poll, void* poll_data) {
  std::atomic<std::int64_t> diverged{0};
  const double steps = static_cast<double>(n) * static_cast<double>(job.n_saved) *
                       static_cast<double>(job.save_every);
  over_members(n, steps, n_threads, poll, poll_data,
               [&](std::int64_t begin, std::int64_t end, const int* cancel) {
                 diverged += integrate_entry(kernels, T{})(job, begin, end, cancel);
               });
  return diverged;
}

template <class T>
void analyse(const KernelTable& kernels, const Analysis<T>& job, std::int64_t n,
             int n_threads, Poll poll, void* poll_data) {
  const double steps = static_cast<double>(n) * job.max_iter * job.n_starts;
  over_members(n, steps, n_threads, poll, poll_data,
               [&](std::int64_t begin, std::int64_t end, const int* cancel) {
                 analyse_entry(kernels, T{})(job, begin, end, cancel);
               });
}

template <class T>
std::int64_t tangent(const KernelTable& kernels, const Linearised<T>& job,
                     std::int64_t n, int n_threads, Poll poll, void* poll_data) {
  std::atomic<std::int64_t> diverged{0};
  over_members(n, equivalent_steps(job, n), n_threads, poll, poll_data,
               [&](std::int64_t begin, std::int64_t end, const int* cancel) {
                 diverged += tangent_entry(kernels, T{})(job, begin, end, cancel);
               });
  return diverged;
}

template <class T>
std::int64_t adjoint(const KernelTable& kernels, const Linearised<T>& job,
                     std::int64_t n, int n_threads, Poll poll, void* poll_data) {
  std::atomic<std::int64_t> diverged{0};
  const std::size_t n_bytes =
      static_cast<std::size_t>(kernels.adjoint_scratch(job.n_steps));
  over_members(n, equivalent_steps(job, n), n_threads, poll, poll_data,
               [&](std::int64_t begin, std::int64_t end, const int* cancel) {
                 const std::unique_ptr<CacheLine[]> scratch(
                     new CacheLine[n_bytes / sizeof(CacheLine) + 1]);
                 diverged += adjoint_entry(kernels, T{})(job, begin, end, scratch.get(),
                                                         cancel);
               });
  return diverged;
}

void filter_particles(const KernelTable& kernels, const ParticleFilter& job,
                      std::int64_t n, int n_threads, Poll poll, void* poll_data) {
  const std::size_t n_bytes =
      static_cast<std::size_t>(kernels.particle_scratch(job.n_particles));
  const DefaultArithmetic arithmetic;
  std::atomic<std::int64_t> next{0};
  int cancel = 0;
  const auto work = [&](int) {
    const std::unique_ptr<CacheLine[]> scratch(
        new CacheLine[n_bytes / sizeof(CacheLine) + 1]);
    for (std::int64_t i = next++; i < n; i = next++) {
      kernels.filter_particles(job, i, i + 1, scratch.get(), &cancel);
    }
  };
  // The analysis of a particle costs about as much as ten of its steps.
  const double steps = static_cast<double>(n) * static_cast<double>(job.n_particles) *
                       static_cast<double>(job.n_cycles) *
                       (static_cast<double>(job.n_steps) + 10);
  if (steps < small_job) {
    work(0);
  } else {
    const std::int64_t wanted = n_threads < 1 ? 1 : n_threads;
    run_workers(static_cast<int>(n < wanted ? n : wanted), &cancel, poll, poll_data,
                work);
  }
}

template std::int64_t integrate(const KernelTable&, const Integration<double>&,
                                std::int64_t, int, Poll, void*);
template std::int64_t integrate(const KernelTable&, const Integration<float>&,
                                std::int64_t, int, Poll, void*);
template void analyse(const KernelTable&, const Analysis<double>&, std::int64_t, int,
                      Poll, void*);
template void analyse(const KernelTable&, const Analysis<float>&, std::int64_t, int,
                      Poll, void*);
template std::int64_t tangent(const KernelTable&, const Linearised<double>&,
                              std::int64_t, int, Poll, void*);
template std::int64_t tangent(const KernelTable&, const Linearised<float>&,
                              std::int64_t, int, Poll, void*);
template std::int64_t adjoint(const KernelTable&, const Linearised<double>&,
                              std::int64_t, int, Poll, void*);
template std::int64_t adjoint(const KernelTable&, const Linearised<float>&,
                              std::int64_t, int, Poll, void*);

}  // namespace l63fast
