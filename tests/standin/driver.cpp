// A stand-in for the CUDA driver: the entry points that the back end calls, on the memory and the processor of the
// host. A module is a shared library; streams can be captured; a graph replays what was captured.
//
// PWM_STANDIN_ORDER = forward | reverse | hashed: the order in which the threads of a block run.
// PWM_STANDIN_MAJOR = compute capability, 8 by default. PWM_STANDIN_DEVICES = how many GPUs there are.
// PWM_STANDIN_MEMORY = bytes that can be allocated, PWM_STANDIN_LOCKED = of the host, locked.
// PWM_STANDIN_CONTEXT = the status of making a context. PWM_STANDIN_FAIL = after so many graph launches of a process a
// kernel fails, and everything after it: an error of a kernel stays with its context; PWM_STANDIN_STATUS = with which
// code. PWM_STANDIN_STACK = bytes that a thread of every kernel keeps in memory. PWM_STANDIN_GRAPHS = a file to which
// each recorded graph adds a line, the kernels that it launches: kernels do nothing then, whatever their code is.
#include "shim.hpp"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <fstream>
#include <functional>
#include <link.h>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace shim {
Block* block;
Fiber* fiber;
// An odd number of pages.
enum { STACK = 260 * 1024 };

extern "C" void shim_switch(void** save, void* to);  // callee-saved registers only
#if defined(__x86_64__)
asm(".text\n.globl shim_switch\n.type shim_switch,@function\nshim_switch:\n push %rbp\n push %rbx\n push %r12\n push %r13\n"
    " push %r14\n push %r15\n mov %rsp,(%rdi)\n mov %rsi,%rsp\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n"
    " pop %rcx\n jmp *%rcx\n");
static void* first_frame(char* top, void (*entry)()) {
    void** s = (void**)top;
    *--s = nullptr;
    *--s = (void*)entry;
    for (int i = 0; i < 6; i++) *--s = nullptr;
    return s;
}
#else
#error "the stand-in driver switches fibers on x86-64 only"
#endif

static Fiber* next(Block* b);
static void to_scheduler() { shim_switch(&fiber->sp, block->scheduler); }
// The thread that is next in the order goes on at once: a way through the scheduler would cost as much again.
void wait_for(const uint32_t* g) {
    Fiber* mine = fiber;
    mine->waits_for = g, mine->seen = *g;
    Fiber* f = next(block);
    shim_switch(&mine->sp, f ? f->sp : block->scheduler);
}
void fail(const char* message) {
    block->error = message, fiber->state = DONE;
    for (;;) to_scheduler();
}
// One stack serves many threads, as long as none of them waits.
static void entry() {
    for (;;) {
        Block* b = block;
        b->body(b->args);
        if (fiber->between) fail("a thread ends between the halves of a barrier of its cluster");
        fiber->state = DONE, fiber->waits_for = nullptr, b->live--, b->done++;
        Cluster* c = b->cluster;
        if (--c->live && c->arrived == c->live) c->arrived = 0, c->generation++;
        if (b->arrived && b->arrived == b->live) b->arrived = 0, b->generation++;
        // This stack is free, and the next thread may be one that needs one: then nothing is switched.
        b->mine = true;
        Fiber* f = next(b);
        if (b->mine) b->mine = false, shim_switch(&b->spare, f ? f->sp : b->scheduler);
    }
}
// A stack for a thread that begins. Each ends at another place: ends that are a power of two apart would fall into the
// same few lines of the caches, and most of the time of a block would be spent waiting for them.
static void* stack(Block* b) {
    if (b->mine) return b->mine = false, nullptr;
    if (void* spare = b->spare) return b->spare = nullptr, spare;
    uint32_t i = b->stacks_used++;
    return first_frame(b->stacks + (size_t)(i + 1) * STACK - i * 9 % 64 * 64, entry);
}

enum Order { FORWARD, REVERSE, HASHED };
static Order order() {
    const char* o = getenv("PWM_STANDIN_ORDER");
    return !o ? FORWARD : !strcmp(o, "reverse") ? REVERSE : !strcmp(o, "hashed") ? HASHED : FORWARD;
}

static void begin(Block* b) {
    b->live = b->threads, b->arrived = 0, b->error = nullptr, b->stacks_used = b->done = 0, b->spare = nullptr;
    b->boxes.clear();
    memset(b->warp, 0, sizeof b->warp);
    for (uint32_t i = 0; i < b->threads; i++) {
        Fiber& f = b->fiber[i];
        f.index = i, f.state = NEW, f.waits_for = nullptr, f.thread = {i, 0, 0};
        f.open.clear(), f.groups.clear(), f.products.clear(), f.into = nullptr, f.committed = 0, f.fenced = false;
        f.between = false;
    }
}

