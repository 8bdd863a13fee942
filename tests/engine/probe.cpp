/* Copyright (c) 2026 The gpufleet.ollama developers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * What an engine build holds: probe ENGINE_FOLDER MODEL.gguf, points on standard input, JSON lines on standard output.
 *
 * A point is a line "CONTEXT PARALLEL UBATCH CACHE_TYPE FLASH_ATTENTION EMBEDDING FILL STEPS", the context per slot.
 * FILL > 0 puts so many tokens into every slot, then decodes STEPS tokens in all slots at once. One line tells of the
 * loaded model, one of each point while its context lives, and one when it has ended, which is at the next point.
 * The server of Ollama starts the engine with the same parameters. On a simulated machine devices tell what they hold,
 * on a real one how much is free. */
#include "account.h"
#include "ggml-backend.h"
#include "llama.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <sstream>
#include <string>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

// The engine reads mapped weights ahead, which for a sparse file would fill memory with zeros: not here.
extern "C" void *mmap(void *at, size_t size, int access, int flags, int file, off_t offset) noexcept {
    return reinterpret_cast<void *>(syscall(SYS_mmap, at, size, access, flags & ~MAP_POPULATE, file, offset));
}
extern "C" int posix_madvise(void *, size_t, int) noexcept { return 0; }

namespace {

struct Point {
    int context, parallel, ubatch, is_embedding, fill, steps;
    char cache_type[32], flash_attention[16];
};

// --- What is logged and told ---

std::string log_lines;

void collect(ggml_log_level, const char *text, void *) { log_lines += text; }

// What a reader of buffers, layers and failures needs, since the last call; at debug level the engine says much more.
std::string taken_log() {
    std::istringstream lines(log_lines);
    std::string taken, line;
    while (std::getline(lines, line))
        for (const char *word : {"buffer size", "creating", "splits = ", "assigned to device", "lash", "pipeline", "rror", "ailed",
                                 "requires", "unknown", "unsupported", "missing"})
            if (line.find(word) != std::string::npos) {
                taken += line + "\n";
                break;
            }
    log_lines.clear();
    return taken;
}

std::string quoted(const std::string &text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += std::string("\\") + c;
        else if (c == '\n') out += "\\n";
        else if (static_cast<unsigned char>(c) >= ' ') out += c;
    }
    return out + "\"";
}

double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// --- Memory of the devices ---

int (*simulated_account)(int, account *);
void (*simulated_reset_peaks)();

void find_simulation() {
    void *runtime = dlopen("libcudart.so.13", RTLD_NOW | RTLD_NOLOAD);
    if (!runtime) return;
    simulated_account = reinterpret_cast<decltype(simulated_account)>(dlsym(runtime, "simulated_cuda_account"));
    simulated_reset_peaks = reinterpret_cast<decltype(simulated_reset_peaks)>(dlsym(runtime, "simulated_cuda_reset_peaks"));
}

void reset_peaks() {
    if (simulated_reset_peaks) simulated_reset_peaks();
}

std::string of_simulation(const account &one) {
    char text[512];
    snprintf(text, sizeof text,
             "{\"allocated\":%lu,\"mapped\":%lu,\"host\":%lu,\"peak\":%lu,\"launches\":%lu,\"peer\":%lu,\"cublas_handles\":%lu}",
             one.held_bytes[ALLOCATED] + one.held_bytes[MANAGED], one.held_bytes[MAPPED], one.held_bytes[ON_HOST],
             one.peak_bytes, one.launches, one.peer_bytes, one.cublas_handles);
    return text;
}

std::string of_device(ggml_backend_dev_t device) {
    size_t free = 0, total = 0;
    ggml_backend_dev_memory(device, &free, &total);
    char text[128];
    snprintf(text, sizeof text, "{\"free\":%zu,\"total\":%zu}", free, total);
    return text;
}

std::string devices() {
    std::string out;
    account one;
    for (int i = 0; simulated_account && simulated_account(i, &one) == 0; i++) out += (i ? "," : "") + of_simulation(one);
    for (size_t i = 0; !simulated_account && i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        if (ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_GPU) out += (out.empty() ? "" : ",") + of_device(device);
    }
    return "[" + out + "]";
}

// --- Parameters, some of which not every build has ---

template <class P> auto set_outputs(P &p, uint32_t count, int) -> decltype(p.n_outputs_max, void()) { p.n_outputs_max = count; }
template <class P> void set_outputs(P &, uint32_t, long) {}

template <class P> auto set_outputs_of_slot(P &p, uint32_t count, int) -> decltype(p.n_outputs_max_per_seq, void()) {
    p.n_outputs_max_per_seq = count;
}
template <class P> void set_outputs_of_slot(P &, uint32_t, long) {}

template <class P> auto set_snapshots(P &p, uint32_t count, int) -> decltype(p.n_rs_seq, void()) { p.n_rs_seq = count; }
template <class P> void set_snapshots(P &, uint32_t, long) {}

template <class P> auto set_mapped(P &p, int) -> decltype(p.load_mode, void()) {
    p.load_mode = static_cast<decltype(p.load_mode)>(1); // LLAMA_LOAD_MODE_MMAP
}
template <class P> void set_mapped(P &p, long) { p.use_mmap = true; }

