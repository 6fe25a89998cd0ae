/* The opening handshake (RFC 6455 section 4). */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "limit.h"

#define ENDPOINT "/public/v1/stream"

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

/* Writes the base64 of the SHA-1 of the key and the suffix of RFC 6455. These are 60 bytes, so two blocks. */
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

/* Returns the value of a header field, empty where it is missing. The request must end with an empty line. */
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

/* Whether the shared compressed frames suit the client's offers. `server_no_context_takeover` would need a context per
 * message, and `server_max_window_bits` may ask for a smaller window than the shared one. */
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

/* Takes the request. Returns its length, or 0 if it is incomplete or the client is gone. */
size_t take_request(struct client *client, char *bytes, size_t available)
{
    char *end = memmem(bytes, available, "\r\n\r\n", 4);
    if (!end && available < MAX_REQUEST)
        return 0;
    if (!end || memchr(bytes, '\0', (size_t)(end - bytes))) {
        answer_and_drop(client, "400 Bad Request");
        return 0;
    }
    char first_after = end[4]; /* the first byte of a frame, or of unused space */
    end[4] = '\0';
    upgrade(client, bytes);
    end[4] = first_after;
    return client->fd < 0 ? 0 : (size_t)(end + 4 - bytes);
}
