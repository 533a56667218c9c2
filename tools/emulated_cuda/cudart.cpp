// libcudart.so.13: device memory, copies and launches.
#include <cuda.h>
#include <cuda_runtime.h>
#include <execinfo.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

extern "C" {
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
}

struct EmulatedGraph {
  cudaStream_t stream;
  std::vector<std::function<void()>> works;
};

namespace {

// What a block of an H100 has, on fewer multiprocessors.
constexpr int MULTIPROCESSORS = 8, SHARED = 227 * 1024, COMMON_SHARED = 48 * 1024;

// The device's addresses are ``base`` up to ``base + ARENA``, where nobody has access. What is there is really ARENA
// bytes further on, where only live allocations can be accessed.
constexpr size_t ARENA = size_t{1} << 42, PAGE = 4096, ALIGNMENT = 256;
// An allocation has two mappings, and Linux allows a process 65530 of them: more allocations have no guard page.
constexpr size_t GUARDED = 25000;
constexpr unsigned char UNWRITTEN = 0xff;  // new memory: NaN as a float, -1 as an int
constexpr unsigned char GUARD = 0xfd;      // the rest of an allocation's pages: NaN too

struct Device {
  std::recursive_mutex mutex;
  char* base = nullptr;
  size_t used = 0;                      // addresses are not used twice
  std::map<const char*, size_t> live;   // allocation -> bytes
  std::map<const char*, size_t> pinned;  // the host's memory by cudaMallocHost -> bytes
  std::map<std::string, long> launches;
  std::map<const void*, const char*> kernels;
  std::map<const void*, size_t> shared;  // the shared memory that a kernel may have, where it was asked for
  std::vector<const char*> arguments;  // the allocations that the next launch has pointers to
  const char* running = nullptr;       // a kernel
  cudaError_t last = cudaSuccess;
  struct sigaction previous {};
};

thread_local EmulatedGraph* recorded_ = nullptr;  // in this thread, as cudaStreamCaptureModeThreadLocal has it

Device& device() {
  static Device* const only = new Device;  // Caffe's static objects free memory when the process ends
  return *only;
}

typedef std::lock_guard<std::recursive_mutex> Lock;

size_t rounded(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

char* host_view(const void* memory) { return const_cast<char*>(static_cast<const char*>(memory)) + ARENA; }

bool is_device_address(const void* memory) {
  const Device& d = device();
  return d.base && memory >= d.base && memory < d.base + ARENA;
}

// Returns the block that holds the address, or ends there; null where there is none.
std::pair<const char*, size_t> block_at(const std::map<const char*, size_t>& blocks, const void* memory) {
  auto block = blocks.upper_bound(static_cast<const char*>(memory));
  if (block == blocks.begin()) return {nullptr, 0};
  --block;
  if (memory > block->first + block->second) return {nullptr, 0};
  return *block;
}

// An allocation's last byte, rounded up to ALIGNMENT, is the last of its pages.
struct Pages {
  char *begin, *end;
  Pages(const char* memory, size_t bytes)
      : end(const_cast<char*>(memory) + rounded(bytes, ALIGNMENT)) {
    begin = end - rounded(rounded(bytes, ALIGNMENT), PAGE);
  }
};

void check_guards(const char* memory, size_t bytes, const char* when) {
  const Pages pages(memory, bytes);
  auto check = [&](const char* begin, const char* end, const char* where) {
    for (const char* at = begin; at < end; ++at) {
      if (static_cast<unsigned char>(*host_view(at)) != GUARD)
        emulated::fail("%s: wrote %s an allocation of %zu bytes", when, where, bytes);
    }
  };
  check(pages.begin, memory, "before");
  check(memory + bytes, pages.end, "behind");
}

void segmentation_fault(int number, siginfo_t* info, void*) {
  Device& d = device();
  const char* const address = static_cast<char*>(info->si_addr);
  sigaction(number, &d.previous, nullptr);
  if (d.running && address >= d.base && address < d.base + 2 * ARENA)
    emulated::fail("%s: accessed memory outside of any allocation", d.running);
  if (is_device_address(address)) emulated::fail("the host accessed device memory");
}  // the access is repeated, as the process treats it without this function

void reserve() {
  Device& d = device();
  if (d.base) return;
  void* const memory = mmap(nullptr, 2 * ARENA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) emulated::fail("cannot reserve %zu bytes of addresses for device memory", 2 * ARENA);
  d.base = static_cast<char*>(memory);
  struct sigaction action {};
  action.sa_sigaction = segmentation_fault;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, &d.previous);
}

cudaError_t returned(cudaError_t error) {
  if (error != cudaSuccess) device().last = error;
  return error;
}

bool has_device() {
  int count = 0;
  cuDeviceGetCount(&count);
  return count > 0;
}

// The threads of a block run on fibers. A fiber runs one thread after the other; where a thread waits at a barrier, the
// fiber stays with it, and another one runs those that have not started. Without barriers there is one fiber.
// Switches are by setjmp and longjmp, which make no system call; ucontext only gives a fiber its stack.
enum Barrier { NONE, OF_BLOCK, OF_GRID };

struct Fiber {
  static constexpr size_t STACK = 128 * 1024;
  std::unique_ptr<char[]> stack{new char[STACK]};
  ucontext_t initial;
  jmp_buf state;
  bool started = false;
  Barrier waits = NONE;
  uint3 thread;
};

struct Block {
  uint3 index, next;
  bool left = true;  // there are threads that have not started
  std::vector<Fiber*> waiting;
  std::vector<unsigned char> shared;  // and guards behind it
};

struct Running {
  jmp_buf scheduler;
  Fiber* fiber = nullptr;
  Block* block = nullptr;
  void (*thread)(void*) = nullptr;
  void* context = nullptr;
  std::vector<Fiber*> idle;
} running_;

// Steps down through all indices below ``size``; returns false after the last one.
bool step_down(uint3& index, dim3 size) {
  if (index.x-- > 0) return true;
  index.x = size.x - 1;
  if (index.y-- > 0) return true;
  index.y = size.y - 1;
  return index.z-- > 0;
}

uint3 last_of(dim3 size) { return {size.x - 1, size.y - 1, size.z - 1}; }

void to_scheduler(Fiber* fiber) {
  if (_setjmp(fiber->state) == 0) _longjmp(running_.scheduler, 1);
}

void run_threads() {
  for (;;) {
    while (running_.block->left) {
      running_.fiber->thread = threadIdx = running_.block->next;
      running_.block->left = step_down(running_.block->next, blockDim);
      running_.thread(running_.context);
    }
    running_.fiber->waits = NONE;
    to_scheduler(running_.fiber);
  }
}

void switch_to(Fiber* fiber) {
  running_.fiber = fiber;
  threadIdx = fiber->thread;
  if (_setjmp(running_.scheduler) != 0) return;
  if (fiber->started) _longjmp(fiber->state, 1);
  fiber->started = true;
  setcontext(&fiber->initial);
}

void resume(Fiber* fiber) {
  fiber->waits = NONE;
  switch_to(fiber);
  (fiber->waits ? running_.block->waiting : running_.idle).push_back(fiber);
}

Fiber* idle_fiber() {
  if (!running_.idle.empty()) {
    Fiber* const fiber = running_.idle.back();
    running_.idle.pop_back();
    return fiber;
  }
  Fiber* const fiber = new Fiber;
  getcontext(&fiber->initial);
  fiber->initial.uc_stack.ss_sp = fiber->stack.get();
  fiber->initial.uc_stack.ss_size = Fiber::STACK;
  fiber->initial.uc_link = nullptr;
  makecontext(&fiber->initial, run_threads, 0);
  return fiber;
}

// Runs a block to its end, or until its threads wait for other blocks.
void run_block(const char* kernel, Block& block) {
  const size_t threads = size_t{blockDim.x} * blockDim.y * blockDim.z;
  running_.block = &block;
  blockIdx = block.index;
  std::vector<Fiber*> ready = std::move(block.waiting);
  block.waiting.clear();
  for (;;) {
    while (block.left) resume(idle_fiber());
    for (Fiber* fiber : ready) resume(fiber);
    if (block.waiting.empty()) return;
    size_t together = 0;
    for (Fiber* fiber : block.waiting) together += fiber->waits == block.waiting[0]->waits;
    if (together != threads) emulated::fail("%s: %zu of a block's %zu threads wait at a barrier", kernel, together, threads);
    if (block.waiting[0]->waits == OF_GRID) return;
    ready = std::move(block.waiting);
    block.waiting.clear();
  }
}

}  // namespace

