/* Tables: from names to channels, cohorts and sources. */
#include <stdlib.h>
#include <string.h>

#include "limit.h"

static struct table subscriptions;

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

/* Returns the member with that name. A missing one is added with `size` bytes, all zero except `named`. */
void *find_or_add(struct table *table, const void *name, size_t length, size_t size)
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

void take_out(struct table *table, struct named *named)
{
    struct named **place = &table->buckets[named->hash % BUCKETS];
    while (*place != named)
        place = &(*place)->next;
    *place = named->next;
}

struct subscription *find_subscription(const char *channel, size_t length)
{
    return find_or_add(&subscriptions, channel, length, sizeof(struct subscription));
}
