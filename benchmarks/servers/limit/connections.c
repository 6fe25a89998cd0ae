/* Connections: they are accepted and read in one epoll loop. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "limit.h"

#define CLIENT_READ 65536

static char *client_space; /* MAX_REQUEST + MAX_CLIENT_MESSAGE for unread bytes, then CLIENT_READ */
static int listener = -1;

/* Listens on the loopback interface and returns the port. */
uint16_t open_port(void)
{
    const int on = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(options.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* On Linux accepted sockets inherit both options. */
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        (options.send_buffer && setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &options.send_buffer, sizeof(int)) != 0) ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, SOMAXCONN) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0)
        die("port %u: %s", options.port, strerror(errno));
    return ntohs(address.sin_port);
}

/* Makes the poller with Redis and the port in it, and the space for the bytes of clients. */
void prepare_connections(void)
{
    client_space = allocate(MAX_REQUEST + MAX_CLIENT_MESSAGE + CLIENT_READ + 1);
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event at_redis = {.events = EPOLLIN, .data.ptr = &redis};
    struct epoll_event at_listener = {.events = EPOLLIN, .data.ptr = &listener};
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, redis, &at_redis) != 0 ||
        epoll_ctl(poller, EPOLL_CTL_ADD, listener, &at_listener) != 0)
        die("epoll: %s", strerror(errno));
}

static void accept_clients(void)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *client = allocate(sizeof *client);
        client->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0)
            die("epoll_ctl: %s", strerror(errno));
    }
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
        die("accept: %s", strerror(errno));
}

static void read_client(struct client *client)
{
    const size_t before = client->unread.length;
    char *at = client_space + MAX_REQUEST + MAX_CLIENT_MESSAGE;
    ssize_t fresh = recv(client->fd, at, CLIENT_READ, MSG_DONTWAIT);
    if (fresh <= 0) {
        if (fresh == 0 || (errno != EAGAIN && errno != EINTR))
            drop(client);
        return;
    }
    if (before)
        memcpy(at -= before, client->unread.bytes, before);
    size_t left = before + (size_t)fresh, taken;
    release(&client->unread);
    while ((taken = client->open ? take_frame(client, at, left) : take_request(client, at, left)) > 0) {
        at += taken;
        left -= taken;
    }
    if (client->fd >= 0 && left)
        append(&client->unread, at, left);
}

void run(void)
{
    struct epoll_event events[512];
    while (true) {
        int count = epoll_wait(poller, events, 512, lagging ? 1000 : -1);
        if (count < 0 && errno != EINTR)
            die("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &redis) {
                read_redis();
                continue;
            }
            if (events[i].data.ptr == &listener) {
                accept_clients();
                continue;
            }
            struct client *client = events[i].data.ptr;
            if (client->fd >= 0 && client->unsent.length && (events[i].events & EPOLLOUT))
                send_unsent(client);
            if (client->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
                read_client(client);
        }
        if (lagging)
            drop_stuck();
        free_dropped();
    }
}
