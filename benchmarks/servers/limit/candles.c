/* Candles: payloads of Redis become frames. */
#include <string.h>
#include <time.h>

#include "limit.h"

#define MAX_DIGITS 64 /* of a number, and the largest exponent */
#define MAX_DECIMAL (3 * MAX_DIGITS)

enum { TIMESTAMP, OPEN, HIGH, LOW, CLOSE_PRICE, VOLUME, FIELDS };

static const struct text field_names[FIELDS] = {{"timestamp", 9}, {"open", 4},  {"high", 4},
                                                {"low", 3},       {"close", 5}, {"volume", 6}};
/* The text before each field in the envelope. */
static const struct text field_heads[FIELDS] = {{"", 0},
                                                {"\",\"open\":\"", 10},
                                                {"\",\"high\":\"", 10},
                                                {"\",\"low\":\"", 9},
                                                {"\",\"close\":\"", 11},
                                                {"\",\"volume\":\"", 12}};

static int field_named(struct text name)
{
    for (int field = 0; field < FIELDS; field++)
        if (name.length == field_names[field].length && memcmp(name.at, field_names[field].at, name.length) == 0)
            return field;
    return FIELDS;
}

/* Parses the whole payload, an object. `fields` become the numbers as they are written. */
static bool parse_candle(struct text payload, struct text *fields)
{
    struct json json = {payload.at, payload.at + payload.length};
    struct text name;
    memset(fields, 0, FIELDS * sizeof *fields);
    if (!take(&json, '{'))
        return false;
    do {
        if (!take_string(&json, &name) || !take(&json, ':'))
            return false;
        int field = field_named(name);
        if (!(field < FIELDS ? take_number(&json, &fields[field]) : skip_value(&json, 1)))
            return false;
    } while (take(&json, ','));
    if (!take(&json, '}') || json.at != json.end)
        return false;
    for (int field = 0; field < FIELDS; field++)
        if (!fields[field].length)
            return false;
    return true;
}

/* Writes a number in plain notation without trailing zeros, from its digits and not through a float. Returns the end,
 * or NULL where the number is longer than MAX_DIGITS or its exponent is larger. */
static char *put_decimal(char *out, struct text number)
{
    char digits[MAX_DIGITS];
    int count = 0, point = 0, exponent = 0;
    bool fraction = false, negative_exponent = false;
    const char *at = number.at, *end = at + number.length;
    if (number.length > MAX_DIGITS)
        return NULL;
    if (*at == '-')
        *out++ = *at++;
    for (; at < end && (*at | 0x20) != 'e'; at++) {
        if (*at == '.') {
            fraction = true;
        } else if (count || *at != '0') {
            digits[count++] = *at;
            point += !fraction;
        } else {
            point -= fraction; /* a zero before the first significant digit */
        }
    }
    if (at < end) {
        negative_exponent = *++at == '-';
        for (at += *at == '-' || *at == '+'; at < end; at++)
            exponent = exponent > MAX_DIGITS ? exponent : 10 * exponent + (*at - '0');
        if (exponent > MAX_DIGITS)
            return NULL;
    }
    point += negative_exponent ? -exponent : exponent;
    while (count && digits[count - 1] == '0')
        count--;
    if (!count || point <= 0)
        *out++ = '0';
    if (!count)
        return out;
    if (point <= 0)
        *out++ = '.';
    for (int zeros = point; zeros < 0; zeros++)
        *out++ = '0';
    for (int i = 0; i < count; i++) {
        if (i && i == point)
            *out++ = '.';
        *out++ = digits[i];
    }
    for (int i = count; i < point; i++)
        *out++ = '0';
    return out;
}

/* Writes epoch milliseconds as `YYYY-MM-DDThh:mm:ss.mmmZ`. The text of the last second is remembered. */
static char *put_timestamp(char *out, struct text number)
{
    static char known[32];
    static time_t known_second = -1;
    if (number.length > 14 || *number.at == '-')
        return NULL;
    int64_t ms = 0;
    for (size_t i = 0; i < number.length; i++) {
        if (number.at[i] < '0' || number.at[i] > '9')
            return NULL;
        ms = 10 * ms + (number.at[i] - '0');
    }
    time_t second = ms / 1000;
    if (second != known_second) {
        struct tm time;
        if (!gmtime_r(&second, &time) || time.tm_year > 9999 - 1900)
            return NULL;
        strftime(known, sizeof known, "%Y-%m-%dT%H:%M:%S.", &time);
        known_second = second;
    }
    memcpy(out, known, LENGTH("YYYY-MM-DDThh:mm:ss."));
    out += LENGTH("YYYY-MM-DDThh:mm:ss.");
    int rest = (int)(ms % 1000);
    *out++ = (char)('0' + rest / 100);
    *out++ = (char)('0' + rest / 10 % 10);
    *out++ = (char)('0' + rest % 10);
    *out++ = 'Z';
    return out;
}

/* Returns the frame of an event, in space that the next event reuses. Its `at` is NULL for an invalid event. */
struct text frame_candle(const struct source *source, struct text payload)
{
    static char space[4 + 512 + FIELDS * (16 + MAX_DECIMAL)];
    char *const text = space + 4, *out = text;
    struct text fields[FIELDS];
    if (!parse_candle(payload, fields))
        return (struct text){0};
    memcpy(out, source->head.at, source->head.length);
    out += source->head.length;
    for (int field = 0; field < FIELDS && out; field++) {
        memcpy(out, field_heads[field].at, field_heads[field].length);
        out += field_heads[field].length;
        out = field == TIMESTAMP ? put_timestamp(out, fields[field]) : put_decimal(out, fields[field]);
    }
    if (!out)
        return (struct text){0};
    memcpy(out, "\"}}", 3);
    out += 3;
    char head[10];
    size_t length = (size_t)(out - text), head_length = put_head(head, FIN | TEXT, length);
    memcpy(text - head_length, head, head_length);
    return (struct text){text - head_length, head_length + length};
}
