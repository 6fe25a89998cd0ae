/* Which events are due to which client, and whether what came is that, byte for byte and in order.
 *
 * Event number e (from 0) is a candle on channel e modulo the number of channels. It carries e as the whole part of its
 * `volume`, before three decimals, the epoch millisecond of its publication as its `timestamp`, and the microseconds
 * within that millisecond as the third to fifth digit of its `high`.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "load.h"

#define CHANNELS_A_MESSAGE 20 /* docs/protocol.md section 2 */
#define CHANNEL_LENGTH 128    /* likewise */
#define MAX_CHANNELS 10000
#define MAX_SET_LINE (1 << 16)
#define MAX_GAP (1 << 20) /* events; no number of a run is that far ahead */
#define KNOWN 2048        /* events whose text is remembered; a power of two, more than a burst has */
#define FINE_US 10
#define FINE_BUCKETS 10000 /* up to 100 ms */
#define COARSE_US 1000
#define COARSE_BUCKETS 60000 /* longer ones count as the last */

#define CANDLE_HEAD "{\"type\":\"candle_close\",\"channel\":\""
#define CANDLE_DATA "\",\"data\":{\"timestamp\":\""
#define CANDLE_HIGH "\",\"high\":\""
#define CANDLE_VOLUME "\"volume\":\""
#define CANDLE_END "\"}}"
#define TIMESTAMP "YYYY-MM-DDThh:mm:ss.mmmZ"

/* An event as the first client got it: all others must get the same. */
struct known {
    uint32_t event;
    uint32_t length; /* 0: nothing known */
    int64_t published_us;
    char text[512];
};

static struct text *channels;
static uint32_t channel_count;
static struct set *sets;
static uint32_t set_count;
static struct known *known;
static uint64_t latencies[FINE_BUCKETS + COARSE_BUCKETS];
static int64_t greatest_us;
static int64_t now_us; /* epoch, when the bytes in hand were read */
static bool sampled;

/* --- what is asked for ----------------------------------------------------------------------------------------- */

static FILE *opened(const char *name)
{
    FILE *file = fopen(name, "r");
    if (!file)
        die("%s: %s", name, strerror(errno));
    return file;
}

void read_channels(void)
{
    FILE *file = opened(options.channels_file);
    channels = allocate(MAX_CHANNELS, sizeof *channels);
    char line[CHANNEL_LENGTH + 2];
    while (fgets(line, sizeof line, file)) {
        size_t length = strcspn(line, "\n");
        if (!length || line[length] != '\n' || channel_count == MAX_CHANNELS)
            die("%s: line %u is no channel, or one too many", options.channels_file, channel_count + 1);
        channels[channel_count].bytes = strndup(line, length);
        channels[channel_count++].length = length;
    }
    fclose(file);
    if (!channel_count)
        die("%s: no channels", options.channels_file);
    known = allocate(KNOWN, sizeof *known);
}

/* Whether a subscription, whose second and third part may be `*`, covers a channel. */
static bool covers(const char *subscription, const char *channel)
{
    while (*subscription && *channel) {
        if (*subscription == '*') {
            subscription++;
            channel += strcspn(channel, ":");
        } else if (*subscription++ != *channel++) {
            return false;
        }
    }
    return !*subscription && !*channel;
}

static void add_request(struct set *set, char **subscriptions, uint32_t count)
{
    set->requests = enlarge(set->requests, (set->request_count + 1) * sizeof *set->requests);
    struct text *request = &set->requests[set->request_count++];
    FILE *text = open_memstream(&request->bytes, &request->length);
    if (!text)
        die("out of memory");
    fputs(options.dialect == SOCKET_IO ? "42[\"subscribe\",[" : "{\"action\":\"subscribe\",\"channels\":[", text);
    for (uint32_t i = 0; i < count; i++)
        fprintf(text, "%s\"%s\"", i ? "," : "", subscriptions[i]);
    fputs(options.dialect == SOCKET_IO ? "]]" : "]}", text);
    fclose(text);
}

static void add_set(char *line)
{
    char *subscriptions[MAX_SET_LINE / 2];
    uint32_t count = 0;
    for (char *rest, *word = strtok_r(line, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest))
        subscriptions[count++] = word;
    sets = enlarge(sets, (set_count + 1) * sizeof *sets);
    struct set *set = &sets[set_count++];
    memset(set, 0, sizeof *set);
    for (uint32_t i = 0; i < count; i += CHANNELS_A_MESSAGE)
        add_request(set, subscriptions + i, count - i < CHANNELS_A_MESSAGE ? count - i : CHANNELS_A_MESSAGE);
    set->channels = allocate(channel_count, sizeof *set->channels);
    for (uint32_t c = 0; c < channel_count; c++) {
        uint32_t i = 0;
        while (i < count && !covers(subscriptions[i], channels[c].bytes))
            i++;
        if (i < count)
            set->channels[set->size++] = c;
    }
    set->channels = enlarge(set->channels, (set->size + 1) * sizeof *set->channels);
}

