/* The clients' connections: opened a few at a time, and their frames read in pieces of any size. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define MAX_FRAME (1 << 20)
#define READ_SIZE (256 * 1024)
#define MAX_HANDSHAKE 8192
#define IN_FLIGHT 64 /* handshakes; below every server's backlog, so that connect() does not wait */

#define SUBSCRIBED "{\"type\":\"subscribed\","
#define SUBSCRIBE "{\"action\":\"subscribe\","
#define ERROR "{\"type\":\"error\","

/* Engine.IO 4 with Socket.IO 5: packets are text messages that begin with their type. */
#define IO_OPEN '0'
#define IO_PING '2'
#define IO_PONG "3"
#define IO_CONNECT "40"
#define IO_SUBSCRIBED "42[\"subscribed\","
#define IO_SUBSCRIBE "42[\"subscribe\","
#define IO_EVENT "42[\"candle_close\","

/* RFC 6455 section 1.3: the key of its example and the accept value that belongs to it. */
#define WEBSOCKET_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define WEBSOCKET_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

enum { TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };

static int poller;
static uint8_t *space; /* MAX_FRAME for the tail that is kept, then READ_SIZE */
static char *upgrade;
static uint32_t target, started, in_flight, ready, open_count;
static bool opening, closing;
static struct timespec opening_began;

static const char *const paths[] = {
    [PLAIN] = "/public/v1/stream", [SOCKET_IO] = "/socket.io/?EIO=4&transport=websocket"};

static void open_more(void);

/* --- sending --------------------------------------------------------------------------------------------------- */

static bool send_frame(int fd, int opcode, const void *payload, size_t length)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    static uint8_t frame[8 + 65535];
    size_t head = 2;
    frame[0] = (uint8_t)(0x80 | opcode);
    if (length < 126) {
        frame[1] = (uint8_t)(0x80 | length);
    } else if (length <= 65535) {
        frame[1] = 0x80 | 126;
        frame[2] = (uint8_t)(length >> 8);
        frame[3] = (uint8_t)length;
        head = 4;
    } else {
        return false;
    }
    memcpy(frame + head, mask, sizeof mask);
    head += sizeof mask;
    for (size_t i = 0; i < length; i++)
        frame[head + i] = ((const uint8_t *)payload)[i] ^ mask[i & 3];
    return send(fd, frame, head + length, MSG_NOSIGNAL) == (ssize_t)(head + length);
}

/* --- the end of a connection ----------------------------------------------------------------------------------- */

static void let_go(struct client *client)
{
    close(client->fd);
    client->fd = -1;
    client->tail_length = 0;
    open_count--;
#ifdef WITH_DEFLATE
    if (client->inflation) {
        end_inflation(client->inflation);
        client->inflation = NULL;
    }
#endif
}

static void drop(struct client *client)
{
    if (client->state == SHAKING)
        die("handshake: closed before the whole answer had arrived");
    if (client->state == SUBSCRIBING)
        die("a client was closed before it was subscribed, code %d", counts.close_code);
    if (client->state == READY) {
        if (!counts.closed++)
            say("closed\n");
    }
    client->state = IDLE;
    let_go(client);
}

static void fail(struct client *client)
{
    counts.protocol_errors++;
    drop(client);
}

/* --- receiving ------------------------------------------------------------------------------------------------- */

static void become_ready(struct client *client)
{
    client->state = READY;
    if (client->deaf)
        epoll_ctl(poller, EPOLL_CTL_DEL, client->fd, NULL);
    in_flight--;
    ready++;
    open_more();
}

static void subscribe(struct client *client)
{
    client->state = SUBSCRIBING;
    client->replies = 0;
    for (uint32_t i = 0; i < client->set->request_count; i++)
        if (!send_frame(client->fd, TEXT, client->set->requests[i].bytes, client->set->requests[i].length))
            die("subscribe: %s", strerror(errno));
    if (!client->set->request_count)
        become_ready(client);
}

/* Whether a text is the answer to the next subscribe message: the same channels after a different beginning. */
static bool take_answer(struct client *client, const char *text, size_t length, const char *answer,
                        const char *question)
{
    size_t begin = strlen(answer);
    if (length <= begin || memcmp(text, answer, begin) != 0)
        return false;
    const struct text *request = &client->set->requests[client->replies];
    size_t same = request->length - strlen(question);
    if (length != begin + same || memcmp(text + begin, request->bytes + request->length - same, same) != 0)
        die("not all channels were granted: %.*s", (int)length, text);
    if (++client->replies == client->set->request_count)
        become_ready(client);
    return true;
}

