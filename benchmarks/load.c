/* The load generator: many WebSocket clients in one epoll loop, every delivery checked against what was published.
 *
 * Event number e (from 0) is a candle on channel e modulo the number of channels, and carries e as its `volume` and
 * the epoch millisecond of its publication as its `timestamp`. So a frame tells which event it is, and which channel
 * it must name. Server frames are parsed as they come, in pieces of any size.
 *
 * Key: environment variable TORNADO_BRIDGE_API_KEY.
 * stdin, one command a line:
 *   measure    forget the latencies and the own processor time so far
 *   expect E   answer `received E` once every client has the events 0 to E - 1
 *   (the end)  wait LINGER_MS for strays, report, exit
 * stdout, one line each: `ready` (every client is subscribed), `sample TEXT` (the first client's event 0),
 * `received E`, and at the end `report {JSON}`.
 * Exit status: 0 with a report, 1 without one (the reason on stderr).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHANNELS_A_MESSAGE 20 /* PROTOCOL.md section 2 */
#define CHANNEL_LENGTH 128    /* likewise */
#define MAX_CHANNELS 10000
#define MAX_FRAME (1 << 20)
#define READ_SIZE (256 * 1024)
#define LATENCY_MS 60000 /* longer ones count as this */
#define LINGER_MS 100
#define HANDSHAKE_SECONDS 10
#define STDIN UINT32_MAX

#define CANDLE_HEAD "{\"type\":\"candle_close\",\"channel\":\""
#define CANDLE_DATA "\",\"data\":{\"timestamp\":\""
#define CANDLE_VOLUME "\"volume\":\""
#define CANDLE_END "\"}}"
#define SUBSCRIBED "{\"type\":\"subscribed\","
#define ERROR "{\"type\":\"error\","
#define LENGTH(literal) (sizeof(literal) - 1)

/* RFC 6455 section 1.3: the key of its example and the accept value that belongs to it. */
#define WEBSOCKET_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define WEBSOCKET_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

enum { CONTINUATION = 0, TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };

struct client {
    int fd;            /* -1 once closed */
    uint32_t replies;  /* subscribe messages answered */
    uint32_t next;     /* one more than the highest event seen */
    uint8_t *seen;     /* a bit an event */
    uint8_t *tail;     /* the beginning of a frame whose rest has not come */
    size_t tail_length;
    size_t tail_capacity;
};

struct message {
    char *text;
    size_t length;
};

static struct {
    uint16_t port;
    uint32_t clients;
    uint32_t max_events;
    int timeout_seconds;
    const char *channels_file;
} options;

static struct {
    uint64_t received, duplicated, misordered, foreign, closed, protocol_errors;
    int close_code; /* of the first client that was closed with one */
} counts;

static struct client *clients;
static struct message *channels;
static uint32_t channel_count;
static struct message *requests; /* the subscribe messages */
static uint32_t request_count;
static uint32_t clients_ready;
static uint32_t expected_events;
static bool expect_pending;
static uint64_t latencies[LATENCY_MS + 1];
static struct rusage usage_before;
static int64_t now_ms; /* epoch, when the bytes in hand were read */
static uint8_t *space; /* MAX_FRAME for an incomplete frame, then READ_SIZE */
static int poller;

static void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        die("out of memory");
    return memory;
}

static int64_t clock_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    fflush(stdout);
}

/* --- what is asked for ----------------------------------------------------------------------------------------- */

static void read_channels(void)
{
    FILE *file = fopen(options.channels_file, "r");
    if (!file)
        die("%s: %s", options.channels_file, strerror(errno));
    channels = allocate(MAX_CHANNELS, sizeof *channels);
    char line[CHANNEL_LENGTH + 2];
    while (fgets(line, sizeof line, file)) {
        size_t length = strcspn(line, "\n");
        if (!length || line[length] != '\n' || channel_count == MAX_CHANNELS)
            die("%s: line %u is no channel, or one too many", options.channels_file, channel_count + 1);
        channels[channel_count].text = strndup(line, length);
        channels[channel_count++].length = length;
    }
    fclose(file);
    if (!channel_count)
        die("%s: no channels", options.channels_file);
}

