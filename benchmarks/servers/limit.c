/* What the socket calls allow: a server in plain C, as the lower bound that the others are measured against.
 *
 * One thread and one epoll loop. Each event of Redis is parsed once and framed once; clients with equal subscriptions
 * are a cohort and share the bytes.
 *   --mode joined   one send per client for all that one read of Redis brought (the limit for bursts)
 *   --mode single   one send per client and event (the limit for lone events)
 * Speaks the wire contract as far as the benchmarks use it: candles, one key (environment variable
 * TORNADO_BRIDGE_API_KEY), subscribe and unsubscribe. A fragmented client message is refused, and nobody is pinged.
 * stdout: `listening on http://127.0.0.1:PORT`, once the port is open and Redis has confirmed the subscription.
 * Exit status: 1 with the reason on stderr; it runs until a signal ends it or Redis is gone.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_ZLIB
#include <zlib.h>
#endif

#define ENDPOINT "/public/v1/stream"
#define CHANNELS_A_MESSAGE 20 /* docs/protocol.md section 2 */
#define CHANNEL_LENGTH 128    /* likewise */
#define MAX_SUBSCRIPTIONS 1000
#define MAX_REQUEST 8192
#define MAX_CLIENT_MESSAGE 65535
#define CLIENT_READ 65536
#define REDIS_READ (4 * 1024 * 1024) /* and so the longest message */
#define SKIP_BYTES (64 * 1024)       /* a client with more than this unsent gets no further batch */
#define ABORT_BYTES (4 * 1024 * 1024)
#define ABORT_SECONDS 30
#define MAX_DEPTH 32
#define MAX_DIGITS 64 /* of a number, and the largest exponent */
#define MAX_DECIMAL (3 * MAX_DIGITS)
#define BUCKETS 16384
#define BATCH_BYTES (64 * 1024) /* of plain text, compressed in one context */
#define DEFLATE_LEVEL 1
#define WINDOW_BITS 15
#define LENGTH(literal) (sizeof(literal) - 1)

enum { TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };
enum { FIN = 0x80, RSV1 = 0x40, MASKED = 0x80 };
enum { PROTOCOL_ERROR = 1002, UNSUPPORTED = 1003, POLICY = 1008, TOO_BIG = 1009 };

struct text {
    const char *at;
    size_t length;
};

struct buffer {
    char *bytes;
    size_t length, capacity;
};

/* A member of a table. The name is the text of a channel, or the addresses of a cohort's subscriptions. */
struct named {
    struct named *next;
    uint64_t hash;
    size_t length;
    char *name;
};

struct table {
    struct named *buckets[BUCKETS];
};

/* A channel as clients name it, wildcard or not. Never freed: there are as many as texts that were asked for. */
struct subscription {
    struct named named;
    struct cohort **cohorts;
    uint32_t count, capacity;
};

/* The clients whose subscriptions are the same set. */
struct cohort {
    struct named named;
    struct subscription **subscriptions; /* sorted by address; the name of the cohort */
    uint32_t subscription_count;
    struct client **clients;
    uint32_t count, capacity;
    uint32_t deflating;   /* how many of the clients take compressed frames */
    uint64_t last_event;  /* the event it was last given: two matching subscriptions deliver once */
    struct buffer batch;  /* the frames due */
    struct cohort *due;   /* the next one with frames due */
};

/* A source channel that has had an event: what is the same for all its events. */
struct source {
    struct named named;
    bool valid;
    struct text head; /* of the envelope, up to the timestamp */
    struct subscription *matching[4];
};

struct client {
    int fd; /* -1 once dropped */
    bool open, deflating;
    struct cohort *cohort; /* NULL while it has no subscription */
    uint32_t place;        /* its index there */
    struct buffer unread;  /* the beginning of a request or frame whose rest has not come */
    struct buffer unsent;
    size_t sent; /* bytes of `unsent` the kernel has taken */
    time_t stuck_since;
    struct client *lagging_before, *lagging_after;
    struct client *dropped;
};

static struct {
    uint16_t port, redis_port;
    struct in_addr redis_host;
    char prefix[64], pattern[72]; /* of the source channels */
    const char *key;
    int send_buffer;
    bool joined, compression;
} options;

static struct table subscriptions, cohorts, sources;
static struct client *lagging; /* those with bytes unsent */
static struct client *dropped; /* freed after the events of epoll in hand, which may name them */
static struct cohort *due;
static uint64_t event_number;
static uint32_t deflating_clients;
static struct buffer redis_unread;
static char *client_space; /* MAX_REQUEST + MAX_CLIENT_MESSAGE for what is unread, then CLIENT_READ */
static int poller, listener = -1, redis;

static void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("limit: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void *resize(void *memory, size_t size)
{
    memory = realloc(memory, size);
    if (!memory)
        die("out of memory");
    return memory;
}

static void *allocate(size_t size)
{
    return memset(resize(NULL, size), 0, size);
}

/* Makes room for `more` bytes and returns where they go. */
static char *reserve(struct buffer *buffer, size_t more)
{
    size_t wanted = buffer->length + more;
    if (wanted > buffer->capacity) {
        buffer->capacity = wanted > 2 * buffer->capacity ? wanted : 2 * buffer->capacity;
        buffer->bytes = resize(buffer->bytes, buffer->capacity);
    }
    return buffer->bytes + buffer->length;
}

static void append(struct buffer *buffer, const void *bytes, size_t length)
{
    memcpy(reserve(buffer, length), bytes, length);
    buffer->length += length;
}

static void release(struct buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct buffer){0};
}