static void take_packet(struct client *client, const char *text, size_t length, size_t wire_bytes)
{
    if (length > LENGTH(IO_EVENT) && memcmp(text, IO_EVENT, LENGTH(IO_EVENT)) == 0) {
        if (!take_event(client, text + LENGTH(IO_EVENT), length - LENGTH(IO_EVENT) - 1, wire_bytes))
            counts.foreign++;
    } else if (length == 1 && *text == IO_PING) {
        if (!send_frame(client->fd, TEXT, IO_PONG, LENGTH(IO_PONG)))
            drop(client);
    } else if (client->state == SHAKING && *text == IO_OPEN) {
        if (!send_frame(client->fd, TEXT, IO_CONNECT, LENGTH(IO_CONNECT)))
            die("connect packet: %s", strerror(errno));
    } else if (client->state == SHAKING && length >= 2 && memcmp(text, IO_CONNECT, 2) == 0) {
        subscribe(client);
    } else if (client->state != SUBSCRIBING || !take_answer(client, text, length, IO_SUBSCRIBED, IO_SUBSCRIBE)) {
        counts.foreign++;
    }
}

static void take_text(struct client *client, const char *text, size_t length, size_t wire_bytes)
{
    if (options.dialect == SOCKET_IO)
        take_packet(client, text, length, wire_bytes);
    else if (take_event(client, text, length, wire_bytes))
        return;
    else if (client->state == SUBSCRIBING && take_answer(client, text, length, SUBSCRIBED, SUBSCRIBE))
        return;
    else if (length > LENGTH(ERROR) && memcmp(text, ERROR, LENGTH(ERROR)) == 0)
        die("refused: %.*s", (int)length, text);
    else
        counts.foreign++;
}

static void take_compressed(struct client *client, const uint8_t *payload, size_t length, size_t wire_bytes)
{
#ifdef WITH_DEFLATE
    const char *text;
    size_t text_length;
    if (client->inflation && inflate_message(client->inflation, payload, length, &text, &text_length)) {
        uint64_t before = measured.deliveries;
        take_text(client, text, text_length, wire_bytes);
        measured.compressed += measured.deliveries - before;
        return;
    }
#else
    (void)payload, (void)length, (void)wire_bytes;
#endif
    fail(client);
}

/* Takes one frame. Returns its length, or 0 if it is incomplete or the client is gone. */
static size_t take_frame(struct client *client, const uint8_t *bytes, size_t available)
{
    if (available < 2)
        return 0;
    size_t head = 2;
    uint64_t length = bytes[1] & 0x7f;
    if (length == 126) {
        head = 4;
        if (available < head)
            return 0;
        length = (uint64_t)bytes[2] << 8 | bytes[3];
    } else if (length == 127) {
        head = 10;
        if (available < head)
            return 0;
        length = 0;
        for (int i = 2; i < 10; i++)
            length = length << 8 | bytes[i];
    }
    int opcode = bytes[0] & 0x0f;
    bool compressed = (bytes[0] & 0xf0) == 0xc0 && opcode == TEXT;
    bool whole = compressed || (bytes[0] & 0xf0) == 0x80; /* FIN, and no other reserved bit */
    if (!whole || (bytes[1] & 0x80) || length > MAX_FRAME - 10) {
        fail(client);
        return 0;
    }
    if (available < head + length)
        return 0;
    const uint8_t *payload = bytes + head;
    if (compressed) {
        take_compressed(client, payload, length, head + length);
    } else if (opcode == TEXT) {
        take_text(client, (const char *)payload, length, head + length);
    } else if (opcode == PING) {
        if (!send_frame(client->fd, PONG, payload, length))
            drop(client);
    } else if (opcode == CLOSE) {
        if (!counts.close_code && length >= 2 && client->state != CLOSING)
            counts.close_code = payload[0] << 8 | payload[1];
        drop(client);
    } else if (opcode != PONG) {
        fail(client);
    }
    return client->fd < 0 ? 0 : head + length;
}

/* Takes the server's answer to the upgrade. Returns its length, or 0 if it is incomplete. */
static size_t take_handshake(struct client *client, const uint8_t *bytes, size_t available)
{
    const uint8_t *end = memmem(bytes, available, "\r\n\r\n", 4);
    if (!end) {
        if (available >= MAX_HANDSHAKE)
            die("handshake: no whole answer in %d bytes", MAX_HANDSHAKE);
        return 0;
    }
    char answer[MAX_HANDSHAKE];
    size_t length = (size_t)(end - bytes) + 4;
    if (length >= sizeof answer)
        die("handshake: the answer is too long");
    memcpy(answer, bytes, length);
    answer[length] = '\0';
    if (strncmp(answer, "HTTP/1.1 101", 12) != 0 || !strstr(answer, WEBSOCKET_ACCEPT))
        die("handshake refused: %.*s", (int)strcspn(answer, "\r\n"), answer);
#ifdef WITH_DEFLATE
    client->inflation = options.deflate ? agree_on_deflate(answer) : NULL;
    counts.deflated += client->inflation != NULL;
#endif
    if (options.dialect == PLAIN)
        subscribe(client);
    else
        client->replies = 1; /* to the upgrade; the packets of the handshake follow */
    return length;
}