/* Line i, modulo the number of lines, has the subscriptions of client i, a blank apart. An empty one has none. */
void read_sets(void)
{
    FILE *file = opened(options.sets_file);
    static char line[MAX_SET_LINE];
    while (fgets(line, sizeof line, file)) {
        if (!strchr(line, '\n'))
            die("%s: line %u is too long", options.sets_file, set_count + 1);
        add_set(line);
    }
    fclose(file);
    if (!set_count)
        die("%s: no sets", options.sets_file);
    for (uint32_t i = 0; i < options.clients; i++)
        if (!clients[i].deaf)
            sets[i % set_count].readers++;
}

const struct set *set_of(uint32_t client)
{
    return &sets[client % set_count];
}

/* The number of the set's channels below a given one. */
static uint32_t rank(const struct set *set, uint32_t channel)
{
    uint32_t low = 0, high = set->size;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (set->channels[middle] < channel)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* How many deliveries the events 0 to `events` - 1 make to all that read. */
uint64_t deliveries_due(uint32_t events)
{
    uint64_t due = 0;
    for (uint32_t i = 0; i < set_count; i++) {
        const struct set *set = &sets[i];
        uint64_t each = (uint64_t)(events / channel_count) * set->size + rank(set, events % channel_count);
        due += each * set->readers;
    }
    return due;
}

/* --- what comes ------------------------------------------------------------------------------------------------ */

static int64_t clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Tells that bytes have just been read. */
void note_time(void)
{
    now_us = clock_us();
}

/* The epoch microseconds of `YYYY-MM-DDThh:mm:ss.mmmZ`. */
static int64_t epoch_us(const char *text)
{
    struct tm second = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &second);
    if (!end)
        return 0;
    return (int64_t)timegm(&second) * 1000000 + (int64_t)atoi(end + 1) * 1000;
}

/* Whether the text is a candle of this benchmark; then which event, and when it was published. */
static bool read_candle(const char *text, size_t length, uint32_t *event, int64_t *published_us)
{
    const size_t least = LENGTH(CANDLE_HEAD) + LENGTH(CANDLE_DATA) + LENGTH(TIMESTAMP) + LENGTH(CANDLE_VOLUME) +
                         LENGTH("0.000") + LENGTH(CANDLE_END);
    if (length < least || memcmp(text + length - LENGTH(CANDLE_END), CANDLE_END, LENGTH(CANDLE_END)) != 0)
        return false;
    const char *end = text + length - LENGTH(CANDLE_END) - LENGTH(".000");
    const char *digits = end;
    while (end - digits < 9 && digits[-1] >= '0' && digits[-1] <= '9')
        digits--;
    if (*end != '.' || digits == end || memcmp(digits - LENGTH(CANDLE_VOLUME), CANDLE_VOLUME, LENGTH(CANDLE_VOLUME)) != 0)
        return false;
    uint32_t number = 0;
    for (const char *digit = digits; digit < end; digit++)
        number = number * 10 + (uint32_t)(*digit - '0');
    const struct text *channel = &channels[number % channel_count];
    if (length < least + channel->length)
        return false;
    const char *at = text + LENGTH(CANDLE_HEAD);
    if (memcmp(text, CANDLE_HEAD, LENGTH(CANDLE_HEAD)) != 0 || memcmp(at, channel->bytes, channel->length) != 0)
        return false;
    at += channel->length;
    if (memcmp(at, CANDLE_DATA, LENGTH(CANDLE_DATA)) != 0)
        return false;
    at += LENGTH(CANDLE_DATA);
    const char *high = memmem(at, (size_t)(end - at), CANDLE_HIGH, LENGTH(CANDLE_HIGH));
    if (!high || end - high < (ptrdiff_t)(LENGTH(CANDLE_HIGH) + 5))
        return false;
    high += LENGTH(CANDLE_HIGH) + 2;
    *event = number;
    *published_us = epoch_us(at) + (high[0] - '0') * 100 + (high[1] - '0') * 10 + (high[2] - '0');
    return true;
}