// The next thread of a sweep that can go on, and its turn.
static Fiber* next(Block* b) {
    while (b->turn < b->threads && !b->error) {
        uint32_t n = b->threads, k = b->turn++;
        uint32_t i = b->order == FORWARD ? k : b->order == REVERSE ? n - 1 - k : (uint32_t)((uint64_t)k * b->step % n);
        Fiber* f = &b->fiber[i];
        if (f->state == DONE || (f->waits_for && *f->waits_for == f->seen)) continue;
        if (f->state == NEW) f->state = RUNNING, f->sp = stack(b);
        fiber = f, f->waits_for = nullptr;
        return f;
    }
    return nullptr;
}
// Lets each thread of a block that can go on do so, once. Whether there was one.
static bool sweep(Block* b, Order order) {
    uint32_t n = b->threads, step = 1;
    if (order == HASHED)
        for (step = n * 5 / 8 | 1; std::__gcd(step, n) != 1;) step += 2;
    block = b, b->order = order, b->step = step, b->turn = 0, b->mine = false;
    Fiber* f = next(b);
    if (f) shim_switch(&b->scheduler, f->sp);
    return f;
}

static const char* run_cluster(Cluster* c, Order order) {
    for (;;) {
        bool progress = false, done = true;
        Block* arrives = nullptr;
        for (uint32_t k = 0; k < c->size; k++) {
            Block* b = c->block[order == FORWARD ? k : order == REVERSE ? c->size - 1 - k : (k + c->size / 2) % c->size];
            progress |= sweep(b, order);
            if (b->error) return b->error;
            done &= b->done == b->threads;
            if (!arrives && !b->boxes.empty()) arrives = b;
        }
        if (done) return nullptr;
        if (progress) continue;
        // Copies arrive as late as they may.
        if (!arrives) return "threads wait for each other at different barriers";
        block = arrives;
        land(arrives->boxes.front());
        arrives->boxes.erase(arrives->boxes.begin());
        if (arrives->error) return arrives->error;
    }
}
}  // namespace shim

using namespace shim;
typedef int Status;
typedef uint64_t Address;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, UNAVAILABLE = 46, INVALID_DEVICE = 101, NOT_FOUND = 500, LAUNCH_FAILED = 719, CAPTURE = 901 };

struct Module {
    void* handle;
    std::string file;
    void* base;
};
struct Function {
    Module* module;
    std::string name;
    void (*call)(void**);
    int (*sizes)(const uint32_t**);
    uint32_t cluster;
    size_t most_dynamic = 48 << 10;
    uint64_t launched = 0;
};
struct Graph {
    std::vector<std::function<Status()>> work;
    std::string kernels;
};
struct Stream {
    Graph* capture = nullptr;
};
// Calls of this thread, by function: tests run side by side.
static thread_local std::map<std::string, uint64_t> calls;
extern "C" uint64_t standin_calls(const char* f) { return calls[f]; }
// Entry points that this thread has launched, each followed by a line feed.
static thread_local std::string launched_names;
extern "C" const char* standin_launched() { return launched_names.c_str(); }
#define COUNT calls[__func__]++
static Status sticky = SUCCESS;
static std::string last_error;
static std::map<Address, size_t> allocations;
static size_t allocated = 0;

static Status put(Stream* s, std::function<Status()> f) {
    if (s && s->capture) {
        s->capture->work.push_back(std::move(f));
        return SUCCESS;
    }
    return f();
}

// Shared memory of a module: its thread-local segment. Filled with NaNs, so that nothing is read before it is written.
static int poison_shared(dl_phdr_info* info, size_t, void* base) {
    if ((void*)info->dlpi_addr != base) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_TLS && info->dlpi_tls_data)
            memset(info->dlpi_tls_data, 0xff, info->dlpi_phdr[i].p_memsz);
    return 1;
}

