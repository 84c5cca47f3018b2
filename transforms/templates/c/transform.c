/* Drops records of one level, and hides e-mail addresses. */
#include "hydrant.h"
#include "json.h"

/* As JSON, with its quotes. */
static hydrant_text drop_level = HYDRANT_TEXT("\"debug\"");

static hydrant_text transform_init(hydrant_text config) {
    hydrant_text level;
    if (config.len == 0) return HYDRANT_TEXT("");
    if (!json_member(config, "drop_level", &level)) return HYDRANT_TEXT("config: not a JSON object");
    if (level.len) drop_level = level;
    return HYDRANT_TEXT("");
}

static hydrant_text transform(const hydrant_event *event) {
    hydrant_text level, email, data = event->data;
    if (!json_member(data, "level", &level)) return HYDRANT_TEXT("not a plain JSON object");
    if (level.len == 0) return HYDRANT_TEXT("no field `level`");
    if (json_same(level, drop_level)) return HYDRANT_TEXT("");
    if (!json_member(data, "email", &email)) return HYDRANT_TEXT("more than one field `email`");
    if (email.len) data = json_replaced(data, email, HYDRANT_TEXT("\"***\""));
    hydrant_emit(data);
    return HYDRANT_TEXT("");
}