static void advance(struct client *client)
{
    const struct set *set = client->set;
    uint32_t channel = set->channels[client->position];
    if (++client->position < set->size) {
        client->next += set->channels[client->position] - channel;
    } else {
        client->position = 0;
        client->next += channel_count - channel + set->channels[0];
    }
}

static void miss(struct client *client)
{
    if (client->missing_count == client->missing_capacity) {
        client->missing_capacity = client->missing_capacity ? 2 * client->missing_capacity : 16;
        client->missing = enlarge(client->missing, client->missing_capacity * sizeof *client->missing);
    }
    client->missing[client->missing_count++] = client->next;
    advance(client);
}

/* Whether an event was given up as lost; it is no longer. */
static bool found(struct client *client, uint32_t event)
{
    for (uint32_t i = 0; i < client->missing_count; i++)
        if (client->missing[i] == event) {
            memmove(client->missing + i, client->missing + i + 1,
                    (--client->missing_count - i) * sizeof *client->missing);
            return true;
        }
    return false;
}

static void count_latency(int64_t us)
{
    if (us < 0)
        us = 0;
    if (us > greatest_us)
        greatest_us = us;
    int64_t bucket = us / FINE_US;
    if (bucket >= FINE_BUCKETS) {
        bucket = FINE_BUCKETS + (us - FINE_US * FINE_BUCKETS) / COARSE_US;
        if (bucket >= FINE_BUCKETS + COARSE_BUCKETS)
            bucket = FINE_BUCKETS + COARSE_BUCKETS - 1;
    }
    latencies[bucket]++;
}

static void count_delivery(int64_t published_us, size_t wire_bytes)
{
    counts.received++;
    measured.deliveries++;
    measured.wire_bytes += wire_bytes;
    count_latency(now_us - published_us);
}

/* One that is not the one that is due. */
static void take_stray(struct client *client, uint32_t event, int64_t published_us, size_t wire_bytes)
{
    const struct set *set = client->set;
    uint32_t channel = event % channel_count, position = rank(set, channel);
    if (position == set->size || set->channels[position] != channel || event > client->next + MAX_GAP) {
        counts.foreign++;
        return;
    }
    if (event < client->next) {
        if (!found(client, event)) {
            counts.duplicated++;
            return;
        }
        counts.misordered++;
    } else {
        while (client->next != event)
            miss(client);
        advance(client);
    }
    count_delivery(published_us, wire_bytes);
}

/* Takes a text if it is a candle; `wire_bytes` is the length of its frame. */
bool take_event(struct client *client, const char *text, size_t length, size_t wire_bytes)
{
    struct known *due = &known[client->next % KNOWN];
    if (due->length == length && due->event == client->next && memcmp(due->text, text, length) == 0) {
        advance(client);
        count_delivery(due->published_us, wire_bytes);
        return true;
    }
    uint32_t event;
    int64_t published_us;
    if (!read_candle(text, length, &event, &published_us))
        return false;
    if (!sampled) {
        sampled = true;
        say("sample %.*s\n", (int)length, text);
    }
    struct known *same = &known[event % KNOWN];
    if (same->length && same->event == event) {
        counts.altered += same->length != length || memcmp(same->text, text, length) != 0;
    } else if (length <= sizeof same->text) {
        *same = (struct known){.event = event, .length = (uint32_t)length, .published_us = published_us};
        memcpy(same->text, text, length);
    }
    if (event == client->next && client->set->size) {
        advance(client);
        count_delivery(published_us, wire_bytes);
    } else {
        take_stray(client, event, published_us, wire_bytes);
    }
    return true;
}

/* --- latencies ------------------------------------------------------------------------------------------------- */

void forget_latencies(void)
{
    memset(latencies, 0, sizeof latencies);
    greatest_us = 0;
}

/* The least bound of a bucket that the given share of the latencies does not exceed. */
int64_t latency_us(double share)
{
    uint64_t total = 0, below = 0;
    for (int bucket = 0; bucket < FINE_BUCKETS + COARSE_BUCKETS; bucket++)
        total += latencies[bucket];
    for (int bucket = 0; bucket < FINE_BUCKETS + COARSE_BUCKETS; bucket++) {
        below += latencies[bucket];
        if (below && (double)below >= share * (double)total) {
            int64_t bound = bucket < FINE_BUCKETS ? (int64_t)(bucket + 1) * FINE_US
                                                  : FINE_US * FINE_BUCKETS +
                                                        (int64_t)(bucket - FINE_BUCKETS + 1) * COARSE_US;
            return bound < greatest_us ? bound : greatest_us;
        }
    }
    return 0;
}

int64_t greatest_latency_us(void)
{
    return greatest_us;
}