// One kernel at a time: a stream has one order, and the fibers have one stage.
static Status launch(Function* f, const uint32_t* g, uint32_t threads, size_t dynamic, void** args) {
    static std::mutex mutex;
    std::lock_guard<std::mutex> lock(mutex);
    static Cluster cluster;
    if (threads > MAX_THREADS || f->cluster > sizeof cluster.block / sizeof *cluster.block) return INVALID_VALUE;
    // A block of its own, so that the address sanitizer knows its end.
    struct Free {
        void operator()(char* p) { free(p); }
    };
    std::vector<std::unique_ptr<char, Free>> dynamics;
    for (uint32_t r = 0; r < f->cluster; r++) {
        Block*& b = cluster.block[r];
        if (!b) {
            b = new Block();
            b->stacks = (char*)mmap(nullptr, (size_t)(MAX_THREADS + 1) * STACK, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        }
        b->grid_dim = {g[0], g[1], g[2]}, b->block_dim = {threads, 1, 1}, b->threads = threads, b->body = f->call, b->args = args;
        dynamics.emplace_back((char*)aligned_alloc(1024, std::max<size_t>((dynamic + 1023) / 1024, 1) * 1024));
        b->dynamic = dynamics.back().get(), b->dynamic_bytes = dynamic, b->cluster = &cluster;
    }
    Order o = order();
    uint64_t blocks = (uint64_t)g[0] * g[1] * g[2];
    for (uint64_t i = 0; i < blocks; i += f->cluster) {
        // Clusters may run in any order as well.
        uint64_t first = o == FORWARD ? i : blocks - f->cluster - i;
        cluster.size = f->cluster, cluster.live = f->cluster * threads, cluster.arrived = 0;
        dl_iterate_phdr(poison_shared, f->module->base);
        for (uint32_t r = 0; r < f->cluster; r++) {
            uint64_t k = first + r;
            Block* b = cluster.block[r];
            b->block = {(uint32_t)(k % g[0]), (uint32_t)(k / g[0] % g[1]), (uint32_t)(k / g[0] / g[1])};
            memset(b->dynamic, 0xff, dynamic);
            begin(b);
        }
        if (const char* e = run_cluster(&cluster, o)) {
            last_error = f->name + ": " + e;
            return LAUNCH_FAILED;
        }
    }
    return SUCCESS;
}

#define X extern "C" Status
X cuInit(unsigned) { return SUCCESS; }
X cuDriverGetVersion(int* v) { return *v = getenv("PWM_STANDIN_VERSION") ? atoi(getenv("PWM_STANDIN_VERSION")) : 13000, SUCCESS; }
X cuDeviceGetCount(int* n) { return *n = getenv("PWM_STANDIN_DEVICES") ? atoi(getenv("PWM_STANDIN_DEVICES")) : 1, SUCCESS; }
X cuDeviceGet(int* d, int i) { return *d = i, i < 8 ? SUCCESS : INVALID_DEVICE; }
X cuDeviceGetName(char* s, int n, int) { return snprintf(s, n, "stand-in"), SUCCESS; }
X cuDeviceTotalMem_v2(size_t* n, int) { return *n = 8ull << 30, SUCCESS; }
X cuDeviceGetAttribute(int* v, int a, int) {
    const char* major = getenv("PWM_STANDIN_MAJOR");
    return *v = a == 75 ? (major ? atoi(major) : 8) : a == 76 ? 0 : a == 16 ? 132 : 1, SUCCESS;
}
X cuDevicePrimaryCtxRetain(void** c, int) {
    static int x;
    return *c = &x, getenv("PWM_STANDIN_CONTEXT") ? atoi(getenv("PWM_STANDIN_CONTEXT")) : SUCCESS;
}
X cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
X cuCtxSetCurrent(void*) { return SUCCESS; }
X cuMemGetInfo_v2(size_t* free, size_t* total) {
    *total = getenv("PWM_STANDIN_MEMORY") ? strtoull(getenv("PWM_STANDIN_MEMORY"), 0, 10) : 8ull << 30;
    return *free = *total - allocated, SUCCESS;
}
X cuStreamCreate(Stream** s, unsigned) { return *s = new Stream, SUCCESS; }
X cuStreamDestroy_v2(Stream* s) { return delete s, SUCCESS; }
X cuStreamSynchronize(Stream* s) { return COUNT, s && s->capture ? CAPTURE : sticky; }
X cuEventCreate(void** e, unsigned) { return *e = malloc(1), SUCCESS; }
X cuEventDestroy_v2(void* e) { return free(e), SUCCESS; }
X cuEventRecordWithFlags(void*, Stream* s, unsigned external) {
    // An external record is one of a graph, and only of a graph.
    return (external != 0) == (s && s->capture) ? SUCCESS : INVALID_VALUE;
}
X cuEventSynchronize(void*) { return sticky; }
X cuEventElapsedTime(float* t, void*, void*) { return *t = 1, SUCCESS; }
X cuMemAlloc_v2(Address* p, size_t n) {
    COUNT;
    size_t free, total;
    cuMemGetInfo_v2(&free, &total);
    if (n > free) return OUT_OF_MEMORY;
    // Not what malloc would give: the address sanitizer knows every block.
    *p = (Address)aligned_alloc(256, (n + 255) / 256 * 256);
    memset((void*)*p, 0xcd, n);
    allocations[*p] = n, allocated += n;
    return SUCCESS;
}
X cuMemFree_v2(Address p) {
    if (!allocations.count(p)) return INVALID_VALUE;
    allocated -= allocations[p], allocations.erase(p);
    return free((void*)p), SUCCESS;
}
// Device memory is the host's, so locked memory has one address. It counts apart, and is given back by its own
// function.
static std::map<void*, size_t> locked;
X cuMemHostAlloc(void** p, size_t n, unsigned) {
    COUNT;
    const char* most = getenv("PWM_STANDIN_LOCKED");
    if (most && n > strtoull(most, 0, 10)) return OUT_OF_MEMORY;
    *p = aligned_alloc(256, (n + 255) / 256 * 256);
    memset(*p, 0xcd, n);
    return locked[*p] = n, SUCCESS;
}
X cuMemHostGetDevicePointer_v2(Address* d, void* p, unsigned) {
    if (!locked.count(p)) return INVALID_VALUE;
    return *d = (Address)p, SUCCESS;
}
X cuMemFreeHost(void* p) {
    if (!locked.erase(p)) return INVALID_VALUE;
    return free(p), SUCCESS;
}
X cuMemsetD32Async(Address p, unsigned v, size_t n, Stream* s) {
    return put(s, [=] { for (size_t i = 0; i < n; i++) ((unsigned*)p)[i] = v; return (Status)SUCCESS; });
}
X cuMemcpyHtoDAsync_v2(Address d, const void* from, size_t n, Stream* s) {
    COUNT;
    return put(s, [=] { return memcpy((void*)d, from, n), (Status)SUCCESS; });
}
X cuMemcpyDtoHAsync_v2(void* d, Address from, size_t n, Stream* s) {
    COUNT;
    return put(s, [=] { return memcpy(d, (void*)from, n), (Status)SUCCESS; });
}
// The image is the name of a shared library, which the stand-in compiler made.
X cuModuleLoadData(Module** m, const void* image) {
    if (getenv("PWM_STANDIN_GRAPHS")) return *m = new Module{}, SUCCESS;
    std::string file = (const char*)image;
    // Kernels find the shim in this library, however it was loaded.
    Dl_info self;
    if (dladdr((void*)cuModuleLoadData, &self)) dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
    void* h = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!h) return last_error = dlerror(), INVALID_VALUE;
    link_map* map;
    dlinfo(h, RTLD_DI_LINKMAP, &map);
    return *m = new Module{h, file, (void*)map->l_addr}, SUCCESS;
}
X cuModuleUnload(Module* m) { return delete m, SUCCESS; }
X cuModuleGetFunction(Function** f, Module* m, const char* name) {
    if (!m->handle) return *f = new Function{m, name, nullptr, nullptr, 1}, SUCCESS;
    auto call = (void (*)(void**))dlsym(m->handle, (std::string(name) + "_call").c_str());
    auto sizes = (int (*)(const uint32_t**))dlsym(m->handle, (std::string(name) + "_sizes").c_str());
    auto cluster = (int (*)())dlsym(m->handle, (std::string(name) + "_cluster").c_str());
    if (!call || !sizes || !cluster) return last_error = std::string("no kernel ") + name, NOT_FOUND;
    return *f = new Function{m, name, call, sizes, (uint32_t)cluster()}, SUCCESS;
}
// A description of a matrix and a box, checked as the driver checks it.
X cuTensorMapEncodeTiled(void* map, int type, unsigned rank, void* address, const uint64_t* dim, const uint64_t* stride,
                         const uint32_t* box, const uint32_t* step, int interleave, int swizzle, int, int fill) {
    Encoded m = {MAP_MAGIC, (uint64_t)address, (uint32_t)type, type == BFLOAT16 ? 2u : 4u, rank, (uint32_t)swizzle};
    bool good = (uintptr_t)map % 64 == 0 && rank == 3 && (uintptr_t)address % 16 == 0 && interleave == 0 && fill == 0;
    good = good && (type == BFLOAT16 || type == FLOAT32 || type == TFLOAT32);
    for (int i = 0; i < 3 && good; i++) {
        m.dim[i] = dim[i], m.box[i] = box[i];
        good = dim[i] > 0 && dim[i] <= 1ull << 32 && box[i] > 0 && box[i] <= 256 && step[i] == 1;
    }
    for (int i = 0; i < 2 && good; i++) {
        m.stride[i] = stride[i];
        good = stride[i] % 16 == 0 && stride[i] < 1ull << 40;
    }
    if (!good || m.box[0] * m.size % 16 || (swizzle == 3 && m.box[0] * m.size > 128)) return INVALID_VALUE;
    return memcpy(map, &m, sizeof m), SUCCESS;
}
// More shared memory than 48 KiB must be asked for, and there is only so much of it (sm_80: 163 KiB, sm_90: 227).
X cuFuncSetAttribute(Function* f, int a, int value) {
    int major;
    cuDeviceGetAttribute(&major, 75, 0);
    if (a != 8 || value > (major >= 9 ? 227 << 10 : 163 << 10)) return INVALID_VALUE;
    return f->most_dynamic = value, SUCCESS;
}
// A thread of a fresh context has 1024 bytes of stack. Where a kernel needs more, the driver would take it from the
// device when the kernel is launched: a graph must not be recorded before it has it.
static size_t stack_limit = 1024;
static size_t stack_of_kernels() { return getenv("PWM_STANDIN_STACK") ? strtoull(getenv("PWM_STANDIN_STACK"), 0, 10) : 0; }
X cuFuncGetAttribute(int* value, int a, Function*) {
    if (a != 3) return INVALID_VALUE;
    return *value = (int)stack_of_kernels(), SUCCESS;
}
X cuCtxGetLimit(size_t* value, int limit) { return *value = stack_limit, limit == 0 ? SUCCESS : INVALID_VALUE; }
X cuCtxSetLimit(int limit, size_t value) { return stack_limit = value, limit == 0 ? SUCCESS : INVALID_VALUE; }
X cuLaunchKernel(Function* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                 unsigned dynamic, Stream* s, void** args, void**) {
    COUNT;
    if (!gx || !gy || !gz || by != 1 || bz != 1 || dynamic > f->most_dynamic || gx % f->cluster) return INVALID_VALUE;
    if (s && s->capture && stack_of_kernels() > stack_limit) return last_error = "no stack", OUT_OF_MEMORY;
    if (!f->launched++) launched_names += f->name + "\n";
    if (s && s->capture) s->capture->kernels += f->name + " ";
    if (!f->call) return sticky;
    // The arguments are copied now, as the driver does, to where each may lie.
    struct alignas(64) Line {
        char bytes[64];
    };
    const uint32_t* size;
    int n = f->sizes(&size);
    std::vector<std::vector<Line>> copies;
    for (int i = 0; i < n; i++) {
        copies.emplace_back((size[i] + 63) / 64);
        memcpy(copies.back().data(), args[i], size[i]);
    }
    return put(s, [=]() mutable {
        std::vector<void*> a;
        for (auto& c : copies) a.push_back(c.data());
        uint32_t g[3] = {gx, gy, gz};
        return launch(f, g, bx, dynamic, a.data());
    });
}
X cuStreamBeginCapture_v2(Stream* s, int) { return COUNT, s->capture = new Graph, SUCCESS; }
X cuStreamEndCapture(Stream* s, Graph** g) {
    *g = s->capture, s->capture = nullptr;
    if (const char* file = getenv("PWM_STANDIN_GRAPHS")) std::ofstream(file, std::ios::app) << (*g)->kernels << std::endl;
    return SUCCESS;
}
X cuGraphInstantiateWithFlags(Graph** e, Graph* g, unsigned long long) { return COUNT, *e = new Graph(*g), SUCCESS; }
X cuGraphDestroy(Graph* g) { return delete g, SUCCESS; }
X cuGraphExecDestroy(Graph* g) { return delete g, SUCCESS; }
X cuGraphLaunch(Graph* g, Stream*) {
    COUNT;
    static int left = getenv("PWM_STANDIN_FAIL") ? atoi(getenv("PWM_STANDIN_FAIL")) : -1;
    if (left >= 0 && left-- == 0) {
        const char* status = getenv("PWM_STANDIN_STATUS");
        sticky = status ? atoi(status) : LAUNCH_FAILED, last_error = "unspecified launch failure", left = 0;
    }
    // As on a GPU, where a launch returns before it runs: waiting tells.
    if (sticky) return SUCCESS;
    for (auto& f : g->work)
        if (Status r = f()) return r;
    return SUCCESS;
}
X cuGetErrorString(int code, const char** s) {
    // CUDA_ERROR_UNKNOWN is the last one.
    if (code > 999) return *s = nullptr, INVALID_VALUE;
    static std::string text;
    text = code == UNAVAILABLE ? "all CUDA-capable devices are busy or unavailable" : code == OUT_OF_MEMORY ? "out of memory" : last_error.empty() ? "error " + std::to_string(code) : last_error;
    return *s = text.c_str(), SUCCESS;
}
