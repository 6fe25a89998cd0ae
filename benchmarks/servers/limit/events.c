/* Events: each goes to the cohorts whose subscriptions match its channel. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "limit.h"

static struct table sources;
static struct cohort *due; /* the first of those with frames to send */
static uint64_t event_number;

/* Whether a channel is `candles:PART:PART` of printable characters without escapes in JSON. Then sets the parts. */
bool split_channel(struct text channel, struct text *symbol, struct text *timeframe)
{
    const size_t kind = LENGTH("candles:");
    if (channel.length > CHANNEL_LENGTH || channel.length < kind || memcmp(channel.at, "candles:", kind) != 0)
        return false;
    for (size_t i = 0; i < channel.length; i++)
        if (channel.at[i] <= ' ' || channel.at[i] > '~' || channel.at[i] == '"' || channel.at[i] == '\\')
            return false;
    symbol->at = channel.at + kind;
    const char *end = channel.at + channel.length, *colon = memchr(symbol->at, ':', (size_t)(end - symbol->at));
    if (!colon)
        return false;
    symbol->length = (size_t)(colon - symbol->at);
    timeframe->at = colon + 1;
    timeframe->length = (size_t)(end - timeframe->at);
    return symbol->length && timeframe->length && !memchr(timeframe->at, ':', timeframe->length);
}

static void open_source(struct source *source)
{
    struct text symbol, timeframe;
    char channel[CHANNEL_LENGTH + 1], wildcard[CHANNEL_LENGTH + 1];
    const size_t prefix = strlen(options.prefix);
    if (source->named.length < prefix || memcmp(source->named.name, options.prefix, prefix) != 0)
        return;
    int length = snprintf(channel, sizeof channel, "candles:%.*s", (int)(source->named.length - prefix),
                          source->named.name + prefix);
    if (!split_channel((struct text){channel, (size_t)length}, &symbol, &timeframe))
        return;
    source->matching[0] = find_subscription(channel, (size_t)length);
    length = snprintf(wildcard, sizeof wildcard, "candles:*:%s", timeframe.at);
    source->matching[1] = find_subscription(wildcard, (size_t)length);
    length = snprintf(wildcard, sizeof wildcard, "candles:%.*s:*", (int)symbol.length, symbol.at);
    source->matching[2] = find_subscription(wildcard, (size_t)length);
    source->matching[3] = find_subscription("candles:*:*", LENGTH("candles:*:*"));
    char *head;
    length = asprintf(&head, "{\"type\":\"candle_close\",\"channel\":\"%s\",\"data\":{\"timestamp\":\"", channel);
    if (length < 0)
        die("out of memory");
    source->head = (struct text){head, (size_t)length};
    source->valid = true;
}

/* Sends each cohort its frames. */
void flush(void)
{
    while (due) {
        struct cohort *cohort = due;
        due = cohort->due;
        struct text plain = {cohort->batch.bytes, cohort->batch.length};
        send_to_cohort(cohort, plain, cohort->deflating ? deflate_frames(plain) : plain);
        cohort->batch.length = 0;
    }
}

void take_event(struct text channel, struct text payload)
{
    struct source *source = find_or_add(&sources, channel.at, channel.length, sizeof *source);
    if (!source->valid)
        open_source(source);
    struct text frame = {0};
    if (source->valid)
        frame = frame_candle(source, payload);
    if (!frame.at) {
        fprintf(stderr, "limit: invalid candle on %.*s\n", (int)channel.length, channel.at);
        return;
    }
    struct text deflated = frame;
    if (!options.joined && deflating_clients)
        deflated = deflate_frames(frame);
    event_number++;
    for (int i = 0; i < 4; i++) {
        struct subscription *matching = source->matching[i];
        for (uint32_t c = 0; c < matching->count; c++) {
            struct cohort *cohort = matching->cohorts[c];
            if (cohort->last_event == event_number)
                continue;
            cohort->last_event = event_number;
            if (!options.joined) {
                send_to_cohort(cohort, frame, deflated);
                continue;
            }
            if (!cohort->batch.length) {
                cohort->due = due;
                due = cohort;
            }
            append(&cohort->batch, frame.at, frame.length);
        }
    }
}