static void keep_tail(struct client *client, const uint8_t *bytes, size_t length)
{
    if (length > client->tail_capacity) {
        client->tail = enlarge(client->tail, length);
        client->tail_capacity = length;
    }
    if (length)
        memcpy(client->tail, bytes, length);
    client->tail_length = length;
}

/* Takes the tail that was kept and the `fresh` bytes at space + MAX_FRAME. */
static void take_bytes(struct client *client, size_t fresh)
{
    uint8_t *at = space + MAX_FRAME - client->tail_length;
    if (client->tail_length)
        memcpy(at, client->tail, client->tail_length);
    size_t left = client->tail_length + fresh, taken;
    if (client->state == SHAKING && client->replies == 0) {
        taken = take_handshake(client, at, left);
        at += taken;
        left -= taken;
    }
    if (client->state != SHAKING || client->replies != 0)
        while ((taken = take_frame(client, at, left)) > 0) {
            at += taken;
            left -= taken;
        }
    if (client->fd >= 0)
        keep_tail(client, at, left);
}

void read_client(struct client *client)
{
    if (client->fd < 0) /* dropped earlier in the same batch of events */
        return;
    ssize_t fresh = recv(client->fd, space + MAX_FRAME, READ_SIZE, MSG_DONTWAIT);
    if (fresh > 0) {
        note_time();
        take_bytes(client, (size_t)fresh);
    } else if (fresh == 0 || (errno != EAGAIN && errno != EINTR)) {
        drop(client);
    }
}

/* --- opening and closing --------------------------------------------------------------------------------------- */

void prepare_connections(int epoll)
{
    poller = epoll;
    space = allocate(MAX_FRAME + READ_SIZE, 1);
    const char *key = getenv("TORNADO_BRIDGE_API_KEY");
    if (!key)
        die("TORNADO_BRIDGE_API_KEY is not set");
    if (asprintf(&upgrade,
                 "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\n"
                 "Connection: Upgrade\r\nSec-WebSocket-Key: " WEBSOCKET_KEY "\r\nSec-WebSocket-Version: 13\r\n"
                 "%sX-API-Key: %s\r\n\r\n",
                 paths[options.dialect], options.port,
                 options.deflate ? "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" : "",
                 key) < 0)
        die("out of memory");
}

static void start(struct client *client)
{
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        die("socket: %s", strerror(errno));
    open_count++;
    client->state = SHAKING;
    client->replies = 0;
    client->next = client->set->size ? client->set->channels[0] : UINT32_MAX;
    client->position = 0;
    int on = 1;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(options.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0)
        die("connect: %s", strerror(errno));
    if (send(client->fd, upgrade, strlen(upgrade), MSG_NOSIGNAL) != (ssize_t)strlen(upgrade))
        die("handshake: %s", strerror(errno));
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)(client - clients)};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, client->fd, &event) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

static void open_more(void)
{
    while (opening && started < target && in_flight < IN_FLIGHT) {
        in_flight++;
        start(&clients[started++]);
    }
}

/* Opens the clients up to the given number. */
void open_up_to(uint32_t number)
{
    clock_gettime(CLOCK_MONOTONIC, &opening_began);
    target = number;
    opening = true;
    open_more();
}

/* Whether all clients are open and subscribed. Returns true once per opening. */
bool all_open(uint32_t *number, double *seconds)
{
    if (!opening || ready < target)
        return false;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *number = ready;
    *seconds = (double)(now.tv_sec - opening_began.tv_sec) + (double)(now.tv_nsec - opening_began.tv_nsec) / 1e9;
    opening = false;
    return true;
}

/* Starts the closing handshake of all clients. */
void close_all(void)
{
    static const uint8_t normal[2] = {1000 >> 8, 1000 & 0xff};
    closing = true;
    for (uint32_t i = 0; i < started; i++)
        if (clients[i].fd >= 0) {
            clients[i].state = CLOSING;
            if (!send_frame(clients[i].fd, CLOSE, normal, sizeof normal))
                drop(&clients[i]);
        }
    started = ready = target = 0;
}

/* Whether all connections are closed. Returns true once per closing. */
bool all_closed(void)
{
    if (!closing || open_count)
        return false;
    closing = false;
    return true;
}
