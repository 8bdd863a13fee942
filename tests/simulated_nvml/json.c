/* Copyright (c) 2026 The gpufleet.ollama developers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * No strtod and no stat(): their symbols carry newer versions in newer C libraries, and the library that is built
 * on one distribution has to load on older ones. */
#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAXIMUM_FILE_BYTES = 16 * 1024 * 1024, MAXIMUM_DEPTH = 64 };

struct reader {
    const char *at;
    const char *wrong;
};

static struct json *value(struct reader *r, int depth);

static void skip_space(struct reader *r) {
    while (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r') r->at++;
}

static int take(struct reader *r, char wanted) {
    skip_space(r);
    if (*r->at != wanted) return 0;
    r->at++;
    return 1;
}

static struct json *node(enum json_kind kind) {
    struct json *made = calloc(1, sizeof *made);
    if (made) made->kind = kind;
    return made;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Text of ASCII and UTF-8; \u escapes are kept to ASCII, which is all that NVML's strings hold. */
static char *string(struct reader *r) {
    const char *end = r->at;
    while (*end && *end != '"') end += (*end == '\\' && end[1]) ? 2 : 1;
    char *text = malloc((size_t)(end - r->at) + 1), *out = text;
    if (!text) return NULL;
    while (*r->at && *r->at != '"') {
        char c = *r->at++;
        if (c == '\\') {
            static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
            c = *r->at++;
            const char *known = c ? strchr(from, c) : NULL;
            if (c == 'u') {
                int code = 0;
                for (int i = 0; i < 4; i++) {
                    int digit = hex_digit(*r->at);
                    if (digit < 0) { r->wrong = "a bad \\u escape"; free(text); return NULL; }
                    code = code * 16 + digit;
                    r->at++;
                }
                c = code < 128 ? (char)code : '?';
            } else if (known) {
                c = to[known - from];
            } else {
                r->wrong = "a bad escape";
                free(text);
                return NULL;
            }
        }
        *out++ = c;
    }
    *out = 0;
    if (*r->at != '"') { r->wrong = "a string without an end"; free(text); return NULL; }
    r->at++;
    return text;
}

static struct json *number(struct reader *r) {
    struct json *made = node(JSON_NUMBER);
    int negative = *r->at == '-', exponent = 0, exponent_negative = 0;
    double scale = 1;
    if (!made) return NULL;
    if (negative) r->at++;
    if (*r->at < '0' || *r->at > '9') { r->wrong = "a character that begins no value"; return made; }
    for (; *r->at >= '0' && *r->at <= '9'; r->at++) {
        made->number = made->number * 10 + (unsigned)(*r->at - '0');
        made->real = made->real * 10 + (*r->at - '0');
    }
    if (*r->at == '.')
        for (r->at++; *r->at >= '0' && *r->at <= '9'; r->at++) made->real += (*r->at - '0') * (scale /= 10);
    if (*r->at == 'e' || *r->at == 'E') {
        r->at++;
        exponent_negative = *r->at == '-';
        if (*r->at == '-' || *r->at == '+') r->at++;
        for (; *r->at >= '0' && *r->at <= '9' && exponent < 400; r->at++) exponent = exponent * 10 + (*r->at - '0');
        while (exponent-- > 0) made->real = exponent_negative ? made->real / 10 : made->real * 10;
        made->number = (unsigned long long)made->real;
    }
    if (negative) {
        made->real = -made->real;
        made->number = 0ULL - made->number;
    }
    return made;
}

static struct json *word(struct reader *r) {
    static const struct { const char *text; enum json_kind kind; unsigned number; } words[] = {
        {"true", JSON_BOOL, 1}, {"false", JSON_BOOL, 0}, {"null", JSON_NULL, 0}};
    for (unsigned i = 0; i < 3; i++) {
        size_t length = strlen(words[i].text);
        if (strncmp(r->at, words[i].text, length) == 0) {
            struct json *made = node(words[i].kind);
            r->at += length;
            if (made) made->number = words[i].number;
            return made;
        }
    }
    return number(r);
}

static struct json *container(struct reader *r, enum json_kind kind, char end, int depth) {
    struct json *made = node(kind), **last = made ? &made->first : NULL;
    if (!made || take(r, end)) return made;
    do {
        char *key = NULL;
        if (kind == JSON_OBJECT) {
            if (!take(r, '"')) { r->wrong = "a member without a name"; return made; }
            key = string(r);
            if (!key || !take(r, ':')) {
                free(key);
                if (!r->wrong) r->wrong = "a name without a colon";
                return made;
            }
        }
        *last = value(r, depth + 1);
        if (!*last) { free(key); return made; }
        (*last)->key = key;
        last = &(*last)->next;
    } while (!r->wrong && take(r, ','));
    if (!r->wrong && !take(r, end)) r->wrong = "a missing comma or bracket";
    return made;
}

static struct json *value(struct reader *r, int depth) {
    if (depth > MAXIMUM_DEPTH) { r->wrong = "too deep a nesting"; return NULL; }
    skip_space(r);
    if (take(r, '{')) return container(r, JSON_OBJECT, '}', depth);
    if (take(r, '[')) return container(r, JSON_ARRAY, ']', depth);
    if (take(r, '"')) {
        struct json *made = node(JSON_STRING);
        if (made) made->text = string(r);
        return made;
    }
    return word(r);
}

static char *contents(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    size_t size = 0, room = 65536;
    char *text = malloc(room + 1);
    while (text) {
        size_t got = fread(text + size, 1, room - size, file);
        size += got;
        if (got == 0 || size >= MAXIMUM_FILE_BYTES) break;
        if (size == room) {
            char *larger = realloc(text, (room *= 2) + 1);
            if (!larger) { free(text); text = NULL; break; }
            text = larger;
        }
    }
    fclose(file);
    if (text) text[size] = 0;
    return text;
}

struct json *json_read(const char *path, char *error, unsigned error_size) {
    char *text = contents(path);
    if (!text) {
        snprintf(error, error_size, "%s cannot be read", path);
        return NULL;
    }
    struct reader r = {text, NULL};
    struct json *tree = value(&r, 0);
    skip_space(&r);
    if (!r.wrong && *r.at) r.wrong = "something after the end";
    if (r.wrong || !tree) {
        snprintf(error, error_size, "%s has %s at byte %ld", path, r.wrong ? r.wrong : "no room in memory",
                 (long)(r.at - text));
        json_free(tree);
        tree = NULL;
    }
    free(text);
    return tree;
}

void json_free(struct json *node) {
    while (node) {
        struct json *next = node->next;
        json_free(node->first);
        free(node->key);
        free(node->text);
        free(node);
        node = next;
    }
}

struct json *json_at(const struct json *node, const char *path) {
    while (node && *path) {
        size_t length = strcspn(path, ".");
        struct json *child = node->kind == JSON_OBJECT ? node->first : NULL;
        while (child && !(child->key && strlen(child->key) == length && strncmp(child->key, path, length) == 0))
            child = child->next;
        node = child;
        path += length + (path[length] == '.');
    }
    return (struct json *)node;
}

struct json *json_item(const struct json *array, unsigned index) {
    struct json *item = array ? array->first : NULL;
    while (item && index--) item = item->next;
    return item;
}

unsigned json_count(const struct json *array) {
    unsigned count = 0;
    for (const struct json *item = array ? array->first : NULL; item; item = item->next) count++;
    return count;
}
