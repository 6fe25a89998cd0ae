/* permessage-deflate (RFC 7692) for clients: the server's answer is read, and messages are inflated. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#include "load.h"

#define MAX_MESSAGE (1 << 20)
#define WINDOW_BITS 15 /* the default, where a client names no window */
#define EXTENSIONS "\r\nSec-WebSocket-Extensions:"

struct inflation {
    z_stream zlib;
    bool takes_over; /* messages may refer to earlier ones */
};

/* Returns the agreement in the server's answer to the upgrade, NULL without one. */
struct inflation *agree_on_deflate(const char *answer)
{
    const char *line = strcasestr(answer, EXTENSIONS);
    if (!line)
        return NULL;
    char *agreed = strndup(line + LENGTH(EXTENSIONS), strcspn(line + LENGTH(EXTENSIONS), "\r"));
    struct inflation *inflation = allocate(1, sizeof *inflation);
    inflation->takes_over = true;
    char *rest, *word = strtok_r(agreed, "; ", &rest);
    if (!word || strcasecmp(word, "permessage-deflate") != 0)
        die("handshake: an extension that was not offered: %s", word ? word : "");
    while ((word = strtok_r(NULL, "; ", &rest))) {
        if (strcasecmp(word, "server_no_context_takeover") == 0)
            inflation->takes_over = false;
        else if (strncasecmp(word, "server_max_window_bits=", 23) != 0 &&
                 strncasecmp(word, "client_max_window_bits", 22) != 0 &&
                 strcasecmp(word, "client_no_context_takeover") != 0)
            die("handshake: an unknown parameter of permessage-deflate: %s", word);
    }
    free(agreed);
    if (inflateInit2(&inflation->zlib, -WINDOW_BITS) != Z_OK)
        die("out of memory");
    return inflation;
}

/* Inflates a message into space that the next one reuses. Returns false for an invalid message. */
bool inflate_message(struct inflation *inflation, const uint8_t *bytes, size_t length, const char **text,
                     size_t *text_length)
{
    static uint8_t space[MAX_MESSAGE];
    static const uint8_t end[] = {0x00, 0x00, 0xff, 0xff}; /* RFC 7692 section 7.2.2 */
    z_stream *zlib = &inflation->zlib;
    if (!inflation->takes_over)
        inflateReset(zlib);
    zlib->next_out = space;
    zlib->avail_out = sizeof space;
    zlib->next_in = (uint8_t *)bytes;
    zlib->avail_in = (unsigned)length;
    int result = inflate(zlib, Z_SYNC_FLUSH);
    if (result != Z_OK || zlib->avail_in)
        return false;
    zlib->next_in = (uint8_t *)end;
    zlib->avail_in = sizeof end;
    result = inflate(zlib, Z_SYNC_FLUSH);
    *text = (const char *)space;
    *text_length = sizeof space - zlib->avail_out;
    return result == Z_OK && !zlib->avail_in && zlib->avail_out;
}

void end_inflation(struct inflation *inflation)
{
    inflateEnd(&inflation->zlib);
    free(inflation);
}