template <class P> auto set_prediction_weights(P &p, bool wanted, int) -> decltype(p.load_mtp, void()) { p.load_mtp = wanted; }
template <class P> void set_prediction_weights(P &, bool, long) {}

template <class P> auto set_prediction(P &p, llama_context *target, int) -> decltype(p.ctx_other, bool()) {
    p.ctx_type = static_cast<decltype(p.ctx_type)>(1); // LLAMA_CONTEXT_TYPE_MTP
    p.ctx_other = target;
    return true;
}
template <class P> bool set_prediction(P &, llama_context *, long) { return false; }

// Of src/llama-ext.h, which no package of headers has.
} // namespace
__attribute__((weak)) void llama_set_embeddings_nextn(llama_context *, bool, bool);
namespace {

ggml_type cache_type(const char *name) {
    for (int i = 0; i < GGML_TYPE_COUNT; i++) {
        const char *known = ggml_type_name(static_cast<ggml_type>(i));
        if (known && !strcmp(known, name)) return static_cast<ggml_type>(i);
    }
    fprintf(stderr, "no type of the cache: %s\n", name);
    exit(2);
}

llama_flash_attn_type flash_attention(const char *name) {
    if (!strcmp(name, "on")) return LLAMA_FLASH_ATTN_TYPE_ENABLED;
    return strcmp(name, "off") ? LLAMA_FLASH_ATTN_TYPE_AUTO : LLAMA_FLASH_ATTN_TYPE_DISABLED;
}

int from_environment(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}

// Tokens that the model's own prediction blocks draft; 0: they are not used, as without draft_num_predict.
int drafted() { return from_environment("PROBE_DRAFT", 0); }

llama_context_params context_params(const Point &point, int tokens_drafted) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<uint32_t>(point.context) * point.parallel;
    params.n_seq_max = point.parallel;
    params.n_batch = params.n_ubatch = point.ubatch;
    params.type_k = params.type_v = cache_type(point.cache_type);
    params.flash_attn_type = flash_attention(point.flash_attention);
    params.offload_kqv = params.op_offload = true;
    params.swa_full = params.kv_unified = false;
    params.embeddings = point.is_embedding;
    params.n_threads = params.n_threads_batch = from_environment("PROBE_THREADS", 2);
    set_outputs(params, point.is_embedding ? point.ubatch : std::min(point.ubatch, point.parallel * (1 + tokens_drafted)), 0);
    set_outputs_of_slot(params, std::min(point.ubatch, 1 + tokens_drafted), 0);
    set_snapshots(params, tokens_drafted, 0);
    return params;
}

// --- Decoding ---

class Batch {
public:
    explicit Batch(int room) : batch(llama_batch_init(room, 0, 1)) {}
    ~Batch() { llama_batch_free(batch); }
    // Embeddings beside tokens, as for a context that predicts from what another has made of them.
    Batch(int room, int embedding) : batch(llama_batch_init(room, embedding, 1)) {
        batch.token = static_cast<llama_token *>(calloc(room, sizeof(llama_token)));
        memset(batch.embd, 0, sizeof(float) * room * embedding);
    }
    void add(int slot, int position, bool has_output) {
        const int i = batch.n_tokens++;
        batch.token[i] = 5 + position % 7;
        batch.pos[i] = position;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = slot;
        batch.logits[i] = has_output;
    }
    int decode(llama_context *context) {
        const int code = llama_decode(context, batch);
        llama_synchronize(context);
        batch.n_tokens = 0;
        return code;
    }

private:
    llama_batch batch;
};

int fill_slots(llama_context *context, const Point &point) {
    Batch batch(point.ubatch);
    for (int slot = 0; slot < point.parallel; slot++)
        for (int done = 0; done < point.fill;) {
            const int end = std::min(done + point.ubatch, point.fill);
            for (; done < end; done++) batch.add(slot, done, done + 1 == point.fill);
            if (const int code = batch.decode(context)) return code;
        }
    return 0;
}

int step_slots(llama_context *context, const Point &point) {
    Batch batch(point.parallel);
    for (int step = 0; step < point.steps; step++) {
        for (int slot = 0; slot < point.parallel; slot++) batch.add(slot, point.fill + step, true);
        if (const int code = batch.decode(context)) return code;
    }
    return 0;
}

// --- The runs ---

void tell(const std::string &line) {
    puts(line.c_str());
    fflush(stdout);
}

std::string number(const char *key, double value) {
    char text[64];
    snprintf(text, sizeof text, "\"%s\":%.10g,", key, value);
    return text;
}

llama_model *load(const char *path) {
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = from_environment("PROBE_GPU_LAYERS", -1);
    set_mapped(params, 0);
    set_prediction_weights(params, drafted() > 0, 0);
    const std::string before = devices();
    const double started = seconds();
    llama_model *model = llama_model_load_from_file(path, params);
    tell("{" + number("seconds", seconds() - started) + "\"loaded\":" + (model ? "true" : "false") + ",\"before\":" + before
         + ",\"model\":" + devices() + ",\"log\":" + quoted(taken_log()) + "}");
    return model;
}

