/* The load generator: many WebSocket clients in one epoll loop, every delivery checked against the published event.
 *
 * Key: environment variable TORNADO_BRIDGE_API_KEY.
 * stdin, one command per line:
 *   open N     open clients up to N and subscribe them; answered by `opened N SECONDS`
 *   close      close all clients; answered by `closed all`
 *   measure    forget the latencies and bytes so far
 *   expect E   answered by `received E` once every client that reads has its share of the events 0 to E - 1
 *   (the end)  wait LINGER_MS for late deliveries, report, exit
 * stdout, one per line: the answers, `sample TEXT` (the first event that arrived), `closed` (once, when the server has
 * closed a client), and at the end `report {JSON}`.
 * Exit status: 0 with a report, 1 without one, with the reason on stderr.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define LINGER_MS 100
#define MAX_CLIENTS 100000
#define STDIN UINT32_MAX

struct options options;
struct counts counts;
struct measured measured;
struct client *clients;

static uint32_t expected_events;
static uint64_t expected_deliveries;
static bool expect_pending;

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    fflush(stdout);
}

void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        die("out of memory");
    return memory;
}

void *enlarge(void *memory, size_t size)
{
    memory = realloc(memory, size);
    if (!memory)
        die("out of memory");
    return memory;
}

static int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void obey(const char *command)
{
    unsigned number;
    if (sscanf(command, "open %u", &number) == 1 && number <= options.clients) {
        open_up_to(number);
    } else if (strcmp(command, "close") == 0) {
        close_all();
    } else if (strcmp(command, "measure") == 0) {
        forget_latencies();
        memset(&measured, 0, sizeof measured);
    } else if (sscanf(command, "expect %u", &number) == 1) {
        expected_events = number;
        expected_deliveries = deliveries_due(number);
        expect_pending = true;
    } else {
        die("unknown command: %s", command);
    }
}

/* Obeys the commands that have arrived. Returns false at the end of stdin. */
static bool read_commands(void)
{
    static char line[256];
    static size_t length;
    ssize_t fresh = read(STDIN_FILENO, line + length, sizeof line - 1 - length);
    if (fresh <= 0)
        return false;
    length += (size_t)fresh;
    line[length] = '\0';
    char *start = line, *end;
    while ((end = strchr(start, '\n'))) {
        *end = '\0';
        obey(start);
        start = end + 1;
    }
    length -= (size_t)(start - line);
    memmove(line, start, length);
    if (length == sizeof line - 1)
        die("command too long");
    return true;
}

static void answer(void)
{
    uint32_t number;
    double seconds;
    if (all_open(&number, &seconds))
        say("opened %u %.6f\n", number, seconds);
    if (all_closed())
        say("closed all\n");
    if (expect_pending && counts.received >= expected_deliveries) {
        expect_pending = false;
        say("received %u\n", expected_events);
    }
}

static void run(int poller)
{
    const int64_t deadline = monotonic_ms() + (int64_t)options.timeout_seconds * 1000;
    int64_t end = deadline, left;
    while ((left = end - monotonic_ms()) > 0) {
        struct epoll_event events[512];
        int count = epoll_wait(poller, events, 512, (int)left);
        if (count < 0 && errno != EINTR)
            die("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < count; i++) {
            if (events[i].data.u32 != STDIN) {
                read_client(&clients[events[i].data.u32]);
            } else if (!read_commands()) {
                epoll_ctl(poller, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
                end = monotonic_ms() + LINGER_MS;
                end = end < deadline ? end : deadline;
            }
        }
        answer();
    }
}

static void report(void)
{
    uint64_t lost = expected_deliveries > counts.received ? expected_deliveries - counts.received : 0;
    say("report {\"deliveries\":%llu,\"lost\":%llu,\"duplicated\":%llu,\"misordered\":%llu,\"altered\":%llu,"
        "\"foreign\":%llu,\"closed\":%llu,\"close_code\":%d,\"protocol_errors\":%llu,\"deflated\":%llu,"
        "\"measured_deliveries\":%llu,\"compressed\":%llu,\"wire_bytes\":%llu,"
        "\"p50_us\":%lld,\"p99_us\":%lld,\"max_us\":%lld}\n",
        (unsigned long long)counts.received, (unsigned long long)lost, (unsigned long long)counts.duplicated,
        (unsigned long long)counts.misordered, (unsigned long long)counts.altered, (unsigned long long)counts.foreign,
        (unsigned long long)counts.closed, counts.close_code, (unsigned long long)counts.protocol_errors,
        (unsigned long long)counts.deflated, (unsigned long long)measured.deliveries,
        (unsigned long long)measured.compressed, (unsigned long long)measured.wire_bytes,
        (long long)latency_us(0.5), (long long)latency_us(0.99), (long long)greatest_latency_us());
}

static long number(const char *text, long least, long most)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || end == text || value < least || value > most)
        die("%s: not a number from %ld to %ld", text, least, most);
    return value;
}

static enum dialect dialect(const char *name)
{
    if (strcmp(name, "plain") == 0)
        return PLAIN;
    if (strcmp(name, "socketio") == 0)
        return SOCKET_IO;
    die("%s: unknown dialect", name);
}

static void read_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"port", required_argument, NULL, 'p'},     {"clients", required_argument, NULL, 'c'},
        {"deaf", required_argument, NULL, 'd'},     {"channels", required_argument, NULL, 'f'},
        {"sets", required_argument, NULL, 's'},     {"timeout", required_argument, NULL, 't'},
        {"dialect", required_argument, NULL, 'l'},  {"deflate", no_argument, NULL, 'z'},
        {NULL, 0, NULL, 0},
    };
    int name;
    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (name) {
        case 'p': options.port = (uint16_t)number(optarg, 1, 65535); break;
        case 'c': options.clients = (uint32_t)number(optarg, 1, MAX_CLIENTS); break;
        case 'd': options.deaf = (uint32_t)number(optarg, 0, MAX_CLIENTS); break;
        case 'f': options.channels_file = optarg; break;
        case 's': options.sets_file = optarg; break;
        case 't': options.timeout_seconds = (int)number(optarg, 1, 86400); break;
        case 'l': options.dialect = dialect(optarg); break;
        case 'z': options.deflate = true; break;
        default: exit(1);
        }
    }
    if (!options.port || !options.clients || !options.channels_file || !options.sets_file || !options.timeout_seconds)
        die("usage: --port P --clients N --channels FILE --sets FILE --timeout SECONDS");
#ifndef WITH_DEFLATE
    if (options.deflate)
        die("built without permessage-deflate");
#endif
}

/* Deaf clients are spread evenly over all clients. */
static void make_clients(void)
{
    clients = allocate(options.clients, sizeof *clients);
    for (uint64_t i = 0; i < options.clients; i++) {
        clients[i].fd = -1;
        clients[i].deaf = (i + 1) * options.deaf / options.clients != i * options.deaf / options.clients;
    }
    read_channels();
    read_sets();
    for (uint32_t i = 0; i < options.clients; i++)
        clients[i].set = set_of(i);
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    make_clients();
    int poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = STDIN};
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event) != 0)
        die("epoll: %s (stdin must be a pipe)", strerror(errno));
    prepare_connections(poller);
    run(poller);
    report();
    return 0;
}
