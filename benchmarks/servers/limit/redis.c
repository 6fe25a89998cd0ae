/* The connection to Redis (RESP2). */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "limit.h"

#define REDIS_READ (4 * 1024 * 1024) /* and so the longest message */

int redis;

static struct buffer redis_unread;

/* Takes a line with a type and a number. */
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

/* Reads once, takes all whole messages, and sends their frames. Returns whether the read confirmed the subscription. */
bool read_redis(void)
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

void subscribe_to_redis(void)
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