static bool equal(struct text text, const char *literal)
{
    return text.length == strlen(literal) && memcmp(text.at, literal, text.length) == 0;
}

static time_t now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec;
}

/* --- tables ---------------------------------------------------------------------------------------------------- */

static uint64_t hash_of(const char *name, size_t length)
{
    const uint64_t odd = 0x9e3779b97f4a7c15;
    uint64_t hash = length * odd, word;
    for (; length >= sizeof word; name += sizeof word, length -= sizeof word) {
        memcpy(&word, name, sizeof word);
        hash = (hash ^ word) * odd;
        hash ^= hash >> 29;
    }
    word = 0;
    memcpy(&word, name, length);
    hash = (hash ^ word) * odd;
    return hash ^ hash >> 32;
}

/* The member of that name; if there is none, a new one of `size` bytes, zero but for its `named`. */
static void *find_or_add(struct table *table, const void *name, size_t length, size_t size)
{
    uint64_t hash = hash_of(name, length);
    struct named **bucket = &table->buckets[hash % BUCKETS];
    for (struct named *named = *bucket; named; named = named->next)
        if (named->hash == hash && named->length == length && memcmp(named->name, name, length) == 0)
            return named;
    struct named *named = allocate(size);
    named->hash = hash;
    named->length = length;
    named->name = memcpy(resize(NULL, length ? length : 1), name, length);
    named->next = *bucket;
    return *bucket = named;
}

static void take_out(struct table *table, struct named *named)
{
    struct named **place = &table->buckets[named->hash % BUCKETS];
    while (*place != named)
        place = &(*place)->next;
    *place = named->next;
}

static struct subscription *find_subscription(const char *channel, size_t length)
{
    return find_or_add(&subscriptions, channel, length, sizeof(struct subscription));
}

/* --- cohorts --------------------------------------------------------------------------------------------------- */

static struct cohort *find_cohort(struct subscription **set, uint32_t count)
{
    struct cohort *cohort = find_or_add(&cohorts, set, count * sizeof *set, sizeof *cohort);
    if (cohort->subscriptions)
        return cohort;
    cohort->subscriptions = (struct subscription **)(void *)cohort->named.name;
    cohort->subscription_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct subscription *subscription = set[i];
        if (subscription->count == subscription->capacity) {
            subscription->capacity = subscription->capacity ? 2 * subscription->capacity : 4;
            subscription->cohorts =
                resize(subscription->cohorts, subscription->capacity * sizeof *subscription->cohorts);
        }
        subscription->cohorts[subscription->count++] = cohort;
    }
    return cohort;
}

static void forget_cohort(struct cohort *cohort)
{
    for (uint32_t i = 0; i < cohort->subscription_count; i++) {
        struct subscription *subscription = cohort->subscriptions[i];
        uint32_t place = 0;
        while (subscription->cohorts[place] != cohort)
            place++;
        subscription->cohorts[place] = subscription->cohorts[--subscription->count];
    }
    take_out(&cohorts, &cohort->named);
    release(&cohort->batch);
    free(cohort->clients);
    free(cohort->named.name);
    free(cohort);
}

static void leave_cohort(struct client *client)
{
    struct cohort *cohort = client->cohort;
    if (!cohort)
        return;
    client->cohort = NULL;
    struct client *last = cohort->clients[--cohort->count];
    cohort->clients[client->place] = last;
    last->place = client->place;
    cohort->deflating -= client->deflating;
    if (!cohort->count)
        forget_cohort(cohort);
}

/* Moves the client to the cohort of that set, which is sorted. */
static void join_cohort(struct client *client, struct subscription **set, uint32_t count)
{
    struct cohort *cohort = count ? find_cohort(set, count) : NULL;
    if (cohort == client->cohort)
        return;
    leave_cohort(client);
    if (!cohort)
        return;
    if (cohort->count == cohort->capacity) {
        cohort->capacity = cohort->capacity ? 2 * cohort->capacity : 1;
        cohort->clients = resize(cohort->clients, cohort->capacity * sizeof *cohort->clients);
    }
    client->cohort = cohort;
    client->place = cohort->count;
    cohort->clients[cohort->count++] = client;
    cohort->deflating += client->deflating;
}

/* --- sending --------------------------------------------------------------------------------------------------- */

static void watch(struct client *client, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, client->fd, &event) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

static void forget_unsent(struct client *client)
{
    if (!client->unsent.length)
        return;
    release(&client->unsent);
    client->sent = 0;
    if (client->lagging_before)
        client->lagging_before->lagging_after = client->lagging_after;
    else
        lagging = client->lagging_after;
    if (client->lagging_after)
        client->lagging_after->lagging_before = client->lagging_before;
}