static void make_requests(void)
{
    request_count = (channel_count + CHANNELS_A_MESSAGE - 1) / CHANNELS_A_MESSAGE;
    requests = allocate(request_count, sizeof *requests);
    for (uint32_t i = 0; i < request_count; i++) {
        FILE *text = open_memstream(&requests[i].text, &requests[i].length);
        if (!text)
            die("out of memory");
        fputs("{\"action\":\"subscribe\",\"channels\":[", text);
        uint32_t first = i * CHANNELS_A_MESSAGE;
        for (uint32_t c = first; c < channel_count && c < first + CHANNELS_A_MESSAGE; c++)
            fprintf(text, "%s\"%s\"", c == first ? "" : ",", channels[c].text);
        fputs("]}", text);
        fclose(text);
    }
}

/* --- sending --------------------------------------------------------------------------------------------------- */

static bool send_frame(int fd, int opcode, const void *payload, size_t length)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    uint8_t frame[8 + 65535];
    size_t head = 2;
    frame[0] = (uint8_t)(0x80 | opcode);
    if (length < 126) {
        frame[1] = (uint8_t)(0x80 | length);
    } else if (length <= 65535) {
        frame[1] = 0x80 | 126;
        frame[2] = (uint8_t)(length >> 8);
        frame[3] = (uint8_t)length;
        head = 4;
    } else {
        return false;
    }
    memcpy(frame + head, mask, sizeof mask);
    head += sizeof mask;
    for (size_t i = 0; i < length; i++)
        frame[head + i] = ((const uint8_t *)payload)[i] ^ mask[i & 3];
    return send(fd, frame, head + length, MSG_NOSIGNAL) == (ssize_t)(head + length);
}

static void drop(struct client *client)
{
    close(client->fd);
    client->fd = -1;
    counts.closed++;
}

/* --- receiving ------------------------------------------------------------------------------------------------- */

/* The epoch milliseconds of `YYYY-MM-DDThh:mm:ss.mmmZ`; the minute before is remembered. */
static int64_t epoch_ms(const char *text)
{
    static char known[16];
    static int64_t base;
    if (memcmp(text, known, sizeof known) != 0) {
        struct tm minute = {0};
        if (!strptime(text, "%Y-%m-%dT%H:%M", &minute))
            return -1;
        base = (int64_t)timegm(&minute) * 1000;
        memcpy(known, text, sizeof known);
    }
    return base + (text[17] - '0') * 10000 + (text[18] - '0') * 1000 + (text[20] - '0') * 100 +
           (text[21] - '0') * 10 + (text[22] - '0');
}

/* Whether the text is a candle of this benchmark; then which event, and where its timestamp stands. */
static bool read_candle(const char *text, size_t length, uint32_t *event, const char **timestamp)
{
    const size_t least = LENGTH(CANDLE_HEAD) + LENGTH(CANDLE_DATA) + LENGTH("YYYY-MM-DDThh:mm:ss.mmmZ") +
                         LENGTH(CANDLE_VOLUME) + 1 + LENGTH(CANDLE_END);
    if (length < least || memcmp(text + length - LENGTH(CANDLE_END), CANDLE_END, LENGTH(CANDLE_END)) != 0)
        return false;
    const char *end = text + length - LENGTH(CANDLE_END);
    const char *digits = end;
    while (end - digits < 9 && digits[-1] >= '0' && digits[-1] <= '9')
        digits--;
    if (digits == end || memcmp(digits - LENGTH(CANDLE_VOLUME), CANDLE_VOLUME, LENGTH(CANDLE_VOLUME)) != 0)
        return false;
    uint32_t number = 0;
    for (const char *digit = digits; digit < end; digit++)
        number = number * 10 + (uint32_t)(*digit - '0');
    const struct message *channel = &channels[number % channel_count];
    if (number >= options.max_events || length < least + channel->length)
        return false;
    const char *at = text + LENGTH(CANDLE_HEAD);
    if (memcmp(text, CANDLE_HEAD, LENGTH(CANDLE_HEAD)) != 0 || memcmp(at, channel->text, channel->length) != 0)
        return false;
    at += channel->length;
    if (memcmp(at, CANDLE_DATA, LENGTH(CANDLE_DATA)) != 0)
        return false;
    *event = number;
    *timestamp = at + LENGTH(CANDLE_DATA);
    return true;
}