namespace emulated {

void fail(const char* format, ...) {
  char text[1000];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  fprintf(stderr, "F0101 00:00:00.000000 %5d emulated_cuda] %s\n", getpid(), text);
  void* frames[40];
  backtrace_symbols_fd(frames, backtrace(frames, 40), 2);
  abort();
}

void* device_memory(const char* function, const char* what, const void* memory, size_t bytes) {
  if (bytes == 0) return nullptr;
  const Lock lock(device().mutex);
  const auto [start, size] = block_at(device().live, memory);
  if (start == nullptr) fail("%s: %s at %p is not device memory", function, what, memory);
  const size_t there = start + size - static_cast<const char*>(memory);
  if (bytes > there)
    fail("%s: %s has %zu bytes, of which an allocation of %zu has %zu", function, what, bytes, size, there);
  return host_view(memory);
}

void expect_host_memory(const char* function, const char* what, const void* memory) {
  if (is_device_address(memory)) fail("%s: %s at %p is device memory", function, what, memory);
}

void count_call(const char* function) {
  const Lock lock(device().mutex);
  ++device().launches[function];
}

Kernel::Kernel(const char* name, const void* function) {
  const Lock lock(device().mutex);
  device().launches[name];
  if (function) device().kernels[function] = name;
}

const char* kernel_name(const void* function) {
  const Lock lock(device().mutex);
  auto known = device().kernels.find(function);
  return known == device().kernels.end() ? "a kernel" : known->second;
}

void* kernel_argument(const char* kernel, int index, const void* memory) {
  if (memory == nullptr) return nullptr;
  Device& d = device();
  const Lock lock(d.mutex);
  const char* const allocation = block_at(d.live, memory).first;
  if (allocation == nullptr) fail("%s: argument %d, %p, is not device memory", kernel, index, memory);
  d.arguments.push_back(allocation);
  return host_view(memory);
}

cudaError_t Launch::run(void (*thread)(void*), void* context) const {
  Device& d = device();
  const Lock lock(d.mutex);
  const std::vector<const char*> arguments = std::move(d.arguments);
  d.arguments.clear();
  if (!has_device()) return returned(cudaErrorNoDevice);
  const bool fits = block.x <= 1024 && block.y <= 1024 && block.z <= 64 && block.x * block.y * block.z <= 1024;
  const bool any = grid.x && grid.y && grid.z && block.x && block.y && block.z;
  if (!fits || !any || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535)
    return returned(cudaErrorInvalidConfiguration);
  if (shared_bytes > std::max<size_t>(COMMON_SHARED, d.shared[function])) return returned(cudaErrorInvalidValue);
  if (cooperative && size_t{grid.x} * grid.y * grid.z > MULTIPROCESSORS)
    return returned(cudaErrorCooperativeLaunchTooLarge);
  d.running = kernel;
  gridDim = grid;
  blockDim = block;
  running_.thread = thread;
  running_.context = context;
  // Blocks and threads run from the last to the first: no kernel may rely on their order.
  std::deque<Block> blocks;
  size_t waiting = 0;
  uint3 index = last_of(grid);
  do {
    if (!cooperative) blocks.clear();
    Block& each = blocks.emplace_back();
    each.index = index;
    each.next = last_of(block);
    if (shared_bytes) {
      each.shared.assign(shared_bytes + ALIGNMENT, GUARD);
      std::memset(each.shared.data(), UNWRITTEN, shared_bytes);
    }
    run_block(kernel, each);
    waiting += !each.waiting.empty();
    if (waiting && !cooperative) fail("%s: waits for other blocks, and its launch is not cooperative", kernel);
  } while (step_down(index, grid));
  while (waiting) {
    if (waiting != blocks.size()) fail("%s: %zu of %zu blocks wait for the others", kernel, waiting, blocks.size());
    waiting = 0;
    for (Block& each : blocks) {
      run_block(kernel, each);
      waiting += !each.waiting.empty();
    }
  }
  for (const Block& each : blocks) {
    for (size_t i = shared_bytes; i < each.shared.size(); ++i) {
      if (each.shared[i] != GUARD) fail("%s: wrote behind %zu bytes of shared memory", kernel, shared_bytes);
    }
  }
  d.running = nullptr;
  for (const char* memory : arguments) check_guards(memory, d.live[memory], kernel);
  return cudaSuccess;
}

void synchronize_threads(bool of_grid) {
  running_.fiber->waits = of_grid ? OF_GRID : OF_BLOCK;
  to_scheduler(running_.fiber);
}

void* shared_memory() { return running_.block->shared.data(); }

void allow_shared_memory(const void* function, size_t bytes) { device().shared[function] = std::min<size_t>(bytes, SHARED); }

bool recording() { return recorded_ != nullptr; }

cudaError_t record(cudaStream_t stream, std::function<void()> work) {
  if (stream != recorded_->stream) return returned(cudaErrorStreamCaptureUnsupported);
  recorded_->works.push_back(std::move(work));
  return cudaSuccess;
}

}  // namespace emulated

