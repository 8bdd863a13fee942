/* Copyright (c) 2026 The gpufleet.ollama developers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Preloaded into the probe: writes every graph that the engine reserves a buffer for into the file ENGINE_GRAPHS.
 *
 * A graph is a line "graph", then one for each operation: its name, type, four lengths, whose memory it shows ("own", the
 * number of another operation, "input", or "outside" for weights, caches and states), whether it is a "layer"'s by its name or
 * only "between", and the numbers of the operations it reads. Operations have numbers from 0. The engine's libraries ask this
 * library first for the function below. */
#include "ggml-backend.h"
#include "ggml.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <string>

namespace {

using Numbers = std::map<const ggml_tensor *, int>;

std::string shown_by(const ggml_tensor *node, const Numbers &numbers) {
    if (!node->view_src) return "own";
    const auto found = numbers.find(node->view_src);
    if (found != numbers.end()) return std::to_string(found->second);
    return node->view_src->flags & GGML_TENSOR_FLAG_INPUT ? "input" : "outside";
}

// "Qcur-12", "Qcur-12 (view)": what the engine names by a layer ends in its number.
const char *part_of(const char *name) {
    for (const char *at = strchr(name, '-'); at; at = strchr(at + 1, '-')) {
        const char *end = at + 1 + strspn(at + 1, "0123456789");
        if (end > at + 1 && (!*end || *end == ' ')) return "layer";
    }
    return "between";
}

void write(ggml_cgraph *graph, FILE *file) {
    Numbers numbers;
    fprintf(file, "graph\n");
    for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
        const ggml_tensor *node = ggml_graph_node(graph, i);
        fprintf(file, "%s %s %lld %lld %lld %lld %s %s", ggml_op_desc(node), ggml_type_name(node->type), (long long) node->ne[0],
                (long long) node->ne[1], (long long) node->ne[2], (long long) node->ne[3], shown_by(node, numbers).c_str(),
                part_of(node->name));
        for (const ggml_tensor *source : node->src) {
            const auto found = numbers.find(source);
            if (source && found != numbers.end()) fprintf(file, " %d", found->second);
        }
        fprintf(file, "\n");
        numbers[node] = i;
    }
}

} // namespace

extern "C" bool ggml_backend_sched_reserve(ggml_backend_sched_t scheduler, ggml_cgraph *graph) {
    using Reserve = bool (*)(ggml_backend_sched_t, ggml_cgraph *);
    static const auto real = reinterpret_cast<Reserve>(dlsym(RTLD_NEXT, "ggml_backend_sched_reserve"));
    const char *path = getenv("ENGINE_GRAPHS");
    if (FILE *file = path ? fopen(path, "a") : nullptr) {
        write(graph, file);
        fclose(file);
    }
    return real(scheduler, graph);
}