static void count_delivery(struct client *client, uint32_t event, const char *timestamp)
{
    uint8_t bit = (uint8_t)(1 << (event & 7));
    if (client->seen[event >> 3] & bit) {
        counts.duplicated++;
        return;
    }
    client->seen[event >> 3] |= bit;
    counts.received++;
    if (event < client->next)
        counts.misordered++;
    else
        client->next = event + 1;
    int64_t latency = now_ms - epoch_ms(timestamp);
    latencies[latency < 0 ? 0 : latency > LATENCY_MS ? LATENCY_MS : latency]++;
}

static void take_text(struct client *client, const char *text, size_t length)
{
    uint32_t event;
    const char *timestamp;
    if (read_candle(text, length, &event, &timestamp)) {
        if (client == clients && event == 0)
            say("sample %.*s\n", (int)length, text);
        count_delivery(client, event, timestamp);
        return;
    }
    if (client->replies < request_count && length > LENGTH(SUBSCRIBED) &&
        memcmp(text, SUBSCRIBED, LENGTH(SUBSCRIBED)) == 0) {
        const struct message *request = &requests[client->replies];
        size_t same = request->length - LENGTH("{\"action\":\"subscribe\",");
        if (length != LENGTH(SUBSCRIBED) + same ||
            memcmp(text + LENGTH(SUBSCRIBED), request->text + request->length - same, same) != 0)
            die("not all channels were granted: %.*s", (int)length, text);
        if (++client->replies == request_count)
            clients_ready++;
        return;
    }
    if (length > LENGTH(ERROR) && memcmp(text, ERROR, LENGTH(ERROR)) == 0)
        die("refused: %.*s", (int)length, text);
    counts.foreign++;
}

/* Takes one frame; returns its length, or 0 if it is not all there (or the client is gone). */
static size_t take_frame(struct client *client, const uint8_t *bytes, size_t available)
{
    if (available < 2)
        return 0;
    size_t head = 2;
    uint64_t length = bytes[1] & 0x7f;
    if (length == 126) {
        head = 4;
        if (available < head)
            return 0;
        length = (uint64_t)bytes[2] << 8 | bytes[3];
    } else if (length == 127) {
        head = 10;
        if (available < head)
            return 0;
        length = 0;
        for (int i = 2; i < 10; i++)
            length = length << 8 | bytes[i];
    }
    int opcode = bytes[0] & 0x0f;
    bool whole = (bytes[0] & 0xf0) == 0x80; /* FIN, and no reserved bit */
    if (!whole || (bytes[1] & 0x80) || length > MAX_FRAME - 10) {
        counts.protocol_errors++;
        drop(client);
        return 0;
    }
    if (available < head + length)
        return 0;
    const uint8_t *payload = bytes + head;
    if (opcode == TEXT) {
        take_text(client, (const char *)payload, length);
    } else if (opcode == PING) {
        if (!send_frame(client->fd, PONG, payload, length))
            drop(client);
    } else if (opcode == CLOSE) {
        if (!counts.close_code && length >= 2)
            counts.close_code = payload[0] << 8 | payload[1];
        drop(client);
    } else if (opcode != PONG) {
        counts.protocol_errors++;
        drop(client);
    }
    return client->fd < 0 ? 0 : head + length;
}

static void keep_tail(struct client *client, const uint8_t *bytes, size_t length)
{
    if (length > client->tail_capacity) {
        client->tail = realloc(client->tail, length);
        if (!client->tail)
            die("out of memory");
        client->tail_capacity = length;
    }
    if (length)
        memcpy(client->tail, bytes, length);
    client->tail_length = length;
}