namespace {

cudaError_t copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (bytes == 0) return cudaSuccess;
  const bool to_device = is_device_address(to), from_device = is_device_address(from);
  const bool wants_to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool wants_from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind != cudaMemcpyDefault && (to_device != wants_to || from_device != wants_from))
    emulated::fail("cudaMemcpy: kind %d for a copy from the %s to the %s", kind, from_device ? "device" : "host",
                   to_device ? "device" : "host");
  const char *a = static_cast<const char*>(to), *b = static_cast<const char*>(from);
  if (a < b + bytes && b < a + bytes) emulated::fail("cudaMemcpy: source and target overlap");
  if (to_device) to = emulated::device_memory("cudaMemcpy", "the target", to, bytes);
  if (from_device) from = emulated::device_memory("cudaMemcpy", "the source", from, bytes);
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

}  // namespace

extern "C" {

const char* emulated_cuda_launches() {
  static std::string text;
  const Lock lock(device().mutex);
  text.clear();
  for (const auto& [name, count] : device().launches) text += std::to_string(count) + " " + name + "\n";
  return text.c_str();
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  if (!has_device()) return returned(cudaErrorNoDevice);
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  Device& d = device();
  const Lock lock(d.mutex);
  reserve();
  const size_t room = rounded(bytes, ALIGNMENT), pages = rounded(room, PAGE);
  const size_t guard = d.live.size() < GUARDED ? PAGE : 0;
  if (bytes > ARENA || d.used + pages + guard > ARENA) return returned(cudaErrorMemoryAllocation);
  char* const begin = d.base + d.used;
  if (mprotect(host_view(begin), pages, PROT_READ | PROT_WRITE) != 0) return returned(cudaErrorMemoryAllocation);
  d.used += pages + guard;
  char* const start = begin + pages - room;
  std::memset(host_view(begin), GUARD, start - begin);
  std::memset(host_view(start), UNWRITTEN, bytes);
  std::memset(host_view(start + bytes), GUARD, room - bytes);
  d.live[start] = bytes;
  *memory = start;
  return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  if (!has_device()) return returned(cudaErrorNoDevice);
  if (memory == nullptr) return cudaSuccess;
  Device& d = device();
  const Lock lock(d.mutex);
  auto block = d.live.find(static_cast<char*>(memory));
  if (block == d.live.end()) emulated::fail("cudaFree: %p is not a live allocation of device memory", memory);
  check_guards(block->first, block->second, "cudaFree");
  const Pages pages(block->first, block->second);
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  if (mmap(host_view(pages.begin), pages.end - pages.begin, PROT_NONE, flags, -1, 0) == MAP_FAILED)
    emulated::fail("cudaFree: cannot unmap an allocation of %zu bytes", block->second);
  d.live.erase(block);
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  if (!has_device()) return returned(cudaErrorNoDevice);
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (posix_memalign(memory, PAGE, bytes) != 0) return returned(cudaErrorMemoryAllocation);
  std::memset(*memory, UNWRITTEN, bytes);
  const Lock lock(device().mutex);
  device().pinned[static_cast<char*>(*memory)] = bytes;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  const Lock lock(device().mutex);
  if (device().pinned.erase(static_cast<char*>(memory)) == 0)
    emulated::fail("cudaFreeHost: %p is not memory of cudaMallocHost", memory);
  free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (emulated::recording()) return emulated::record(stream, [=] { copy(to, from, bytes, kind); });
  return copy(to, from, bytes, kind);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  if (emulated::recording()) return emulated::record(stream, [=] { cudaMemset(to, value, bytes); });
  if (bytes) std::memset(emulated::device_memory("cudaMemset", "the target", to, bytes), value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) { return cudaMemsetAsync(to, value, bytes, nullptr); }

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  const Lock lock(device().mutex);
  void* const same = const_cast<void*>(memory);
  if (is_device_address(memory)) *attributes = {cudaMemoryTypeDevice, 0, same, nullptr};
  else if (block_at(device().pinned, memory).first) *attributes = {cudaMemoryTypeHost, 0, same, same};
  else *attributes = {cudaMemoryTypeUnregistered, -1, nullptr, same};
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* number) {
  *number = 0;
  return has_device() ? cudaSuccess : returned(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int number) {
  if (!has_device()) return returned(cudaErrorNoDevice);
  return number == 0 ? cudaSuccess : returned(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceCount(int* count) {
  cuDeviceGetCount(count);
  return *count ? cudaSuccess : returned(cudaErrorNoDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int number) {
  if (!has_device()) return returned(cudaErrorNoDevice);
  if (number != 0) return returned(cudaErrorInvalidDevice);
  *properties = {};
  cuDeviceGetName(properties->name, sizeof properties->name, 0);
  properties->totalGlobalMem = ARENA;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->multiProcessorCount = MULTIPROCESSORS;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr name, int) {
  *value = name == cudaDevAttrMultiProcessorCount            ? MULTIPROCESSORS
           : name == cudaDevAttrMaxSharedMemoryPerBlockOptin ? SHARED
                                                             : 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 0, cudaSuccess; }
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return returned(cudaErrorInvalidDevice); }
cudaError_t cudaDeviceDisablePeerAccess(int) { return returned(cudaErrorPeerAccessNotEnabled); }

// Everything is done when its call returns.
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = static_cast<cudaStream_t>(malloc(1));
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return cudaStreamCreate(stream); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return free(stream), cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr || emulated::recording()) return returned(cudaErrorStreamCaptureUnsupported);
  recorded_ = new EmulatedGraph{stream, {}};
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (!emulated::recording() || recorded_->stream != stream) return returned(cudaErrorInvalidValue);
  *graph = std::exchange(recorded_, nullptr);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new EmulatedGraph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  emulated::count_call("cudaGraphLaunch");
  for (const auto& work : executable->works) work();
  return cudaPeekAtLastError();
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) { return delete executable, cudaSuccess; }

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = static_cast<cudaEvent_t>(calloc(1, sizeof(timespec)));
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { return free(event), cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  clock_gettime(CLOCK_MONOTONIC, reinterpret_cast<timespec*>(event));
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const timespec &a = *reinterpret_cast<timespec*>(start), &b = *reinterpret_cast<timespec*>(end);
  *milliseconds = (b.tv_sec - a.tv_sec) * 1e3f + (b.tv_nsec - a.tv_nsec) * 1e-6f;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t last = device().last;
  device().last = cudaSuccess;
  return last;
}
cudaError_t cudaPeekAtLastError() { return device().last; }
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorCooperativeLaunchTooLarge: return "too many blocks in cooperative launch";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    default: return "an error";
  }
}
}
