/* Just enough JSON to look at, and replace, members of an object without reading all of it. Slices point into the text. */
#ifndef JSON_H
#define JSON_H

#include "hydrant.h"

static inline const char *json_blank(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
    return at;
}

/* Behind the string that begins at `at`, or NULL. */
static inline const char *json_string_end(const char *at, const char *end) {
    if (at == end || *at != '"') return NULL;
    for (at++; at < end; at++) {
        if (*at == '\\') at++;
        else if (*at == '"') return at + 1;
    }
    return NULL;
}

/* Behind the value that begins at `at`, or NULL. Of numbers and words only the characters are looked at. */
static inline const char *json_value_end(const char *at, const char *end) {
    size_t depth = 0;
    const char *start = at;
    while (at < end) {
        switch (*at) {
        case '"':
            if (!(at = json_string_end(at, end))) return NULL;
            break;
        case '{': case '[':
            depth++, at++;
            break;
        case '}': case ']': case ',': case ':': case ' ': case '\t': case '\n': case '\r':
            if (depth == 0) return at > start ? at : NULL;
            if (*at == '}' || *at == ']') depth--;
            at++;
            break;
        default:
            do at++; while (at < end && !strchr("\"{}[],: \t\n\r", *at));
        }
        if (depth == 0) return at;
    }
    return NULL;
}

/* The value of this member of an object as it is written, a string with its quotes; a member that is not there has no bytes.
 * Gives `false` if the text is no JSON object, or one of which it cannot be told: if the name is there twice, or if a name
 * is written with escapes (`\u0041`). */
static inline bool json_member(hydrant_text object, const char *name, hydrant_text *value) {
    const char *at = object.at, *end = at + object.len;
    size_t name_len = strlen(name);
    *value = (hydrant_text){NULL, 0};
    at = json_blank(at, end);
    if (at == end || *at != '{') return false;
    at = json_blank(at + 1, end);
    if (at < end && *at == '}') return json_blank(at + 1, end) == end;
    for (;;) {
        const char *member = at, *member_end = json_string_end(at, end);
        if (!member_end) return false;
        at = json_blank(member_end, end);
        if (at == end || *at != ':') return false;
        at = json_blank(at + 1, end);
        const char *value_end = json_value_end(at, end);
        if (!value_end) return false;
        for (const char *c = member; c + 1 < member_end; c += *c == '\\' ? 2 : 1)
            if (*c == '\\' && c[1] == 'u') return false;
        if ((size_t)(member_end - member) == name_len + 2 && !memcmp(member + 1, name, name_len)) {
            if (value->at) return false;
            *value = (hydrant_text){at, (size_t)(value_end - at)};
        }
        at = json_blank(value_end, end);
        if (at == end) return false;
        if (*at == '}') return json_blank(at + 1, end) == end;
        if (*at != ',') return false;
        at = json_blank(at + 1, end);
    }
}

/* Whether two values are written alike. */
static inline bool json_same(hydrant_text a, hydrant_text b) {
    return a.len == b.len && (a.len == 0 || !memcmp(a.at, b.at, a.len));
}

/* The text with `part`, which is a slice of it, replaced by `other`. */
static inline hydrant_text json_replaced(hydrant_text text, hydrant_text part, hydrant_text other) {
    size_t before = (size_t)(part.at - text.at), len = text.len - part.len + other.len;
    char *new = hydrant_bytes(len);
    memcpy(new, text.at, before);
    memcpy(new + before, other.at, other.len);
    memcpy(new + before + other.len, part.at + part.len, text.len - before - part.len);
    return (hydrant_text){new, len};
}

#endif
