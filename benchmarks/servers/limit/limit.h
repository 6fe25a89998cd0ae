/* Shared by the parts of the limit server: types, state, and the functions of each part. */
#ifndef LIMIT_H
#define LIMIT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define CHANNEL_LENGTH 128 /* the limit of the v1 contract */
#define MAX_CLIENT_MESSAGE 65535
#define MAX_REQUEST 8192
#define LENGTH(literal) (sizeof(literal) - 1)

enum { TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };
enum { FIN = 0x80, RSV1 = 0x40, MASKED = 0x80 };
enum { PROTOCOL_ERROR = 1002, UNSUPPORTED = 1003, POLICY = 1008, TOO_BIG = 1009 };

struct text {
    const char *at;
    size_t length;
};

struct buffer {
    char *bytes;
    size_t length, capacity;
};

/* A text being read: JSON, or a reply of Redis. */
struct json {
    const char *at, *end;
};

/* A member of a table. The name is the text of a channel, or the addresses of a cohort's subscriptions. */
struct named {
    struct named *next;
    uint64_t hash;
    size_t length;
    char *name;
};

#define BUCKETS 16384

struct table {
    struct named *buckets[BUCKETS];
};

/* A channel as clients name it, with or without wildcards. Never freed: there is one per text that was asked for. */
struct subscription {
    struct named named;
    struct cohort **cohorts;
    uint32_t count, capacity;
};

/* The clients whose subscriptions are the same set. */
struct cohort {
    struct named named;
    struct subscription **subscriptions; /* sorted by address; the name of the cohort */
    uint32_t subscription_count;
    struct client **clients;
    uint32_t count, capacity;
    uint32_t deflating;  /* how many of the clients take compressed frames */
    uint64_t last_event; /* the last event given to it: two matching subscriptions deliver once */
    struct buffer batch; /* the frames to send */
    struct cohort *due;  /* the next cohort with frames to send */
};

/* A source channel that has had an event: the parts that all its events share. */
struct source {
    struct named named;
    bool valid;
    struct text head; /* of the envelope, up to the timestamp */
    struct subscription *matching[4];
};

struct client {
    int fd; /* -1 once dropped */
    bool open, deflating;
    struct cohort *cohort; /* NULL while it has no subscription */
    uint32_t place;        /* its index there */
    struct buffer unread;  /* the beginning of a request or frame whose rest has not arrived */
    struct buffer unsent;
    size_t sent; /* bytes of `unsent` that the kernel has taken */
    time_t stuck_since;
    struct client *lagging_before, *lagging_after;
    struct client *dropped;
};

struct options {
    uint16_t port, redis_port;
    struct in_addr redis_host;
    char prefix[64], pattern[72]; /* of the source channels */
    const char *key;
    int send_buffer;
    bool joined, compression;
};

extern struct options options;
extern struct client *lagging;     /* the first of the clients with unsent bytes */
extern uint32_t deflating_clients; /* how many clients take compressed frames */
extern int poller, redis;

/* memory.c */
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void *resize(void *memory, size_t size);
void *allocate(size_t size);
char *reserve(struct buffer *buffer, size_t more);
void append(struct buffer *buffer, const void *bytes, size_t length);
void release(struct buffer *buffer);
bool equal(struct text text, const char *literal);
time_t now_seconds(void);

/* tables.c */
void *find_or_add(struct table *table, const void *name, size_t length, size_t size);
void take_out(struct table *table, struct named *named);
struct subscription *find_subscription(const char *channel, size_t length);

/* cohorts.c */
void join_cohort(struct client *client, struct subscription **set, uint32_t count);
void leave_cohort(struct client *client);

/* sending.c */
void drop(struct client *client);
void free_dropped(void);
void send_bytes(struct client *client, const char *bytes, size_t length);
void send_unsent(struct client *client);
void drop_stuck(void);
size_t put_head(char *at, int first, size_t length);
void send_frame(struct client *client, int opcode, const char *payload, size_t length);
void refuse(struct client *client, int code);
void send_to_cohort(struct cohort *cohort, struct text plain, struct text deflated);

/* compression.c */
void start_compression(void);
struct text deflate_frames(struct text frames);
size_t inflate_message(const char *bytes, size_t length, char *message, size_t room);

/* json.c */
bool take(struct json *json, char wanted);
bool take_string(struct json *json, struct text *text);
bool take_number(struct json *json, struct text *text);
bool skip_value(struct json *json, int depth);

/* candles.c */
struct text frame_candle(const struct source *source, struct text payload);

/* events.c */
bool split_channel(struct text channel, struct text *symbol, struct text *timeframe);
void take_event(struct text channel, struct text payload);
void flush(void);

/* redis.c */
void subscribe_to_redis(void);
bool read_redis(void);

/* dialogue.c */
size_t take_frame(struct client *client, char *bytes, size_t available);

/* handshake.c */
size_t take_request(struct client *client, char *bytes, size_t available);

/* connections.c */
uint16_t open_port(void);
void prepare_connections(void);
void run(void);

#endif
