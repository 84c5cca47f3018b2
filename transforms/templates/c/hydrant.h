/* The contract with hydrant, wit/hydrant.wit, for C: the structs of the canonical ABI and the four functions that hydrant
 * calls. Include it in one file, which has the two functions `transform_init` and `transform`.
 *
 * Memory: what hydrant gives (events) and what you give back (results of `hydrant_bytes`, and what else lies in memory)
 * stays until hydrant has copied your answer to the batch; then all of `hydrant_bytes` is free again, at once. What you
 * take in `transform_init` stays for ever. `malloc` and `free` are yours. */
#ifndef HYDRANT_H
#define HYDRANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Bytes or UTF-8 text that lies elsewhere, without a 0 at its end. */
typedef struct {
    const char *at;
    size_t len;
} hydrant_text;

/* The text of a literal. */
#define HYDRANT_TEXT(literal) ((hydrant_text){(literal), sizeof(literal) - 1})

typedef struct {
    hydrant_text name, value;
} hydrant_pair;

typedef struct {
    hydrant_text topic;
    uint32_t partition;
    uint64_t offset;
    const hydrant_pair *headers;
    size_t headers_len;
} hydrant_origin;

/* A record on its way: 72 bytes. */
typedef struct {
    hydrant_text data;
    uint64_t arrival_ms; /* when hydrant received it, in milliseconds since the Unix epoch */
    uint8_t has_key;
    hydrant_text key;
    _Alignas(8) uint8_t has_origin;
    hydrant_origin origin;
} hydrant_event;

/* What a record becomes: 16 bytes. */
typedef struct {
    hydrant_text data;
    const hydrant_pair *partition_keys;
    size_t partition_keys_len;
} hydrant_output;

/* What became of a record: 12 bytes. `items` are outputs, or the reason's text if it failed. */
typedef struct {
    uint8_t failed;
    const void *items;
    size_t len;
} hydrant_outcome;

/* --- what you write --- */

/* Once, before any record, with the `config` of the pipeline file (JSON; empty if there is none). Gives an empty text if
 * all is well, else why not: then the pipeline does not start. */
static hydrant_text transform_init(hydrant_text config);

/* One record. Call `hydrant_emit` for each record that it becomes: not at all, and it is dropped. Gives an empty text, or
 * why the record failed: then it is set aside whole with this reason. */
static hydrant_text transform(const hydrant_event *event);

/* --- what you call --- */

enum hydrant_level { HYDRANT_DEBUG, HYDRANT_INFO, HYDRANT_WARN, HYDRANT_ERROR };

__attribute__((import_module("hydrant:transform/host@0.1.0"), import_name("log")))
void hydrant_log_raw(uint32_t level, const char *message, size_t len);

/* Writes a line to the pipeline's log. */
static inline void hydrant_log(enum hydrant_level level, hydrant_text message) {
    hydrant_log_raw(level, message.at, message.len);
}

typedef struct hydrant_block {
    struct hydrant_block *before;
    size_t len, used;
} hydrant_block;

static hydrant_block *hydrant_blocks;

/* This many bytes of memory until the batch is answered; 8-byte aligned. Traps if there is none. */
static inline void *hydrant_bytes(size_t len) {
    len = (len + 7) & ~(size_t)7;
    if (!hydrant_blocks || hydrant_blocks->len - hydrant_blocks->used < len) {
        size_t of_block = len > 256 * 1024 ? len : 256 * 1024;
        hydrant_block *block = malloc(sizeof(hydrant_block) + 8 + of_block);
        if (!block) __builtin_trap();
        *block = (hydrant_block){hydrant_blocks, of_block, 0};
        hydrant_blocks = block;
    }
    char *start = (char *)(((uintptr_t)(hydrant_blocks + 1) + 7) & ~(uintptr_t)7) + hydrant_blocks->used;
    hydrant_blocks->used += len;
    return start;
}

