/* Shared by the parts of the load generator: types, state, and the functions of each part. */
#ifndef LOAD_H
#define LOAD_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LENGTH(literal) (sizeof(literal) - 1)

struct text {
    char *bytes;
    size_t length;
};

/* The subscriptions of some of the clients, and the channels that they match. */
struct set {
    struct text *requests; /* the subscribe messages */
    uint32_t request_count;
    uint32_t *channels; /* ascending */
    uint32_t size;
    uint32_t readers; /* clients with this set that read */
};

enum state { IDLE, SHAKING, SUBSCRIBING, READY, CLOSING };

struct client {
    int fd; /* -1 while not connected */
    enum state state;
    bool deaf;
    uint32_t replies; /* subscribe messages answered */
    const struct set *set;
    uint32_t next;     /* the event that must arrive next */
    uint32_t position; /* of its channel in the set */
    uint32_t *missing; /* events that should have preceded one that arrived, ascending */
    uint32_t missing_count;
    uint32_t missing_capacity;
    uint8_t *tail; /* the beginning of a frame (or of the server's handshake) whose rest has not arrived */
    size_t tail_length;
    size_t tail_capacity;
    struct inflation *inflation; /* NULL without permessage-deflate */
};

enum dialect { PLAIN, SOCKET_IO };

struct options {
    uint16_t port;
    uint32_t clients;
    uint32_t deaf;
    int timeout_seconds;
    const char *channels_file;
    const char *sets_file;
    enum dialect dialect;
    bool deflate;
};

/* Deliveries since the start, and the faults among them. */
struct counts {
    uint64_t received, duplicated, misordered, altered, foreign, closed, protocol_errors, deflated;
    int close_code; /* of the first client that was closed with a code */
};

/* Deliveries since `measure`. */
struct measured {
    uint64_t deliveries, compressed, wire_bytes;
};

extern struct options options;
extern struct counts counts;
extern struct measured measured;
extern struct client *clients;

/* main.c */
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *allocate(size_t count, size_t size);
void *enlarge(void *memory, size_t size);

/* events.c */
void read_channels(void);
void read_sets(void);
const struct set *set_of(uint32_t client);
uint64_t deliveries_due(uint32_t events);
bool take_event(struct client *client, const char *text, size_t length, size_t wire_bytes);
void note_time(void);
void forget_latencies(void);
int64_t latency_us(double share);
int64_t greatest_latency_us(void);

/* connection.c */
void prepare_connections(int poller);
void open_up_to(uint32_t target);
bool all_open(uint32_t *number, double *seconds);
void close_all(void);
bool all_closed(void);
void read_client(struct client *client);

/* deflate.c */
#ifdef WITH_DEFLATE
struct inflation *agree_on_deflate(const char *answer);
bool inflate_message(struct inflation *inflation, const uint8_t *bytes, size_t length, const char **text,
                     size_t *text_length);
void end_inflation(struct inflation *inflation);
#endif

#endif
