/* Makes JSON of the lines that Apache and nginx write into access logs (common and combined format). */
#include "hydrant.h"

/* What is read: a line, and how far we are. */
typedef struct {
    const char *start, *at, *end;
} reader;

/* What is written: each byte of a line becomes six at most, and there is room for that. */
static char *out;

static void put(hydrant_text text) {
    memcpy(out, text.at, text.len);
    out += text.len;
}

#define PUT(literal) put(HYDRANT_TEXT(literal))

static hydrant_text transform_init(hydrant_text config) {
    return config.len ? HYDRANT_TEXT("config: there is nothing to configure") : HYDRANT_TEXT("");
}

/* Why a line failed: what was expected, and at which byte. */
static hydrant_text fault(const reader *in, const char *expected) {
    char *start = hydrant_bytes(strlen(expected) + 64), digits[10];
    size_t at = (size_t)(in->at - in->start), count = 0;
    out = start;
    PUT("not a line of an access log: expected ");
    put((hydrant_text){expected, strlen(expected)});
    PUT(" at byte ");
    do digits[count++] = (char)('0' + at % 10);
    while (at /= 10);
    while (count) *out++ = digits[--count];
    return (hydrant_text){start, (size_t)(out - start)};
}

static bool skip(reader *in, char byte) {
    if (in->at == in->end || *in->at != byte) return false;
    in->at++;
    return true;
}

/* What comes before the next blank: at least a byte. */
static bool word(reader *in, hydrant_text *text) {
    const char *start = in->at;
    while (in->at < in->end && *in->at != ' ') in->at++;
    *text = (hydrant_text){start, (size_t)(in->at - start)};
    return text->len > 0;
}

static bool is_digit(char byte) {
    return byte >= '0' && byte <= '9';
}

static bool number(reader *in, hydrant_text *text) {
    if (!word(in, text)) return false;
    for (size_t i = 0; i < text->len; i++)
        if (!is_digit(text->at[i])) return in->at = text->at + i, false;
    /* JSON has no number that begins with a zero. */
    while (text->len > 1 && *text->at == '0') text->at++, text->len--;
    return true;
}