/* Closes the connection. The client leaves its cohort later, as that may be just being sent to. */
static void drop(struct client *client)
{
    if (client->fd < 0)
        return;
    forget_unsent(client);
    close(client->fd);
    client->fd = -1;
    client->dropped = dropped;
    dropped = client;
}

static void free_dropped(void)
{
    while (dropped) {
        struct client *client = dropped;
        dropped = client->dropped;
        leave_cohort(client);
        deflating_clients -= client->deflating;
        release(&client->unread);
        free(client);
    }
}

static void keep_unsent(struct client *client, const char *bytes, size_t length)
{
    if (!client->unsent.length) {
        client->lagging_before = NULL;
        client->lagging_after = lagging;
        if (lagging)
            lagging->lagging_before = client;
        lagging = client;
        client->stuck_since = now_seconds();
        watch(client, EPOLLIN | EPOLLOUT);
    }
    if (client->sent > client->unsent.length / 2) {
        client->unsent.length -= client->sent;
        memmove(client->unsent.bytes, client->unsent.bytes + client->sent, client->unsent.length);
        client->sent = 0;
    }
    append(&client->unsent, bytes, length);
    if (client->unsent.length - client->sent > ABORT_BYTES)
        drop(client);
}

static void send_bytes(struct client *client, const char *bytes, size_t length)
{
    if (client->unsent.length) {
        keep_unsent(client, bytes, length);
        return;
    }
    ssize_t taken = send(client->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (taken == (ssize_t)length)
        return;
    if (taken < 0 && errno != EAGAIN)
        drop(client);
    else
        keep_unsent(client, bytes + (taken < 0 ? 0 : taken), length - (size_t)(taken < 0 ? 0 : taken));
}

static void send_unsent(struct client *client)
{
    size_t left = client->unsent.length - client->sent;
    ssize_t taken = send(client->fd, client->unsent.bytes + client->sent, left, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (taken == (ssize_t)left) {
        forget_unsent(client);
        watch(client, EPOLLIN);
    } else if (taken > 0) {
        client->sent += (size_t)taken;
        client->stuck_since = now_seconds();
    } else if (errno != EAGAIN) {
        drop(client);
    }
}

static void drop_stuck(void)
{
    time_t now = now_seconds();
    for (struct client *client = lagging, *after; client; client = after) {
        after = client->lagging_after;
        if (now - client->stuck_since > ABORT_SECONDS)
            drop(client);
    }
}

/* Writes the head of a frame; returns its length, 2, 4 or 10. */
static size_t put_head(char *at, int first, size_t length)
{
    at[0] = (char)first;
    if (length < 126) {
        at[1] = (char)length;
        return 2;
    }
    if (length <= 65535) {
        at[1] = 126;
        at[2] = (char)(length >> 8);
        at[3] = (char)length;
        return 4;
    }
    at[1] = 127;
    for (int i = 0; i < 8; i++)
        at[2 + i] = (char)((uint64_t)length >> (56 - 8 * i));
    return 10;
}

static void send_frame(struct client *client, int opcode, const char *payload, size_t length)
{
    char *frame = resize(NULL, length + 10);
    size_t head = put_head(frame, FIN | opcode, length);
    memcpy(frame + head, payload, length);
    send_bytes(client, frame, head + length);
    free(frame);
}

static void refuse(struct client *client, int code)
{
    char payload[2] = {(char)(code >> 8), (char)code};
    send_frame(client, CLOSE, payload, sizeof payload);
    drop(client);
}

/* One send per client: the plain bytes, or the compressed ones to those that take them. */
static void send_to_cohort(struct cohort *cohort, struct text plain, struct text deflated)
{
    for (uint32_t i = 0; i < cohort->count; i++) {
        struct client *client = cohort->clients[i];
        if (client->fd < 0 || client->unsent.length - client->sent > SKIP_BYTES)
            continue;
        struct text bytes = client->deflating ? deflated : plain;
        send_bytes(client, bytes.at, bytes.length);
    }
}

/* --- compression (RFC 7692) ------------------------------------------------------------------------------------ */

#ifdef WITH_ZLIB
static z_stream deflater, inflater;

static void start_compression(void)
{
    if (deflateInit2(&deflater, DEFLATE_LEVEL, Z_DEFLATED, -WINDOW_BITS, 8, Z_DEFAULT_STRATEGY) != Z_OK ||
        inflateInit2(&inflater, -WINDOW_BITS) != Z_OK)
        die("zlib does not start");
}

/* The frames of a batch compressed. Every batch starts with an empty window, so clients that skip one can read on;
 * within it, a message refers to those before. */
static struct text deflate_frames(struct text frames)
{
    static struct buffer out, message;
    size_t context = BATCH_BYTES + 1;
    out.length = 0;
    for (const char *at = frames.at, *end = at + frames.length; at < end;) {
        size_t length = (uint8_t)at[1], head = 2;
        if (length == 126) {
            head = 4;
            length = (size_t)(uint8_t)at[2] << 8 | (uint8_t)at[3];
        }
        if (context + length > BATCH_BYTES) {
            deflateReset(&deflater);
            context = 0;
        }
        context += length;
        message.length = 0;
        deflater.next_in = (Bytef *)(uintptr_t)(at + head);
        deflater.avail_in = (uInt)length;
        deflater.avail_out = (uInt)deflateBound(&deflater, length) + 64;
        deflater.next_out = (Bytef *)reserve(&message, deflater.avail_out);
        if (deflate(&deflater, Z_SYNC_FLUSH) != Z_OK || deflater.avail_out == 0)
            die("deflate: %s", deflater.msg ? deflater.msg : "no room");
        size_t deflated = (size_t)((char *)deflater.next_out - message.bytes) - LENGTH("\x00\x00\xff\xff");
        reserve(&out, deflated + 10);
        out.length += put_head(out.bytes + out.length, FIN | RSV1 | TEXT, deflated);
        append(&out, message.bytes, deflated);
        at += head + length;
    }
    return (struct text){out.bytes, out.length};
}

/* Returns the length of the message, or SIZE_MAX if it cannot be had. */
static size_t inflate_message(const char *bytes, size_t length, char *message, size_t room)
{
    inflateReset(&inflater);
    inflater.next_out = (Bytef *)message;
    inflater.avail_out = (uInt)room;
    const struct text parts[] = {{bytes, length}, {"\x00\x00\xff\xff", 4}};
    for (int i = 0; i < 2; i++) {
        inflater.next_in = (Bytef *)(uintptr_t)parts[i].at;
        inflater.avail_in = (uInt)parts[i].length;
        int result = inflate(&inflater, Z_SYNC_FLUSH);
        if ((result != Z_OK && result != Z_BUF_ERROR) || inflater.avail_in || !inflater.avail_out)
            return SIZE_MAX;
    }
    return room - inflater.avail_out;
}
#else
static void start_compression(void)
{
    die("built without zlib, so there is no --compression");
}

static struct text deflate_frames(struct text frames)
{
    return frames;
}

static size_t inflate_message(const char *bytes, size_t length, char *message, size_t room)
{
    (void)bytes, (void)length, (void)message, (void)room;
    return SIZE_MAX;
}
#endif

/* --- JSON ------------------------------------------------------------------------------------------------------ */

struct json {
    const char *at, *end;
};

static void skip_blanks(struct json *json)
{
    while (json->at < json->end && (*json->at == ' ' || *json->at == '\n' || *json->at == '\r' || *json->at == '\t'))
        json->at++;
}

/* Takes that character and blanks around it. */
static bool take(struct json *json, char wanted)
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

/* Takes a string; `text` is what stands between the quotes, with its escapes. */
static bool take_string(struct json *json, struct text *text)
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

static bool take_number(struct json *json, struct text *text)
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

static bool skip_value(struct json *json, int depth)
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

/* --- candles --------------------------------------------------------------------------------------------------- */

enum { TIMESTAMP, OPEN, HIGH, LOW, CLOSE_PRICE, VOLUME, FIELDS };

static const struct text field_names[FIELDS] = {{"timestamp", 9}, {"open", 4},  {"high", 4},
                                                {"low", 3},       {"close", 5}, {"volume", 6}};
/* What stands before each in the envelope. */
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

/* Parses all of the payload, an object; `fields` are the numbers as they are written. */
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

/* Writes a number in plain notation without trailing zeros, from its digits and not through a float; returns the end,
 * or NULL for one that is longer than MAX_DIGITS or has a larger exponent. */
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
            point -= fraction; /* a zero before the first digit that counts */
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

/* Writes epoch milliseconds as `YYYY-MM-DDThh:mm:ss.mmmZ`; the second before is remembered. */
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

/* The frame of an event, in space that the next one takes; its `at` is NULL if the event is none. */
static struct text frame_candle(const struct source *source, struct text payload)
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

/* --- events ---------------------------------------------------------------------------------------------------- */

/* Whether it is `candles:PART:PART` of printable characters that need no escape in JSON; finds the parts. */
static bool split_channel(struct text channel, struct text *symbol, struct text *timeframe)
{
    const size_t kind = LENGTH("candles:");
    if (channel.length > CHANNEL_LENGTH || channel.length < kind || memcmp(channel.at, "candles:", kind) != 0)
        return false;
    for (size_t i = 0; i < channel.length; i++)
        if (channel.at[i] <= ' ' || channel.at[i] > '~' || channel.at[i] == '"' || channel.at[i] == '\\')
            return false;
    symbol->at = channel.at + kind;
    const char *end = channel.at + channel.length, *colon = memchr(symbol->at, ':', (size_t)(end - symbol->at));
    if (!colon)
        return false;
    symbol->length = (size_t)(colon - symbol->at);
    timeframe->at = colon + 1;
    timeframe->length = (size_t)(end - timeframe->at);
    return symbol->length && timeframe->length && !memchr(timeframe->at, ':', timeframe->length);
}

static void open_source(struct source *source)
{
    struct text symbol, timeframe;
    char channel[CHANNEL_LENGTH + 1], wildcard[CHANNEL_LENGTH + 1];
    const size_t prefix = strlen(options.prefix);
    if (source->named.length < prefix || memcmp(source->named.name, options.prefix, prefix) != 0)
        return;
    int length = snprintf(channel, sizeof channel, "candles:%.*s", (int)(source->named.length - prefix),
                          source->named.name + prefix);
    if (!split_channel((struct text){channel, (size_t)length}, &symbol, &timeframe))
        return;
    source->matching[0] = find_subscription(channel, (size_t)length);
    length = snprintf(wildcard, sizeof wildcard, "candles:*:%s", timeframe.at);
    source->matching[1] = find_subscription(wildcard, (size_t)length);
    length = snprintf(wildcard, sizeof wildcard, "candles:%.*s:*", (int)symbol.length, symbol.at);
    source->matching[2] = find_subscription(wildcard, (size_t)length);
    source->matching[3] = find_subscription("candles:*:*", LENGTH("candles:*:*"));
    char *head;
    length = asprintf(&head, "{\"type\":\"candle_close\",\"channel\":\"%s\",\"data\":{\"timestamp\":\"", channel);
    if (length < 0)
        die("out of memory");
    source->head = (struct text){head, (size_t)length};
    source->valid = true;
}

/* Sends the frames due of every cohort. */
static void flush(void)
{
    while (due) {
        struct cohort *cohort = due;
        due = cohort->due;
        struct text plain = {cohort->batch.bytes, cohort->batch.length};
        send_to_cohort(cohort, plain, cohort->deflating ? deflate_frames(plain) : plain);
        cohort->batch.length = 0;
    }
}

static void take_event(struct text channel, struct text payload)
{
    struct source *source = find_or_add(&sources, channel.at, channel.length, sizeof *source);
    if (!source->valid)
        open_source(source);
    struct text frame = {0};
    if (source->valid)
        frame = frame_candle(source, payload);
    if (!frame.at) {
        fprintf(stderr, "limit: no candle on %.*s\n", (int)channel.length, channel.at);
        return;
    }
    struct text deflated = frame;
    if (!options.joined && deflating_clients)
        deflated = deflate_frames(frame);
    event_number++;
    for (int i = 0; i < 4; i++) {
        struct subscription *matching = source->matching[i];
        for (uint32_t c = 0; c < matching->count; c++) {
            struct cohort *cohort = matching->cohorts[c];
            if (cohort->last_event == event_number)
                continue;
            cohort->last_event = event_number;
            if (!options.joined) {
                send_to_cohort(cohort, frame, deflated);
                continue;
            }
            if (!cohort->batch.length) {
                cohort->due = due;
                due = cohort;
            }
            append(&cohort->batch, frame.at, frame.length);
        }
    }
}

/* --- Redis (RESP2) --------------------------------------------------------------------------------------------- */

/* Takes a line that is a type and a number. */
static bool take_count(struct json *reply, char type, long *count)
{
    const char *line = reply->at, *end = memchr(line, '\n', (size_t)(reply->end - line));
    if (!end)
        return false;
    if (*line != type || end == line || end[-1] != '\r')
        die("Redis says %.*s", (int)(end - line), line);
    *count = strtol(line + 1, NULL, 10);
    reply->at = end + 1;
    return true;
}

static bool take_bulk(struct json *reply, struct text *bulk)
{
    long length;
    if (!take_count(reply, '$', &length) || length < 0 || reply->end - reply->at < length + 2)
        return false;
    *bulk = (struct text){reply->at, (size_t)length};
    reply->at += length + 2;
    return true;
}

/* Takes one push: `pmessage` with pattern, channel and payload, or `psubscribe` with pattern and number. */
static bool take_push(struct json *reply, bool *confirmed)
{
    long count;
    struct text kind, pattern, channel, payload;
    if (!take_count(reply, '*', &count) || !take_bulk(reply, &kind) || !take_bulk(reply, &pattern))
        return false;
    if (equal(kind, "psubscribe")) {
        *confirmed = true;
        return take_count(reply, ':', &count);
    }
    if (!equal(kind, "pmessage") || count != 4)
        die("Redis pushes %.*s", (int)kind.length, kind.at);
    if (!take_bulk(reply, &channel) || !take_bulk(reply, &payload))
        return false;
    take_event(channel, payload);
    return true;
}

/* Takes all that one read brings, then sends it. Returns whether the subscription was confirmed in it. */
static bool read_redis(void)
{
    bool confirmed = false;
    ssize_t fresh =
        recv(redis, redis_unread.bytes + redis_unread.length, redis_unread.capacity - redis_unread.length, 0);
    if (fresh <= 0) {
        if (fresh < 0 && (errno == EAGAIN || errno == EINTR))
            return false;
        die(fresh ? "Redis is gone or its message too long: %s" : "Redis is gone", strerror(errno));
    }
    redis_unread.length += (size_t)fresh;
    struct json reply = {redis_unread.bytes, redis_unread.bytes + redis_unread.length};
    const char *whole = reply.at;
    while (reply.at < reply.end && take_push(&reply, &confirmed))
        whole = reply.at;
    redis_unread.length = (size_t)(reply.end - whole);
    memmove(redis_unread.bytes, whole, redis_unread.length);
    flush();
    return confirmed;
}

static void subscribe_to_redis(void)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(options.redis_port), .sin_addr = options.redis_host};
    redis = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (redis < 0 || connect(redis, (struct sockaddr *)&address, sizeof address) != 0)
        die("Redis: %s", strerror(errno));
    char command[160];
    int length = snprintf(command, sizeof command, "*2\r\n$10\r\nPSUBSCRIBE\r\n$%zu\r\n%s\r\n", strlen(options.pattern),
                          options.pattern);
    if (send(redis, command, (size_t)length, MSG_NOSIGNAL) != length)
        die("Redis: %s", strerror(errno));
    reserve(&redis_unread, REDIS_READ);
}

