/* The dialogue: frames from clients (RFC 6455), and changes of their subscriptions. */
#include <stdio.h>
#include <string.h>

#include "limit.h"

#define CHANNELS_PER_MESSAGE 20 /* the limit of the v1 contract */
#define MAX_SUBSCRIPTIONS 1000

/* Adds a subscription to a sorted set or removes it. Returns the new size. */
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
                if (*count == CHANNELS_PER_MESSAGE || !take_string(&json, &channels[(*count)++]))
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
    struct text action, channels[CHANNELS_PER_MESSAGE], symbol, timeframe;
    struct subscription *set[MAX_SUBSCRIPTIONS + CHANNELS_PER_MESSAGE];
    char reply[64 + CHANNELS_PER_MESSAGE * (CHANNEL_LENGTH + 3)];
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

/* Takes one frame. Returns its length, or 0 if it is incomplete or the client is gone. */
size_t take_frame(struct client *client, char *bytes, size_t available)
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
