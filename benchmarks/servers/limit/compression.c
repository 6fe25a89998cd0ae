/* Compression (RFC 7692), where zlib is installed. */
#include <string.h>
#ifdef WITH_ZLIB
#include <zlib.h>
#endif

#include "limit.h"

#define BATCH_BYTES (64 * 1024) /* of plain text, compressed in one context */
#define DEFLATE_LEVEL 1
#define WINDOW_BITS 15

#ifdef WITH_ZLIB
static z_stream deflater, inflater;

void start_compression(void)
{
    if (deflateInit2(&deflater, DEFLATE_LEVEL, Z_DEFLATED, -WINDOW_BITS, 8, Z_DEFAULT_STRATEGY) != Z_OK ||
        inflateInit2(&inflater, -WINDOW_BITS) != Z_OK)
        die("zlib does not start");
}

/* Compresses the frames of a batch. Every batch starts with an empty window, so a client that skipped one can read on.
 * Within a batch, messages refer to earlier ones. */
struct text deflate_frames(struct text frames)
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

/* Returns the length of the message, or SIZE_MAX for an invalid one. */
size_t inflate_message(const char *bytes, size_t length, char *message, size_t room)
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
void start_compression(void)
{
    die("built without zlib, so there is no --compression");
}

struct text deflate_frames(struct text frames)
{
    return frames;
}

size_t inflate_message(const char *bytes, size_t length, char *message, size_t room)
{
    (void)bytes, (void)length, (void)message, (void)room;
    return SIZE_MAX;
}
#endif