/* --- what clients say ------------------------------------------------------------------------------------------ */

/* Adds to or takes from a sorted set; returns its new size. */
static uint32_t change_set(struct subscription **set, uint32_t count, struct subscription *one, bool add)
{
    uint32_t place = 0;
    while (place < count && (uintptr_t)set[place] < (uintptr_t)one)
        place++;
    const bool there = place < count && set[place] == one;
    if (there == add)
        return count;
    if (add)
        memmove(set + place + 1, set + place, (count - place) * sizeof *set);
    else
        memmove(set + place, set + place + 1, (count - place - 1) * sizeof *set);
    if (add)
        set[place] = one;
    return add ? count + 1 : count - 1;
}

static bool parse_request(struct text message, struct text *action, struct text *channels, uint32_t *count)
{
    struct json json = {message.at, message.at + message.length};
    struct text name;
    *count = 0;
    *action = (struct text){0};
    if (!take(&json, '{'))
        return false;
    do {
        if (!take_string(&json, &name) || !take(&json, ':'))
            return false;
        if (equal(name, "action")) {
            if (!take_string(&json, action))
                return false;
        } else if (equal(name, "channels")) {
            if (!take(&json, '['))
                return false;
            do {
                if (*count == CHANNELS_A_MESSAGE || !take_string(&json, &channels[(*count)++]))
                    return false;
            } while (take(&json, ','));
            if (!take(&json, ']'))
                return false;
        } else if (!skip_value(&json, 1)) {
            return false;
        }
    } while (take(&json, ','));
    return take(&json, '}') && json.at == json.end && *count;
}