// The context that drafts with a model's own prediction blocks, beside the one that it drafts for; it samples on the device,
// which is reserved for when it is first used. Source: llama.cpp common/speculative.cpp, common_speculative_impl_draft_mtp.
llama_context *prediction_context(llama_model *model, llama_context *target, const Point &point) {
    llama_context_params params = context_params(point, 0);
    params.type_k = params.type_v = GGML_TYPE_F16; // its own default, which Ollama leaves it
    llama_context *made = drafted() && set_prediction(params, target, 0) ? llama_init_from_model(model, params) : nullptr;
    if (!made || !llama_set_embeddings_nextn) return made;
    for (int slot = 0; slot < point.parallel; slot++) {
        llama_sampler *chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
        llama_sampler_chain_add(chain, llama_sampler_init_top_k(10));
        llama_set_sampler(made, slot, chain);
    }
    llama_set_embeddings_nextn(target, true, false);
    llama_set_embeddings_nextn(made, true, true);
    return made;
}

// One whole batch in both contexts, as a prompt's first tokens.
int first_batch(llama_model *model, llama_context *target, llama_context *prediction, const Point &point) {
    const int each = std::min(point.ubatch, point.context);
    Batch tokens(each), predicted(each, llama_model_n_embd(model));
    for (int i = 0; i < each; i++) {
        tokens.add(0, i, i + 1 == each);
        predicted.add(0, i, i + 1 == each);
    }
    const int code = tokens.decode(target);
    return code ? code : predicted.decode(prediction);
}

struct Contexts {
    llama_context *main = nullptr, *prediction = nullptr;

    // Both print their compute buffers to four digits when they end.
    void end() {
        if (!main) return;
        if (prediction) llama_free(prediction);
        llama_free(main);
        *this = Contexts();
        tell("{\"ended\":" + devices() + ",\"log\":" + quoted(taken_log()) + "}");
    }
};

Contexts run(llama_model *model, const Point &point) {
    Contexts contexts;
    taken_log();
    reset_peaks();
    std::string line = "{\"before\":" + devices();
    double started = seconds();
    contexts.main = llama_init_from_model(model, context_params(point, drafted()));
    const double made = seconds() - started;
    line += ",\"context\":" + devices() + ",\"log\":" + quoted(taken_log());
    if (contexts.main && (contexts.prediction = prediction_context(model, contexts.main, point)))
        line += ",\"prediction\":" + devices() + ",\"prediction_log\":" + quoted(taken_log());
    int code = 0;
    if (contexts.prediction) {
        code = first_batch(model, contexts.main, contexts.prediction, point);
        line += ",\"predicted\":" + devices() + ",\"predicted_log\":" + quoted(taken_log());
    }
    double filled = 0, stepped = 0;
    if (contexts.main && point.fill) {
        reset_peaks();
        started = seconds();
        code = fill_slots(contexts.main, point);
        filled = seconds() - started;
        line += ",\"fill\":" + devices();
        reset_peaks();
        started = seconds();
        if (!code) code = step_slots(contexts.main, point);
        stepped = seconds() - started;
        line += ",\"steps\":" + devices();
    }
    tell(line + "," + number("seconds", made) + number("fill_seconds", filled) + number("step_seconds", stepped)
         + number("code", code) + number("cells", contexts.main ? llama_n_ctx(contexts.main) : 0)
         + "\"started\":" + (contexts.main ? "true" : "false") + "}");
    return contexts;
}

} // namespace

// Headers of another build may have parameters in other places: what the library fills in must be found where they say.
bool headers_fit() {
    const llama_context_params params = llama_context_default_params();
    return params.n_ctx == 512 && params.n_batch == 2048 && params.n_ubatch == 512 && params.n_seq_max == 1
           && params.yarn_ext_factor == -1.0f && params.type_k == GGML_TYPE_F16 && params.type_v == GGML_TYPE_F16
           && params.offload_kqv && params.op_offload && params.swa_full && !params.kv_unified
           && llama_model_default_params().split_mode == LLAMA_SPLIT_MODE_LAYER;
}

int main(int count, char **arguments) {
    if (!headers_fit()) return fprintf(stderr, "the headers of another build do not fit this libllama: try its neighbours'\n"), 4;
    if (count != 3) return fprintf(stderr, "probe ENGINE_FOLDER MODEL.gguf < points\n"), 2;
    llama_log_set(collect, nullptr);
    ggml_backend_load_all_from_path(arguments[1]);
    llama_backend_init();
    find_simulation();
    llama_model *model = load(arguments[2]);
    if (!model) return 3;
    Contexts contexts;
    Point p;
    while (scanf("%d %d %d %31s %15s %d %d %d", &p.context, &p.parallel, &p.ubatch, p.cache_type, p.flash_attention,
                 &p.is_embedding, &p.fill, &p.steps) == 8) {
        contexts.end();
        contexts = run(model, p);
    }
    contexts.end();
    llama_model_free(model);
    return 0;
}
