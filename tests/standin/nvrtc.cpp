// A stand-in for the run-time compiler: the same calls, but the source is compiled as C++ behind the shim. The "code"
// it gives is the name of a shared library. PWM_STANDIN_CXX is the compiler with its options (without it nothing is
// compiled, and no code can be loaded), PWM_STANDIN_SHIM the folder of shim.hpp, PWM_STANDIN_OUT a folder to work in,
// PWM_STANDIN_ARCH the newest architecture that it knows, PWM_STANDIN_NVRTC the major version that it says it is of.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

typedef int Status;
struct Program {
    std::string source, log, library;
    std::vector<std::pair<std::string, std::string>> headers;
};
static std::string env(const char* name) { return getenv(name) ? getenv(name) : ""; }
static void write_file(const std::string& path, const std::string& text) {
    for (size_t at = 1; (at = path.find('/', at)) != std::string::npos; at++) mkdir(path.substr(0, at).c_str(), 0777);
    std::ofstream(path) << text;
}

// Compiles a file. Whoever else does the same at this time does it in a place of their own.
static int compile(const std::string& options, const std::string& from, const std::string& to, const std::string& log) {
    std::string command = env("PWM_STANDIN_CXX") + " -std=c++17 -fPIC -ffp-contract=off -w " + options + " -I" +
                          env("PWM_STANDIN_SHIM") + " " + from + " -o " + to + " 2> " + log;
    return system(command.c_str());
}
static std::string beside(const std::string& path) {
    static std::atomic<int> count{0};
    return path + "." + std::to_string(getpid()) + "." + std::to_string(count++);
}
// A folder with the shim as the compiler keeps it: half of the time of a small unit is what the shim includes. A
// compiler that does not know such files finds the shim itself in the next folder.
static std::string precompiled(const std::string& hash) {
    std::string dir = env("PWM_STANDIN_OUT") + "/shim" + hash, path = dir + "/shim.hpp.gch", mine = beside(path);
    if (access(path.c_str(), R_OK) == 0) return dir;
    write_file(mine, "");
    if (compile("-x c++-header", env("PWM_STANDIN_SHIM") + "/shim.hpp", mine, mine + ".log") == 0) rename(mine.c_str(), path.c_str());
    return dir;
}

#define X extern "C" Status
X nvrtcVersion(int* major, int* minor) { return *major = getenv("PWM_STANDIN_NVRTC") ? atoi(getenv("PWM_STANDIN_NVRTC")) : 0, *minor = 1, 0; }
X nvrtcCreateProgram(Program** p, const char* source, const char*, int n, const char** texts, const char** names) {
    *p = new Program{source, "", "", {}};
    for (int i = 0; i < n; i++) (*p)->headers.push_back({names[i], texts[i]});
    return 0;
}
X nvrtcDestroyProgram(Program** p) { return delete *p, *p = nullptr, 0; }
X nvrtcCompileProgram(Program* p, int, const char**) {
    if (!getenv("PWM_STANDIN_CXX")) return 0;
    // By content, with that of the shim: the same source is compiled once.
    std::string shim = env("PWM_STANDIN_CXX");
    for (const char* name : {"shim.hpp", "hardware.hpp", "hopper.hpp"}) {
        std::stringstream text;
        text << std::ifstream(env("PWM_STANDIN_SHIM") + "/" + name).rdbuf();
        shim += text.str();
    }
    std::string all = p->source + shim;
    for (auto& h : p->headers) all += h.first + h.second;
    std::string dir = env("PWM_STANDIN_OUT") + "/" + std::to_string(std::hash<std::string>()(all));
    p->library = dir + "/unit.so";
    if (access(p->library.c_str(), R_OK) == 0) return 0;
    std::string work = beside(dir);
    for (auto& h : p->headers) write_file(work + "/" + h.first, h.second);
    write_file(work + "/unit.cpp", "#include \"shim.hpp\"\n" + p->source);
    std::string folders = " -I" + precompiled(std::to_string(std::hash<std::string>()(shim))) + " -I" + work;
    int status = compile("-shared" + folders, work + "/unit.cpp", work + "/unit.so", work + "/log");
    std::stringstream log;
    log << std::ifstream(work + "/log").rdbuf();
    p->log = log.str();
    if (status != 0) return 6;
    rename(work.c_str(), dir.c_str());
    return access(p->library.c_str(), R_OK) == 0 ? 0 : 6;
}
X nvrtcGetProgramLogSize(Program* p, size_t* n) { return *n = p->log.size() + 1, 0; }
X nvrtcGetProgramLog(Program* p, char* s) { return strcpy(s, p->log.c_str()), 0; }
X nvrtcGetCUBINSize(Program* p, size_t* n) { return *n = p->library.size() + 1, 0; }
X nvrtcGetCUBIN(Program* p, char* s) { return strcpy(s, p->library.c_str()), 0; }
X nvrtcGetPTXSize(Program* p, size_t* n) { return nvrtcGetCUBINSize(p, n); }
X nvrtcGetPTX(Program* p, char* s) { return nvrtcGetCUBIN(p, s); }
static const int ARCHITECTURES[] = {50, 75, 80, 90, 100};
X nvrtcGetNumSupportedArchs(int* n) {
    *n = 0;
    for (int a : ARCHITECTURES) *n += a <= (getenv("PWM_STANDIN_ARCH") ? atoi(getenv("PWM_STANDIN_ARCH")) : 100);
    return 0;
}
X nvrtcGetSupportedArchs(int* list) {
    int n;
    nvrtcGetNumSupportedArchs(&n);
    return memcpy(list, ARCHITECTURES, n * sizeof *list), 0;
}