static void take_message(struct client *client, struct text message)
{
    struct text action, channels[CHANNELS_A_MESSAGE], symbol, timeframe;
    struct subscription *set[MAX_SUBSCRIPTIONS + CHANNELS_A_MESSAGE];
    char reply[64 + CHANNELS_A_MESSAGE * (CHANNEL_LENGTH + 3)];
    uint32_t count, size = 0;
    if (!parse_request(message, &action, channels, &count)) {
        refuse(client, POLICY);
        return;
    }
    const bool add = equal(action, "subscribe");
    if (!add && !equal(action, "unsubscribe")) {
        refuse(client, POLICY);
        return;
    }
    if (client->cohort) {
        size = client->cohort->subscription_count;
        memcpy(set, client->cohort->subscriptions, size * sizeof *set);
    }
    char *out = reply + sprintf(reply, "{\"type\":\"%.*sd\",\"channels\":[", (int)action.length, action.at);
    for (uint32_t i = 0; i < count; i++) {
        if (!split_channel(channels[i], &symbol, &timeframe)) {
            refuse(client, POLICY);
            return;
        }
        size = change_set(set, size, find_subscription(channels[i].at, channels[i].length), add);
        out += sprintf(out, "%s\"%.*s\"", i ? "," : "", (int)channels[i].length, channels[i].at);
    }
    if (size > MAX_SUBSCRIPTIONS) {
        refuse(client, POLICY);
        return;
    }
    out += sprintf(out, "]}");
    join_cohort(client, set, size);
    send_frame(client, TEXT, reply, (size_t)(out - reply));
}

