/* Memory and buffers, and the way out when they fail. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "limit.h"

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("limit: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

void *resize(void *memory, size_t size)
{
    memory = realloc(memory, size);
    if (!memory)
        die("out of memory");
    return memory;
}

void *allocate(size_t size)
{
    return memset(resize(NULL, size), 0, size);
}

/* Makes room for `more` bytes and returns where they go. */
char *reserve(struct buffer *buffer, size_t more)
{
    size_t wanted = buffer->length + more;
    if (wanted > buffer->capacity) {
        buffer->capacity = wanted > 2 * buffer->capacity ? wanted : 2 * buffer->capacity;
        buffer->bytes = resize(buffer->bytes, buffer->capacity);
    }
    return buffer->bytes + buffer->length;
}

void append(struct buffer *buffer, const void *bytes, size_t length)
{
    memcpy(reserve(buffer, length), bytes, length);
    buffer->length += length;
}

void release(struct buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct buffer){0};
}

bool equal(struct text text, const char *literal)
{
    return text.length == strlen(literal) && memcmp(text.at, literal, text.length) == 0;
}

time_t now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec;
}