static int hex(char byte) {
    if (is_digit(byte)) return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* A text between quotes, without the escapes of Apache (`\"`, `\n`) and nginx (`\x22`). */
static bool quoted(reader *in, hydrant_text *text) {
    if (!skip(in, '"')) return false;
    char *start = hydrant_bytes((size_t)(in->end - in->at)), *to = start;
    while (in->at < in->end && *in->at != '"') {
        char byte = *in->at++;
        if (byte == '\\' && in->at < in->end) {
            static const char letters[] = "bfnrtv", meant[] = "\b\f\n\r\t\v";
            byte = *in->at++;
            const char *letter = memchr(letters, byte, sizeof(letters) - 1);
            if (letter) byte = meant[letter - letters];
            else if (byte == 'x' && in->end - in->at >= 2 && hex(in->at[0]) >= 0 && hex(in->at[1]) >= 0) {
                byte = (char)(hex(in->at[0]) << 4 | hex(in->at[1]));
                in->at += 2;
            } else if (byte != '"' && byte != '\\') *to++ = '\\';
        }
        *to++ = byte;
    }
    *text = (hydrant_text){start, (size_t)(to - start)};
    return skip(in, '"');
}

/* How many bytes the UTF-8 character is that begins here; 0 if it is none (Unicode, table 3-7). */
static size_t utf8_len(const unsigned char *at, size_t len) {
    unsigned char low = 0x80, high = 0xbf, first = at[0];
    size_t count = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (count < 2) return count;
    if (first == 0xe0) low = 0xa0;
    if (first == 0xed) high = 0x9f;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;
    if (count > len || at[1] < low || at[1] > high) return 0;
    for (size_t i = 2; i < count; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    return count;
}

/* A JSON string; bytes that are no UTF-8 become U+FFFD. */
static void put_string(hydrant_text text) {
    static const char digits[] = "0123456789abcdef";
    *out++ = '"';
    for (size_t i = 0; i < text.len;) {
        const unsigned char *at = (const unsigned char *)text.at + i;
        size_t len = utf8_len(at, text.len - i);
        if (len == 0) PUT("\xef\xbf\xbd"), len = 1;
        else if (*at < 0x20) PUT("\\u00"), *out++ = digits[*at >> 4], *out++ = digits[*at & 15];
        else {
            if (*at == '"' || *at == '\\') *out++ = '\\';
            put((hydrant_text){text.at + i, len});
        }
        i += len;
    }
    *out++ = '"';
}

/* `null` for the `-` that stands for nothing. */
static void put_string_or_null(hydrant_text text) {
    if (text.len == 0 || (text.len == 1 && *text.at == '-')) PUT("null");
    else put_string(text);
}

/* `10/Oct/2000:13:55:36 -0700` as RFC 3339, between brackets. */
static bool put_time(reader *in) {
    static const char form[] = "[00/Aaa/0000:00:00:00 +0000]", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const char *at = in->at;
    for (size_t i = 0; i < sizeof(form) - 1; i++, in->at++) {
        if (in->at == in->end) return false;
        char byte = *in->at, like = form[i];
        bool fits = is_digit(like) ? is_digit(byte) : like == '+' ? byte == '+' || byte == '-' : byte == like;
        if (like != 'A' && like != 'a' && !fits) return false;
    }
    for (size_t month = 1; month <= 12; month++) {
        if (memcmp(months + 3 * (month - 1), at + 4, 3)) continue;
        char time[] = "\"yyyy-mm-ddThh:mm:ss+hh:mm\"";
        memcpy(time + 1, at + 8, 4);
        time[6] = (char)('0' + month / 10), time[7] = (char)('0' + month % 10);
        memcpy(time + 9, at + 1, 2);
        memcpy(time + 12, at + 13, 8);
        memcpy(time + 20, at + 22, 3);
        memcpy(time + 24, at + 25, 2);
        put((hydrant_text){time, sizeof(time) - 1});
        return true;
    }
    in->at = at + 4;
    return false;
}

/* `GET /path HTTP/1.1` in its parts; anything else is a path alone. */
static void put_request(hydrant_text request) {
    const char *start = request.at, *end = start + request.len, *last = end, *first = memchr(start, ' ', request.len);
    while (last > start && last[-1] != ' ') last--;
    hydrant_text nothing = HYDRANT_TEXT(""), method = nothing, protocol = nothing;
    if (first && last - first > 1 && end - last > 5 && !memcmp(last, "HTTP/", 5)) {
        method = (hydrant_text){start, (size_t)(first - start)};
        protocol = (hydrant_text){last, (size_t)(end - last)};
        request = (hydrant_text){first + 1, (size_t)(last - first - 2)};
    }
    PUT(",\"method\":"), put_string_or_null(method);
    PUT(",\"path\":"), put_string_or_null(request);
    PUT(",\"protocol\":"), put_string_or_null(protocol);
}

static hydrant_text transform(const hydrant_event *event) {
    reader in = {event->data.at, event->data.at, event->data.at + event->data.len};
    hydrant_text host, identity, user, request, status, bytes, referrer = HYDRANT_TEXT("-"), agent = referrer;
    char *start = hydrant_bytes(6 * event->data.len + 256);
    out = start;

    if (!word(&in, &host) || !skip(&in, ' ')) return fault(&in, "a host and a blank");
    if (!word(&in, &identity) || !skip(&in, ' ')) return fault(&in, "an identity and a blank");
    if (!word(&in, &user) || !skip(&in, ' ')) return fault(&in, "a user and a blank");
    PUT("{\"time\":");
    if (!put_time(&in) || !skip(&in, ' ')) return fault(&in, "a time such as [10/Oct/2000:13:55:36 -0700]");
    if (!quoted(&in, &request) || !skip(&in, ' ')) return fault(&in, "a request between quotes");
    if (!number(&in, &status) || !skip(&in, ' ')) return fault(&in, "a status");
    if (skip(&in, '-')) bytes = HYDRANT_TEXT("null");
    else if (!number(&in, &bytes)) return fault(&in, "a number of bytes or -");
    if (skip(&in, ' ')) {
        if (!quoted(&in, &referrer) || !skip(&in, ' ')) return fault(&in, "a referrer between quotes");
        if (!quoted(&in, &agent)) return fault(&in, "a user agent between quotes");
    }
    if (in.at < in.end) return fault(&in, "the end");

    PUT(",\"host\":"), put_string(host);
    PUT(",\"user\":"), put_string_or_null(user);
    put_request(request);
    PUT(",\"status\":"), put(status);
    PUT(",\"bytes\":"), put(bytes);
    PUT(",\"referrer\":"), put_string_or_null(referrer);
    PUT(",\"agent\":"), put_string_or_null(agent);
    PUT("}");
    hydrant_emit((hydrant_text){start, (size_t)(out - start)});
    return HYDRANT_TEXT("");
}