/* Takes one frame; returns its length, or 0 if it is not all there (or the client is gone). */
static size_t take_frame(struct client *client, char *bytes, size_t available)
{
    if (available < 2)
        return 0;
    const int first = (uint8_t)bytes[0], opcode = first & 0x0f;
    size_t length = (uint8_t)bytes[1] & 0x7f, head = 2;
    const bool huge = length == 127;
    if (length == 126) {
        head = 4;
        if (available < head)
            return 0;
        length = (size_t)(uint8_t)bytes[2] << 8 | (uint8_t)bytes[3];
    }
    if (!(bytes[1] & MASKED) || huge || !(first & FIN) || (first & 0x30) ||
        ((first & RSV1) && !(client->deflating && opcode == TEXT)) || (opcode >= CLOSE && length > 125)) {
        refuse(client, huge ? TOO_BIG : first & FIN ? PROTOCOL_ERROR : UNSUPPORTED);
        return 0;
    }
    if (available < head + 4 + length)
        return 0;
    const char *mask = bytes + head;
    char *payload = bytes + head + 4;
    for (size_t i = 0; i < length; i++)
        payload[i] ^= mask[i & 3];
    if (opcode == TEXT && (first & RSV1)) {
        static char message[MAX_CLIENT_MESSAGE];
        size_t inflated = inflate_message(payload, length, message, sizeof message);
        if (inflated == SIZE_MAX)
            refuse(client, PROTOCOL_ERROR);
        else
            take_message(client, (struct text){message, inflated});
    } else if (opcode == TEXT) {
        take_message(client, (struct text){payload, length});
    } else if (opcode == PING) {
        send_frame(client, PONG, payload, length);
    } else if (opcode == CLOSE) {
        send_frame(client, CLOSE, payload, length < 2 ? 0 : 2);
        drop(client);
    } else if (opcode != PONG) {
        refuse(client, UNSUPPORTED);
    }
    return client->fd < 0 ? 0 : head + 4 + length;
}