static struct {
    hydrant_output *outputs;
    size_t len, room;
} hydrant_emitted;

/* The record becomes this, with these partition keys. `data` may point into the event. */
static inline void hydrant_emit_with_keys(hydrant_text data, const hydrant_pair *keys, size_t keys_len) {
    if (hydrant_emitted.len == hydrant_emitted.room) {
        size_t room = hydrant_emitted.room ? 2 * hydrant_emitted.room : 1;
        hydrant_output *outputs = hydrant_bytes(room * sizeof(hydrant_output));
        if (hydrant_emitted.len) memcpy(outputs, hydrant_emitted.outputs, hydrant_emitted.len * sizeof(hydrant_output));
        hydrant_emitted.outputs = outputs;
        hydrant_emitted.room = room;
    }
    hydrant_emitted.outputs[hydrant_emitted.len++] = (hydrant_output){data, keys, keys_len};
}

/* The record becomes this. */
static inline void hydrant_emit(hydrant_text data) {
    hydrant_emit_with_keys(data, NULL, 0);
}

/* --- what hydrant calls --- */

_Static_assert(sizeof(void *) == 4, "build for wasm32");
_Static_assert(sizeof(hydrant_event) == 72 && offsetof(hydrant_event, key) == 20, "event");
_Static_assert(offsetof(hydrant_event, has_origin) == 32 && offsetof(hydrant_event, origin) == 40, "event");
_Static_assert(offsetof(hydrant_origin, offset) == 16 && offsetof(hydrant_origin, headers) == 24, "origin");
_Static_assert(sizeof(hydrant_pair) == 16 && sizeof(hydrant_output) == 16 && sizeof(hydrant_outcome) == 12, "answer");

__attribute__((export_name("cabi_realloc")))
void *hydrant_cabi_realloc(void *old, size_t old_len, size_t align, size_t len) {
    (void)align;
    if (len == 0) return (void *)8;
    void *new = hydrant_bytes(len);
    if (old_len) memcpy(new, old, old_len < len ? old_len : len);
    return new;
}

__attribute__((export_name("hydrant:transform/transformer@0.1.0#init")))
hydrant_outcome *hydrant_init(const char *config, size_t len) {
    static hydrant_outcome answer;
    hydrant_text wrong = transform_init((hydrant_text){config, len});
    answer = (hydrant_outcome){wrong.len != 0, wrong.at, wrong.len};
    hydrant_blocks = NULL; /* stays for ever */
    return &answer;
}

typedef struct {
    hydrant_outcome *outcomes;
    size_t len;
} hydrant_answer;

__attribute__((export_name("hydrant:transform/transformer@0.1.0#process")))
hydrant_answer *hydrant_process(const hydrant_event *events, size_t len) {
    static hydrant_answer answer;
    answer = (hydrant_answer){hydrant_bytes(len * sizeof(hydrant_outcome)), len};
    for (size_t i = 0; i < len; i++) {
        memset(&hydrant_emitted, 0, sizeof(hydrant_emitted));
        hydrant_text wrong = transform(&events[i]);
        answer.outcomes[i] = wrong.len ? (hydrant_outcome){1, wrong.at, wrong.len}
                                       : (hydrant_outcome){0, hydrant_emitted.outputs, hydrant_emitted.len};
    }
    return &answer;
}

/* The answer is copied: all memory of the batch is free, and the largest block is kept for the next one. */
__attribute__((export_name("cabi_post_hydrant:transform/transformer@0.1.0#process")))
void hydrant_answered(hydrant_answer *answer) {
    (void)answer;
    hydrant_block *kept = NULL;
    while (hydrant_blocks) {
        hydrant_block *block = hydrant_blocks, *less = block;
        hydrant_blocks = block->before;
        if (!kept || block->len > kept->len) less = kept, kept = block;
        free(less);
    }
    if (kept) kept->before = NULL, kept->used = 0;
    hydrant_blocks = kept;
}

#endif