/* Takes the frames of what is kept and of the `fresh` bytes at space + MAX_FRAME. */
static void take_bytes(struct client *client, size_t fresh)
{
    uint8_t *at = space + MAX_FRAME - client->tail_length;
    if (client->tail_length)
        memcpy(at, client->tail, client->tail_length);
    size_t left = client->tail_length + fresh, taken;
    while ((taken = take_frame(client, at, left)) > 0) {
        at += taken;
        left -= taken;
    }
    if (client->fd >= 0)
        keep_tail(client, at, left);
}

static void read_client(struct client *client)
{
    if (client->fd < 0) /* dropped earlier in the same batch of events */
        return;
    ssize_t fresh = recv(client->fd, space + MAX_FRAME, READ_SIZE, MSG_DONTWAIT);
    if (fresh > 0) {
        now_ms = clock_ms(CLOCK_REALTIME);
        take_bytes(client, (size_t)fresh);
    } else if (fresh == 0 || (errno != EAGAIN && errno != EINTR)) {
        drop(client);
    }
}

/* --- opening --------------------------------------------------------------------------------------------------- */

static int connect_client(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket: %s", strerror(errno));
    struct timeval patience = {.tv_sec = HANDSHAKE_SECONDS};
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(options.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        die("connect: %s", strerror(errno));
    return fd;
}

/* Upgrades; what the server sent behind its answer is taken as frames. */
static void shake_hands(struct client *client, const char *request)
{
    if (send(client->fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request))
        die("handshake: %s", strerror(errno));
    char *answer = (char *)space + MAX_FRAME, *end = NULL;
    size_t length = 0;
    while (!end) {
        ssize_t fresh = length < 8192 ? recv(client->fd, answer + length, 8192 - length, 0) : 0;
        if (fresh <= 0)
            die("handshake: no whole answer");
        length += (size_t)fresh;
        answer[length] = '\0';
        end = strstr(answer, "\r\n\r\n");
    }
    end += 4;
    char first = *end;
    *end = '\0';
    if (strncmp(answer, "HTTP/1.1 101 ", 13) != 0 || !strstr(answer, WEBSOCKET_ACCEPT))
        die("handshake refused: %.*s", (int)strcspn(answer, "\r\n"), answer);
    *end = first;
    size_t rest = length - (size_t)(end - answer);
    memmove(answer, end, rest);
    take_bytes(client, rest);
}

static void open_clients(void)
{
    const char *key = getenv("TORNADO_BRIDGE_API_KEY");
    if (!key)
        die("TORNADO_BRIDGE_API_KEY is not set");
    char *upgrade;
    if (asprintf(&upgrade,
                 "GET /public/v1/stream HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\n"
                 "Connection: Upgrade\r\nSec-WebSocket-Key: " WEBSOCKET_KEY "\r\nSec-WebSocket-Version: 13\r\n"
                 "X-API-Key: %s\r\n\r\n",
                 options.port, key) < 0)
        die("out of memory");
    clients = allocate(options.clients, sizeof *clients);
    for (uint32_t i = 0; i < options.clients; i++) {
        struct client *client = &clients[i];
        client->seen = allocate(options.max_events / 8 + 1, 1);
        client->fd = connect_client();
        shake_hands(client, upgrade);
        for (uint32_t r = 0; r < request_count && client->fd >= 0; r++)
            if (!send_frame(client->fd, TEXT, requests[r].text, requests[r].length))
                die("subscribe: %s", strerror(errno));
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        if (client->fd >= 0 && epoll_ctl(poller, EPOLL_CTL_ADD, client->fd, &event) != 0)
            die("epoll_ctl: %s", strerror(errno));
    }
    free(upgrade);
}

/* --- commands and the report ----------------------------------------------------------------------------------- */

static void obey(const char *command)
{
    unsigned events;
    if (strcmp(command, "measure") == 0) {
        memset(latencies, 0, sizeof latencies);
        getrusage(RUSAGE_SELF, &usage_before);
    } else if (sscanf(command, "expect %u", &events) == 1 && events <= options.max_events) {
        expected_events = events;
        expect_pending = true;
    } else {
        die("no command: %s", command);
    }
}

/* Whether stdin is still open. */
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

static uint64_t expected_deliveries(void)
{
    return (uint64_t)expected_events * options.clients;
}

static double seconds(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

/* The least number of milliseconds that the given share of the latencies does not exceed. */
static int percentile(double share)
{
    uint64_t total = 0, below = 0;
    for (int ms = 0; ms <= LATENCY_MS; ms++)
        total += latencies[ms];
    for (int ms = 0; ms <= LATENCY_MS; ms++) {
        below += latencies[ms];
        if (below && (double)below >= share * (double)total)
            return ms;
    }
    return 0;
}

static void report(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime) - seconds(usage_before.ru_utime) -
                 seconds(usage_before.ru_stime);
    uint64_t due = expected_deliveries();
    say("report {\"deliveries\":%llu,\"lost\":%llu,\"duplicated\":%llu,\"misordered\":%llu,\"foreign\":%llu,"
        "\"closed\":%llu,\"close_code\":%d,\"protocol_errors\":%llu,\"cpu_seconds\":%.6f,"
        "\"p50_ms\":%d,\"p99_ms\":%d,\"max_ms\":%d}\n",
        (unsigned long long)counts.received, (unsigned long long)(due > counts.received ? due - counts.received : 0),
        (unsigned long long)counts.duplicated, (unsigned long long)counts.misordered,
        (unsigned long long)counts.foreign, (unsigned long long)counts.closed, counts.close_code,
        (unsigned long long)counts.protocol_errors, cpu, percentile(0.5), percentile(0.99), percentile(1.0));
}

static void run(void)
{
    const int64_t deadline = clock_ms(CLOCK_MONOTONIC) + (int64_t)options.timeout_seconds * 1000;
    int64_t end = deadline;
    bool ready = false, commanded = true;
    while (true) {
        int64_t left = end - clock_ms(CLOCK_MONOTONIC);
        if (left <= 0)
            break;
        struct epoll_event events[512];
        int count = epoll_wait(poller, events, 512, (int)left);
        if (count < 0 && errno != EINTR)
            die("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < count; i++) {
            if (events[i].data.u32 != STDIN) {
                read_client(&clients[events[i].data.u32]);
            } else if (commanded && !(commanded = read_commands())) {
                epoll_ctl(poller, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
                end = clock_ms(CLOCK_MONOTONIC) + LINGER_MS;
                end = end < deadline ? end : deadline;
            }
        }
        if (!ready && clients_ready == options.clients) {
            ready = true;
            say("ready\n");
        }
        if (!ready && counts.closed)
            die("a client was closed before all were subscribed, code %d", counts.close_code);
        if (expect_pending && counts.received >= expected_deliveries()) {
            expect_pending = false;
            say("received %u\n", expected_events);
        }
    }
    if (!ready)
        die("%u of %u clients were subscribed in time", clients_ready, options.clients);
}

static long number(const char *text, long least, long most)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || end == text || value < least || value > most)
        die("%s: not a number from %ld to %ld", text, least, most);
    return value;
}

static void read_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"port", required_argument, NULL, 'p'},       {"clients", required_argument, NULL, 'c'},
        {"channels", required_argument, NULL, 'f'},   {"max-events", required_argument, NULL, 'e'},
        {"timeout", required_argument, NULL, 't'},    {NULL, 0, NULL, 0},
    };
    int name;
    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (name) {
        case 'p': options.port = (uint16_t)number(optarg, 1, 65535); break;
        case 'c': options.clients = (uint32_t)number(optarg, 1, 1000000); break;
        case 'f': options.channels_file = optarg; break;
        case 'e': options.max_events = (uint32_t)number(optarg, 1, 100000000); break;
        case 't': options.timeout_seconds = (int)number(optarg, 1, 86400); break;
        default: exit(1);
        }
    }
    if (!options.port || !options.clients || !options.channels_file || !options.max_events || !options.timeout_seconds)
        die("wanted: --port P --clients N --channels FILE --max-events E --timeout SECONDS");
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    read_channels();
    make_requests();
    space = allocate(MAX_FRAME + READ_SIZE + 1, 1);
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = STDIN};
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event) != 0)
        die("epoll: %s (stdin must be a pipe)", strerror(errno));
    open_clients();
    run();
    report();
    return 0;
}