/* --- the handshake --------------------------------------------------------------------------------------------- */

static uint32_t rotate(uint32_t word, int bits)
{
    return word << bits | word >> (32 - bits);
}

static void sha1_block(uint32_t *state, const uint8_t *block)
{
    uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 |
               block[4 * i + 3];
    for (int i = 16; i < 80; i++)
        w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t mix = i < 20   ? ((b & c) | (~b & d)) + 0x5a827999
                       : i < 40 ? (b ^ c ^ d) + 0x6ed9eba1
                       : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
                                : (b ^ c ^ d) + 0xca62c1d6;
        uint32_t next = rotate(a, 5) + mix + e + w[i];
        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

/* The base64 of the SHA-1 of the key and RFC 6455's suffix: 60 bytes, so two blocks. */
static void make_accept(struct text key, char accept[29])
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint8_t blocks[128] = {0}, digest[21] = {0};
    memcpy(blocks, key.at, 24);
    memcpy(blocks + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    blocks[60] = 0x80;
    blocks[126] = 60 * 8 >> 8;
    blocks[127] = (60 * 8) & 0xff;
    sha1_block(state, blocks);
    sha1_block(state, blocks + 64);
    for (int i = 0; i < 20; i++)
        digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
    for (int i = 0; i < 7; i++) {
        uint32_t three = (uint32_t)digest[3 * i] << 16 | (uint32_t)digest[3 * i + 1] << 8 | digest[3 * i + 2];
        for (int j = 0; j < 4; j++)
            accept[4 * i + j] = alphabet[three >> (18 - 6 * j) & 63];
    }
    accept[27] = '=';
    accept[28] = '\0';
}

/* The value of a header field, empty if there is none. The request ends with an empty line. */
static struct text header(const char *request, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = strstr(request, "\r\n") + 2; *line != '\r'; line = strstr(line, "\r\n") + 2) {
        if (strncasecmp(line, name, length) != 0 || line[length] != ':')
            continue;
        const char *value = line + length + 1;
        value += strspn(value, " \t");
        size_t end = strcspn(value, "\r");
        while (end && (value[end - 1] == ' ' || value[end - 1] == '\t'))
            end--;
        return (struct text){value, end};
    }
    return (struct text){"", 0};
}

/* Whether compressed frames can be what was offered: with `server_no_context_takeover` each message would need a
 * context of its own, and `server_max_window_bits` may ask for a smaller window than the shared one. */
static bool offers_deflate(struct text offers)
{
    const char *at = offers.at, *end = at + offers.length;
    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at)), *stop = comma ? comma : end;
        at += strspn(at, " \t");
        size_t length = stop > at ? (size_t)(stop - at) : 0;
        if (length >= LENGTH("permessage-deflate") && memcmp(at, "permessage-deflate", 18) == 0 &&
            !memmem(at, length, "server_", 7))
            return true;
        at = stop + 1;
    }
    return false;
}

static void answer(struct client *client, const char *response)
{
    send_bytes(client, response, strlen(response));
}

static void answer_and_drop(struct client *client, const char *status)
{
    char response[128];
    snprintf(response, sizeof response, "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status);
    answer(client, response);
    drop(client);
}

static void upgrade(struct client *client, const char *request)
{
    char accept[29], response[256];
    struct text protocol = header(request, "Upgrade"), key = header(request, "Sec-WebSocket-Key");
    const size_t start = LENGTH("GET " ENDPOINT);
    if (strncmp(request, "GET " ENDPOINT, start) != 0 || (request[start] != ' ' && request[start] != '?')) {
        answer_and_drop(client, "404 Not Found");
    } else if (protocol.length != 9 || strncasecmp(protocol.at, "websocket", 9) != 0 || key.length != 24 ||
               !equal(header(request, "Sec-WebSocket-Version"), "13")) {
        answer_and_drop(client, "400 Bad Request");
    } else if (!equal(header(request, "X-API-Key"), options.key)) {
        answer_and_drop(client, "401 Unauthorized");
    } else {
        client->open = true;
        client->deflating = options.compression && offers_deflate(header(request, "Sec-WebSocket-Extensions"));
        deflating_clients += client->deflating;
        make_accept(key, accept);
        snprintf(response, sizeof response,
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: %s\r\n%s\r\n",
                 accept,
                 client->deflating
                     ? "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n"
                     : "");
        answer(client, response);
    }
}

/* Takes the request; returns its length, or 0 if it is not all there (or the client is gone). */
static size_t take_request(struct client *client, char *bytes, size_t available)
{
    char *end = memmem(bytes, available, "\r\n\r\n", 4);
    if (!end && available < MAX_REQUEST)
        return 0;
    if (!end || memchr(bytes, '\0', (size_t)(end - bytes))) {
        answer_and_drop(client, "400 Bad Request");
        return 0;
    }
    char first_after = end[4]; /* of a frame, or of the space beyond what was read */
    end[4] = '\0';
    upgrade(client, bytes);
    end[4] = first_after;
    return client->fd < 0 ? 0 : (size_t)(end + 4 - bytes);
}

/* --- connections ----------------------------------------------------------------------------------------------- */

static void accept_clients(void)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *client = allocate(sizeof *client);
        client->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0)
            die("epoll_ctl: %s", strerror(errno));
    }
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
        die("accept: %s", strerror(errno));
}

