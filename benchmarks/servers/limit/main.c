/* The limit server: plain C and little more than the socket calls, as the lower bound for all other servers.
 *
 * It has one thread and one epoll loop. Each event of Redis is parsed once and framed once. Clients with equal
 * subscriptions are a cohort and share the bytes.
 *   --mode joined   one send per client for all that one read of Redis brought (the limit for bursts)
 *   --mode single   one send per client and event (the limit for lone events)
 * It speaks as much of the v1 contract as the benchmarks use: candles, one key (environment variable
 * TORNADO_BRIDGE_API_KEY), subscribe and unsubscribe. It refuses fragmented client messages and sends no pings.
 * stdout: `listening on http://127.0.0.1:PORT`, once the port is open and Redis has confirmed the subscription.
 * Exit status: 1 with the reason on stderr. It runs until a signal ends it or Redis is gone.
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "limit.h"

struct options options;

static long number(const char *text, long least, long most)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || end == text || value < least || value > most)
        die("%s: not a number from %ld to %ld", text, least, most);
    return value;
}

static void read_redis_url(const char *url)
{
    char host[64], database[8];
    unsigned port;
    if (sscanf(url, "redis://%63[0-9.]:%u/%7s", host, &port, database) < 2 || port > 65535 ||
        inet_pton(AF_INET, host, &options.redis_host) != 1)
        die("%s: not of the form redis://IPV4:PORT/0", url);
    options.redis_port = (uint16_t)port;
}

static void read_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"port", required_argument, NULL, 'p'},       {"redis-url", required_argument, NULL, 'r'},
        {"exchange", required_argument, NULL, 'e'},   {"mode", required_argument, NULL, 'm'},
        {"compression", no_argument, NULL, 'c'},      {"send-buffer", required_argument, NULL, 's'},
        {NULL, 0, NULL, 0},
    };
    int name;
    const char *mode = "";
    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (name) {
        case 'p': options.port = (uint16_t)number(optarg, 0, 65535); break;
        case 'r': read_redis_url(optarg); break;
        case 'e':
            snprintf(options.prefix, sizeof options.prefix, "channel:exchange:%.*s:candle:close:",
                     (int)strcspn(optarg, ":"), optarg);
            break;
        case 'm': mode = optarg; break;
        case 'c': options.compression = true; break;
        case 's': options.send_buffer = (int)number(optarg, 1, 1 << 30); break;
        default: exit(1);
        }
    }
    options.joined = strcmp(mode, "joined") == 0;
    options.key = getenv("TORNADO_BRIDGE_API_KEY");
    if (!options.redis_port || !options.prefix[0] || (!options.joined && strcmp(mode, "single") != 0))
        die("usage: --mode joined|single --redis-url URL --exchange ID:NAME [--port P] [--compression] "
            "[--send-buffer BYTES]");
    if (!options.key)
        die("TORNADO_BRIDGE_API_KEY is not set");
    snprintf(options.pattern, sizeof options.pattern, "%s*:*", options.prefix);
}

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    raise_file_limit();
    if (options.compression)
        start_compression();
    uint16_t port = open_port();
    subscribe_to_redis();
    while (!read_redis())
        ;
    prepare_connections();
    printf("listening on http://127.0.0.1:%u\n", port);
    fflush(stdout);
    run();
}
