/* Sending: frames for clients, and the bytes that the kernel does not take at once. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "limit.h"

#define SKIP_BYTES (64 * 1024) /* a client with more than this unsent gets no further batch */
#define ABORT_BYTES (4 * 1024 * 1024)
#define ABORT_SECONDS 30

struct client *lagging;
uint32_t deflating_clients;
int poller;

static struct client *dropped; /* freed after the events of epoll in hand, which may name them */

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

/* Closes the connection. The client leaves its cohort later, because frames may be on their way to that cohort. */
void drop(struct client *client)
{
    if (client->fd < 0)
        return;
    forget_unsent(client);
    close(client->fd);
    client->fd = -1;
    client->dropped = dropped;
    dropped = client;
}

void free_dropped(void)
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

void send_bytes(struct client *client, const char *bytes, size_t length)
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

void send_unsent(struct client *client)
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

void drop_stuck(void)
{
    time_t now = now_seconds();
    for (struct client *client = lagging, *after; client; client = after) {
        after = client->lagging_after;
        if (now - client->stuck_since > ABORT_SECONDS)
            drop(client);
    }
}

/* Writes the head of a frame. Returns its length: 2, 4 or 10. */
size_t put_head(char *at, int first, size_t length)
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

void send_frame(struct client *client, int opcode, const char *payload, size_t length)
{
    char *frame = resize(NULL, length + 10);
    size_t head = put_head(frame, FIN | opcode, length);
    memcpy(frame + head, payload, length);
    send_bytes(client, frame, head + length);
    free(frame);
}

void refuse(struct client *client, int code)
{
    char payload[2] = {(char)(code >> 8), (char)code};
    send_frame(client, CLOSE, payload, sizeof payload);
    drop(client);
}

/* Sends once per client: the compressed bytes where the client takes them, else the plain ones. */
void send_to_cohort(struct cohort *cohort, struct text plain, struct text deflated)
{
    for (uint32_t i = 0; i < cohort->count; i++) {
        struct client *client = cohort->clients[i];
        if (client->fd < 0 || client->unsent.length - client->sent > SKIP_BYTES)
            continue;
        struct text bytes = client->deflating ? deflated : plain;
        send_bytes(client, bytes.at, bytes.length);
    }
}