static void read_client(struct client *client)
{
    const size_t before = client->unread.length;
    char *at = client_space + MAX_REQUEST + MAX_CLIENT_MESSAGE;
    ssize_t fresh = recv(client->fd, at, CLIENT_READ, MSG_DONTWAIT);
    if (fresh <= 0) {
        if (fresh == 0 || (errno != EAGAIN && errno != EINTR))
            drop(client);
        return;
    }
    if (before)
        memcpy(at -= before, client->unread.bytes, before);
    size_t left = before + (size_t)fresh, taken;
    release(&client->unread);
    while ((taken = client->open ? take_frame(client, at, left) : take_request(client, at, left)) > 0) {
        at += taken;
        left -= taken;
    }
    if (client->fd >= 0 && left)
        append(&client->unread, at, left);
}

static void run(void)
{
    struct epoll_event events[512];
    while (true) {
        int count = epoll_wait(poller, events, 512, lagging ? 1000 : -1);
        if (count < 0 && errno != EINTR)
            die("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &redis) {
                read_redis();
                continue;
            }
            if (events[i].data.ptr == &listener) {
                accept_clients();
                continue;
            }
            struct client *client = events[i].data.ptr;
            if (client->fd >= 0 && client->unsent.length && (events[i].events & EPOLLOUT))
                send_unsent(client);
            if (client->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
                read_client(client);
        }
        if (lagging)
            drop_stuck();
        free_dropped();
    }
}

static uint16_t open_port(void)
{
    const int on = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(options.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* On Linux accepted sockets inherit both options. */
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        (options.send_buffer && setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &options.send_buffer, sizeof(int)) != 0) ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, SOMAXCONN) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0)
        die("port %u: %s", options.port, strerror(errno));
    return ntohs(address.sin_port);
}

/* --- options --------------------------------------------------------------------------------------------------- */

static long number(const char *text, long least, long most)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || end == text || value < least || value > most)
        die("%s: not a number from %ld to %ld", text, least, most);
    return value;
}

static void read_redis_url(const char *url)
{
    char host[64], database[8];
    unsigned port;
    if (sscanf(url, "redis://%63[0-9.]:%u/%7s", host, &port, database) < 2 || port > 65535 ||
        inet_pton(AF_INET, host, &options.redis_host) != 1)
        die("%s: wanted is redis://IPV4:PORT/0", url);
    options.redis_port = (uint16_t)port;
}

static void read_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"port", required_argument, NULL, 'p'},       {"redis-url", required_argument, NULL, 'r'},
        {"exchange", required_argument, NULL, 'e'},   {"mode", required_argument, NULL, 'm'},
        {"compression", no_argument, NULL, 'c'},      {"send-buffer", required_argument, NULL, 's'},
        {NULL, 0, NULL, 0},
    };
    int name;
    const char *mode = "";
    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (name) {
        case 'p': options.port = (uint16_t)number(optarg, 0, 65535); break;
        case 'r': read_redis_url(optarg); break;
        case 'e':
            snprintf(options.prefix, sizeof options.prefix, "channel:exchange:%.*s:candle:close:",
                     (int)strcspn(optarg, ":"), optarg);
            break;
        case 'm': mode = optarg; break;
        case 'c': options.compression = true; break;
        case 's': options.send_buffer = (int)number(optarg, 1, 1 << 30); break;
        default: exit(1);
        }
    }
    options.joined = strcmp(mode, "joined") == 0;
    options.key = getenv("TORNADO_BRIDGE_API_KEY");
    if (!options.redis_port || !options.prefix[0] || (!options.joined && strcmp(mode, "single") != 0))
        die("wanted: --mode joined|single --redis-url URL --exchange ID:NAME [--port P] [--compression] "
            "[--send-buffer BYTES]");
    if (!options.key)
        die("TORNADO_BRIDGE_API_KEY is not set");
    snprintf(options.pattern, sizeof options.pattern, "%s*:*", options.prefix);
}

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    raise_file_limit();
    if (options.compression)
        start_compression();
    client_space = allocate(MAX_REQUEST + MAX_CLIENT_MESSAGE + CLIENT_READ + 1);
    uint16_t port = open_port();
    subscribe_to_redis();
    while (!read_redis())
        ;
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event at_redis = {.events = EPOLLIN, .data.ptr = &redis};
    struct epoll_event at_listener = {.events = EPOLLIN, .data.ptr = &listener};
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, redis, &at_redis) != 0 ||
        epoll_ctl(poller, EPOLL_CTL_ADD, listener, &at_listener) != 0)
        die("epoll: %s", strerror(errno));
    printf("listening on http://127.0.0.1:%u\n", port);
    fflush(stdout);
    run();
}
