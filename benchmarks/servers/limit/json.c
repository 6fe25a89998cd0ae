/* JSON, read without copying. */
#include <string.h>

#include "limit.h"

#define MAX_DEPTH 32

static void skip_blanks(struct json *json)
{
    while (json->at < json->end && (*json->at == ' ' || *json->at == '\n' || *json->at == '\r' || *json->at == '\t'))
        json->at++;
}

/* Takes that character and the blanks around it. */
bool take(struct json *json, char wanted)
{
    skip_blanks(json);
    if (json->at == json->end || *json->at != wanted)
        return false;
    json->at++;
    skip_blanks(json);
    return true;
}

static bool take_escape(struct json *json)
{
    if (json->end - json->at < 2 || !memchr("\"\\/bfnrtu", json->at[1], 9))
        return false;
    bool unicode = json->at[1] == 'u';
    json->at += 2;
    for (int i = 0; unicode && i < 4; i++, json->at++)
        if (json->at == json->end || !memchr("0123456789abcdefABCDEF", *json->at, 22))
            return false;
    return true;
}

/* Takes a string. `text` becomes the characters between the quotes, escapes as they are. */
bool take_string(struct json *json, struct text *text)
{
    if (json->at == json->end || *json->at != '"')
        return false;
    text->at = ++json->at;
    while (json->at < json->end && *json->at != '"') {
        if ((uint8_t)*json->at < 0x20)
            return false;
        if (*json->at != '\\')
            json->at++;
        else if (!take_escape(json))
            return false;
    }
    text->length = (size_t)(json->at - text->at);
    return json->at++ < json->end;
}

static bool take_digits(struct json *json)
{
    const char *first = json->at;
    while (json->at < json->end && *json->at >= '0' && *json->at <= '9')
        json->at++;
    return json->at > first;
}

bool take_number(struct json *json, struct text *text)
{
    text->at = json->at;
    if (json->at < json->end && *json->at == '-')
        json->at++;
    if (json->at < json->end && *json->at == '0')
        json->at++;
    else if (!take_digits(json))
        return false;
    if (json->at < json->end && *json->at == '.') {
        json->at++;
        if (!take_digits(json))
            return false;
    }
    if (json->at < json->end && (*json->at | 0x20) == 'e') {
        json->at++;
        if (json->at < json->end && (*json->at == '+' || *json->at == '-'))
            json->at++;
        if (!take_digits(json))
            return false;
    }
    text->length = (size_t)(json->at - text->at);
    return true;
}

static bool take_literal(struct json *json, const char *literal)
{
    size_t length = strlen(literal);
    if ((size_t)(json->end - json->at) < length || memcmp(json->at, literal, length) != 0)
        return false;
    json->at += length;
    return true;
}

bool skip_value(struct json *json, int depth)
{
    struct text ignored;
    if (json->at == json->end || depth == MAX_DEPTH)
        return false;
    switch (*json->at) {
    case '"': return take_string(json, &ignored);
    case 't': return take_literal(json, "true");
    case 'f': return take_literal(json, "false");
    case 'n': return take_literal(json, "null");
    case '{':
    case '[': break;
    default: return take_number(json, &ignored);
    }
    const bool object = *json->at == '{';
    const char end = object ? '}' : ']';
    take(json, *json->at);
    if (take(json, end))
        return true;
    do {
        if (object && !(take_string(json, &ignored) && take(json, ':')))
            return false;
        if (!skip_value(json, depth + 1))
            return false;
    } while (take(json, ','));
    return take(json, end);
}
